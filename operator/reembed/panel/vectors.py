"""Arithmetic on a few vectors without numpy, whose memory an agent has no room for: little-endian float32 bytes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from sys import byteorder


def numbers(vector: bytes) -> array[float]:
    found = array("f", vector)
    if byteorder == "big":
        found.byteswap()
    return found


def finite(vector: bytes) -> bool:
    """Return whether a vector has a direction and nothing but numbers."""
    squares = sum(one * one for one in numbers(vector))
    return math.isfinite(squares) and squares > 0


def cosine(one: bytes, other: bytes) -> float:
    """Return the cosine of two vectors, NaN if they have none."""
    first, second = numbers(one), numbers(other)
    if len(first) != len(second):
        return math.nan
    lengths = math.sqrt(_product(first, first) * _product(second, second))
    return _product(first, second) / lengths if lengths > 0 and math.isfinite(lengths) else math.nan


def nearest(vectors: Sequence[bytes], references: Sequence[bytes]) -> float:
    """Return the share of vectors that are nearest to the reference of their own place."""
    hits = 0
    for place, vector in enumerate(vectors):
        near = [cosine(vector, one) for one in references]
        hits += all(near[place] >= one for one in near)
    return hits / len(vectors) if vectors else 0.0


def _product(one: array[float], other: array[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
