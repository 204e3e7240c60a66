"""Seeds: owns how every random number of CLarity gets its seed, and nothing else.

A seed is a hash of the axes that the random draw may depend on, never a counter and never the
time, so that one cell computed alone draws the same numbers as in the whole grid.
"""

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Hash ``parts`` to a seed in [0, 2**32).

    The parts are the names of the draw and of the axes on which it may depend:
    ``derive_seed("encoder", dataset, seed)`` gives every loss the same initial encoder.
    The separator cannot occur in a name, so ("a", "bc") and ("ab", "c") differ.

    Raises:
        ValueError: if no part is given, which would seed everything alike.
    """
    if not parts:
        raise ValueError("derive_seed needs at least one part: the name of the draw")
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
