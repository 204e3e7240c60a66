"""Words: own how figures and the report write counts and ranges; load nothing."""

from collections.abc import Iterable


def span(values: Iterable[float], form: str = "{:g}") -> str:
    """Write one number if all ``values`` are the same, else "least to greatest"."""
    known = sorted(set(values))
    if not known:
        return "none"
    least, greatest = form.format(known[0]), form.format(known[-1])
    return least if least == greatest else f"{least} to {greatest}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun: "1 run", "3 runs"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
