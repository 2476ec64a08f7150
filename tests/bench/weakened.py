"""Real retrieval to judge with: a real model, weakened copies of it, and what each finds for 2,400 labelled queries.

Documents and queries are the demonstration's: functions of the standard library, and the first paragraph of each one's
docstring. A copy reads less of a document (its first 128, 64 or 32 tokens) or keeps less of a vector (its first 256 or
192 dimensions), so it is worse by a little and in the way in which models are. What each finds is kept in the cache;
the first run on a machine embeds for some minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo import models
from demo.corpus import Corpus, corpus
from hack.cache import CACHE, digest, entry, locked
from reembed.core.model import Model, Pooling
from reembed.embedder.llama import Context, Weights

PAIRS = 2_400
_TOKENS = 512  # of the model; its context
_CUTS = (128, 64, 32)
_DIMENSIONS = (256, 192)
_PACK = 512

Vectors = NDArray[np.float32]
Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """The place of each query's document among a model's answers; 0 is the first."""

    serving: Ranks
    candidates: dict[str, Ranks]  # by what was done to the model
    kinds: list[str]  # of each query: the part of the library that it asks about


def judged() -> Judged:
    """Return what the real model and its weakened copies find."""
    found = corpus(PAIRS)
    key = digest([found_text(found), json.dumps([models.SOURCES[0].package, models.SOURCES[1].package, _TOKENS, 1])])
    place = entry("bench", key, lambda directory: _make(directory, found))
    with np.load(place / "ranks.npz") as ranks:
        candidates = {name: ranks[name] for name in ranks.files if name != "serving"}
        return Judged(ranks["serving"], candidates, _kinds(found))


def found_text(found: Corpus) -> str:
    return json.dumps([(number, one.name, one.question, one.body) for number, one in found.documents])


def _kinds(found: Corpus) -> list[str]:
    """Return the standard library's package or module of each query: slices of very different sizes."""
    return [function.name.partition(".")[0] for _, function in found.documents]


def _make(directory: Path, found: Corpus) -> None:
    with locked("models"):
        models.build(CACHE / "models")
    questions = [function.question for _, function in found.documents]
    bodies = [function.body for _, function in found.documents]
    large, small = (_embedder(CACHE / "models" / source.file) for source in models.SOURCES)
    queries, documents = large(questions, _TOKENS), large(bodies, _TOKENS)
    ranks = {
        "serving": _ranks(queries, documents),
        "another model": _ranks(small(questions, _TOKENS), small(bodies, _TOKENS)),
    }
    for cut in _CUTS:
        ranks[f"documents of {cut} tokens"] = _ranks(queries, large(bodies, cut))
    for kept in _DIMENSIONS:
        ranks[f"vectors of {kept} dimensions"] = _ranks(_first(queries, kept), _first(documents, kept))
    np.savez(directory / "ranks.npz", **ranks)  # type: ignore[arg-type]


def _embedder(path: Path) -> Callable[[Sequence[str], int], Vectors]:
    weights = Weights(path, Model("file://", "", Pooling.MEAN, 384, _TOKENS))
    context = Context(weights, _PACK)
    tokenized: dict[str, tuple[int, ...]] = {}

    def embed(texts: Sequence[str], limit: int) -> Vectors:
        vectors = np.zeros((len(texts), 384), dtype=np.float32)
        for number, text in enumerate(texts):
            if text not in tokenized:
                tokenized[text] = weights.tokenize(text).ids
            ids = tokenized[text]
            # The token that closes a text stays, as it does in the embedder.
            cut = ids if len(ids) <= limit else (*ids[: limit - 1], ids[-1])
            (vector,) = context.embed([cut])
            vectors[number] = np.nan_to_num(vector)  # a text without a vector finds nothing
        return vectors

    return embed


def _first(vectors: Vectors, kept: int) -> Vectors:
    shortened = vectors[:, :kept]
    lengths: Vectors = np.linalg.norm(shortened, axis=1, keepdims=True)
    return shortened / lengths


def _ranks(queries: Vectors, documents: Vectors) -> Ranks:
    """Return how many documents are nearer to each query than its own."""
    scores = queries @ documents.T
    own = np.diagonal(scores)[:, None]
    nearer: Ranks = (scores > own).sum(axis=1)
    return nearer
