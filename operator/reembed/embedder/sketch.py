"""Makes the sketches that `core.sketch` compares. The signs come from SHA-256: they are the same in every version."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from reembed.core.sketch import DIRECTIONS


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


@lru_cache(maxsize=4)
def _signs(dimensions: int) -> npt.NDArray[np.float64]:
    rows = [hashlib.sha256(b"reembed.sketch.%d" % row).digest()[: DIRECTIONS // 8] for row in range(dimensions)]
    bits = np.unpackbits(np.frombuffer(b"".join(rows), np.uint8).reshape(dimensions, -1), axis=1)
    signs: npt.NDArray[np.float64] = (bits.astype(np.float64) * 2 - 1) / np.sqrt(DIRECTIONS)
    return signs
