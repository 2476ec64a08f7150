"""Sketches: a few bytes of a vector by which the cosine of two can be told closely when they are almost the same.

A vector is projected on 64 directions of random signs (Achlioptas, Database-friendly random projections, 2003). Equal
vectors have equal sketches, and 1 - cosine is kept within about a fifth (the square root of 2/64). The signs come from
SHA-256, so that they are the same in every version of everything. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

DIRECTIONS = 64


def sketch(vectors: npt.NDArray[np.float32]) -> str:
    """Return the sketch of vectors (count x dimensions), as base64 of little-endian float16.

    Raises:
        ValueError: one of them has no direction, or is not finite.

    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a vector is zero or not finite")
    projected = (vectors / lengths) @ _signs(vectors.shape[1])
    return base64.b64encode(projected.astype("<f2").tobytes()).decode()


def cosine(one: str, other: str) -> float | None:
    """Return the smallest cosine of vectors by two sketches of as many; None if they cannot be compared."""
    first, second = _read(one), _read(other)
    if first is None or second is None or first.shape != second.shape:
        return None
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return None
    return float(((first * second).sum(axis=1) / lengths).min())


def _read(text: str) -> npt.NDArray[np.float64] | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data or len(data) % (2 * DIRECTIONS):
        return None
    return np.frombuffer(data, "<f2").astype(np.float64).reshape(-1, DIRECTIONS)


@lru_cache(maxsize=4)
def _signs(dimensions: int) -> npt.NDArray[np.float64]:
    rows: Sequence[bytes] = [
        hashlib.sha256(b"reembed.sketch.%d" % row).digest()[: DIRECTIONS // 8] for row in range(dimensions)
    ]
    bits = np.unpackbits(np.frombuffer(b"".join(rows), np.uint8).reshape(dimensions, -1), axis=1)
    signs: npt.NDArray[np.float64] = (bits.astype(np.float64) * 2 - 1) / np.sqrt(DIRECTIONS)
    return signs
