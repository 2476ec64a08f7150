"""Sketches: a few bytes of a vector by which the cosine of two can be told closely when they are almost the same.

A vector is projected on 64 directions of random signs (Achlioptas, Database-friendly random projections, 2003). Equal
vectors have equal sketches, and 1 - cosine is kept within about a fifth (the square root of 2/64). They are made where
vectors are (`embedder.sketch`) and compared where no numpy is. Pure.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct

DIRECTIONS = 64
_SKETCH = struct.Struct(f"<{DIRECTIONS}e")


def cosine(one: str, other: str) -> float | None:
    """Return the smallest cosine of vectors by two sketches of as many; None if they cannot be compared."""
    first, second = _read(one), _read(other)
    if not first or len(first) != len(second):
        return None
    found = [_cosine(*pair) for pair in zip(first, second, strict=True)]
    return min(found) if all(map(math.isfinite, found)) else None


def _cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths > 0 else math.nan


def _read(text: str) -> list[tuple[float, ...]]:
    """Return a sketch's vectors, none if it is none."""
    try:
        return list(_SKETCH.iter_unpack(base64.b64decode(text, validate=True)))
    except (binascii.Error, ValueError, struct.error):
        return []
