"""Packing: owns how data lie in the page: compressed, as text, and only unpacked when looked at.

A browser reads a page of 20 MB of text in a moment, but not one of a million elements. `unpack.js`
is the other side.
"""

import base64
import gzip
import json
import math
from typing import Any

import numpy as np

#: Significant digits of a number in the page; the tables beside it have them all.
DIGITS = 6


def pack(data: bytes) -> str:
    """Return ``data`` compressed by gzip, as base64: the same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def pack_json(value: Any) -> str:
    """Return a JSON-able value without numbers that are not finite, packed.

    Raises:
        ValueError: if a number is not finite: no reader would take it.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return pack(text.encode())


def rounded(value: float) -> float | str | None:
    """Return a number with `DIGITS` significant digits; None if it is none.

    JSON has no infinity: it becomes the word that JavaScript's `Number` reads as such.
    """
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.{DIGITS}g}")


def listed(values: np.ndarray) -> list[Any]:
    """Return numbers as nested lists of `rounded` ones; whole numbers as they are."""
    if np.issubdtype(values.dtype, np.integer):
        return list(values.tolist())
    if values.ndim == 1:
        return [rounded(value) for value in values.tolist()]
    return [listed(part) for part in values]
