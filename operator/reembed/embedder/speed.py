"""`python -m reembed.embedder.speed JSON`: how two files of one model compare on this CPU, as one line of JSON.

A process of its own: llama.cpp aborts where it cannot go on, and what was loaded to be measured is given back.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import numpy as np

from reembed.core.model import Model, Pooling
from reembed.embedder import tiles
from reembed.embedder.llama import Context, Ids, Vectors, Weights, multiplies_bf16
from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS
from reembed.embedder.probes import PROBES
from reembed.embedder.weights import Measured

_ROUNDS = 7


def compare(as_file: Path, other: Path, model: Model, library: Path | None) -> Measured:
    """Measure in turns, since a shared machine is faster at one moment than at another; the other one with tiles.

    Raises:
        EngineError: one of the files cannot be loaded.

    """
    plain = _Side(as_file, model)  # made before the library is there, so it knows nothing of it
    used = library is not None and tiles.use(library)
    if not used and (other == as_file or not multiplies_bf16()):
        return Measured(0.0, 0.0)
    sides = [plain, _Side(other, model)]
    times = np.array([[side.seconds() for side in sides] for _ in range(_ROUNDS)])
    vectors = [side.probes() for side in sides]
    cosine = float(np.sum(vectors[0] * vectors[1], axis=1).min())
    first, second = times.min(axis=0)
    return Measured(float(first / second), cosine if np.isfinite(cosine) else 0.0, used)


class _Side:
    def __init__(self, path: Path, model: Model) -> None:
        self._weights = Weights(path, model)
        self._context = Context(self._weights, PACK_TOKENS)
        self._pack = _pack([self._weights.tokenize(text).ids for text in PROBES])
        self._context.embed(self._pack)  # the first call allocates

    def seconds(self) -> float:
        began = perf_counter()
        self._context.embed(self._pack)
        return perf_counter() - began

    def probes(self) -> Vectors:
        return np.concatenate([self._context.embed([self._weights.tokenize(text).ids]) for text in PROBES])


def _pack(texts: Sequence[Ids]) -> list[Ids]:
    """Return the texts, repeated until they fill a call."""
    pack: list[Ids] = []
    room = PACK_TOKENS
    for text in itertools.cycle(texts):
        room -= len(text)
        if room < 0 or len(pack) == PACK_TEXTS:
            return pack
        pack.append(text)
    return pack


if __name__ == "__main__":
    wish = json.loads(sys.argv[1])
    found = compare(
        Path(wish["as_file"]),
        Path(wish["other"]),
        Model("", "", Pooling(wish["pooling"]), wish["dimensions"], wish["max_tokens"]),
        Path(wish["tiles"]) if wish["tiles"] else None,
    )
    sys.stdout.write(json.dumps(asdict(found)))
