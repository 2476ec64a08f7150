"""Requests in the engine process, and the texts of them that packs carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from reembed.embedder.llama import Ids, Tokens, Vectors
from reembed.embedder.messages import Done, Request


@dataclass(eq=False)
class Job:
    """A request on its way: its vectors come pack by pack, into one piece of memory that is sent as it is."""

    request: Request
    tokens: tuple[int, ...]
    cut: tuple[int, ...]
    vectors: Vectors
    arrived: float
    began: float = 0.0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.tokens)

    def done(self, now: float) -> Done:
        vectors = self.vectors.astype("<f4", copy=False).tobytes()
        return Done(self.request.id, vectors, self.tokens, self.cut, self.began - self.arrived, now - self.began)


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One text of a job; texts of one `key` are equal."""

    job: Job
    index: int
    ids: Ids
    key: bytes


def job(request: Request, read: Sequence[Tokens], dimensions: int, now: float) -> tuple[Job, list[Text]]:
    """Return a request whose texts were tokenized, and those texts."""
    cut = tuple(index for index, text in enumerate(read) if text.cut)
    tokens = tuple(len(text.ids) for text in read)
    made = Job(request, tokens, cut, np.empty((len(read), dimensions), np.float32), now)
    return made, [Text(made, index, text.ids, text.ids.tobytes()) for index, text in enumerate(read)]


def grouped(texts: Iterable[Text]) -> list[list[Text]]:
    """Return texts with those that are equal beside each other, in the order of the first of each."""
    found: dict[bytes, list[Text]] = {}
    for text in texts:
        found.setdefault(text.key, []).append(text)
    return list(found.values())
