"""Shows that a loaded model can be served: its vectors are finite, and a text's does not depend on its neighbours.

A file may load without fault and hold damaged weights, or a model that reads across the texts of one call; its vectors
would find less, and nobody would notice. What depends on the pool's other pods or on reference vectors is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from reembed.embedder.llama import Ids, ModelUnusable, Tokens, Vectors
from reembed.embedder.packing import PACK_TOKENS
from reembed.embedder.probes import PROBES
from reembed.embedder.weights import MIN_COSINE

# Of a probe, so that all of them fit one call whatever the vocabulary makes of them.
_TOKENS = PACK_TOKENS // len(PROBES)


class Reader(Protocol):
    def tokenize(self, text: str) -> Tokens: ...


class Computer(Protocol):
    def embed(self, texts: Sequence[Ids]) -> Vectors: ...


def prove(reader: Reader, computers: Sequence[Computer]) -> float:
    """Return the smallest cosine of a probe's vector alone and beside the others, 1 for most models.

    Alone it is computed by the first of `computers`, which have the same model; beside the others by each of them.

    Raises:
        ModelUnusable: it is below 0.999, or a vector is not finite or zero.

    """
    # A vocabulary of another writing may know nothing of a probe.
    texts = [ids[:_TOKENS] for ids in (reader.tokenize(text).ids for text in PROBES) if len(ids)]
    alone = np.concatenate([computers[0].embed([text]) for text in texts])
    if not np.isfinite(alone).all():
        raise ModelUnusable("the model's vector of a short text is not finite, or zero: the file is damaged")
    cosine = float(np.min([np.sum(alone * computer.embed(texts), axis=1) for computer in computers]))
    if not cosine >= MIN_COSINE:
        raise ModelUnusable(
            f"a text's vector depends on the texts that are computed beside it (cosine {cosine:.4f}, at least "
            f"{MIN_COSINE} is needed): the file's attention or pooling is not what its header says; convert it again"
        )
    return cosine
