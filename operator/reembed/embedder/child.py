"""The child process: takes requests from a pipe, computes them in packs, answers over the pipe.

One thread reads and tokenizes, each context has a thread of its own that takes the next pack when it is free. The child
knows no HTTP and keeps nothing: if it dies, `embedder.process` answers for it and starts another.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from reembed.core.model import Model, Truncate
from reembed.embedder.llama import Context, EngineError, Weights
from reembed.embedder.packing import Item, Lanes

# A second live-only context would be idle nearly always.
_LIVE_ONLY = 1


@dataclass(frozen=True, slots=True)
class Request:
    """Texts with their prefixes, to be embedded together or not at all."""

    id: int
    texts: tuple[str, ...]
    background: bool
    tokens_only: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for a request any more."""

    id: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded; requests are taken."""


@dataclass(frozen=True, slots=True)
class Done:
    """A request's vectors (or none for tokens_only), its tokens by text, and which texts were cut."""

    id: int
    vectors: tuple[bytes, ...]
    tokens: tuple[int, ...]
    cut: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TooLong:
    """A text is longer than the model reads, and the pool refuses such."""

    id: int
    index: int
    limit: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The engine could not do a request (id), or start at all (id None)."""

    id: int | None
    message: str


Answer = Ready | Done | TooLong | Broken


@dataclass
class _Job:
    """A request on its way: its vectors come pack by pack."""

    request: Request
    tokens: tuple[int, ...]
    cut: tuple[int, ...]
    vectors: list[bytes | None]
    left: int = field(init=False)
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.left = len(self.vectors)


@dataclass(frozen=True, slots=True)
class _Text:
    """One text of a job, as packs carry it."""

    job: _Job
    index: int
    ids: tuple[int, ...]


def run(pipe: Connection, path: Path, model: Model, contexts: int) -> None:
    """Load the model and serve the pipe until its other end closes."""
    try:
        weights = Weights(path, model)
        made = [Context(weights) for _ in range(contexts + _LIVE_ONLY)]
    except EngineError as error:
        pipe.send(Broken(None, str(error)))
        return
    child = _Child(pipe, weights)
    for number, context in enumerate(made):
        thread = threading.Thread(target=child.compute, args=(context, number < _LIVE_ONLY), daemon=True)
        thread.start()
    pipe.send(Ready())
    child.read()


class _Child:
    def __init__(self, pipe: Connection, weights: Weights) -> None:
        self._pipe = pipe
        self._weights = weights
        self._lanes: Lanes[_Text] = Lanes()
        self._jobs: dict[int, _Job] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()

    def read(self) -> None:
        """Take requests until the parent is gone."""
        while True:
            try:
                message = self._pipe.recv()
            except EOFError:
                return
            if isinstance(message, Cancel):
                self._cancel(message.id)
            else:
                self._accept(message)

    def compute(self, context: Context, live_only: bool) -> None:  # noqa: FBT001 - a thread's target
        """Take packs for one context until the process ends."""
        while True:
            with self._changed:
                while not (pack := self._lanes.next_pack(live_only=live_only)):
                    self._changed.wait()
            texts = [item.work for item in pack if not item.work.job.cancelled]
            if texts:
                self._compute_pack(context, texts)

    def _accept(self, request: Request) -> None:
        try:
            read = [self._weights.tokenize(text) for text in request.texts]
        except EngineError as error:
            self._send(Broken(request.id, str(error)))
            return
        cut = tuple(index for index, text in enumerate(read) if text.cut)
        tokens = tuple(len(text.ids) for text in read)
        if cut and self._weights.model.truncate is Truncate.REFUSE and not request.tokens_only:
            self._send(TooLong(request.id, cut[0], self._weights.model.max_tokens))
            return
        if request.tokens_only:
            self._send(Done(request.id, (), tokens, cut))
            return
        job = _Job(request, tokens, cut, [None] * len(read))
        with self._changed:
            self._jobs[request.id] = job
            for index, text in enumerate(read):
                self._lanes.add(Item(len(text.ids), request.background, _Text(job, index, text.ids)))
            self._changed.notify_all()

    def _cancel(self, request: int) -> None:
        with self._changed:
            job = self._jobs.pop(request, None)
            if job is not None:
                job.cancelled = True

    def _compute_pack(self, context: Context, texts: Sequence[_Text]) -> None:
        try:
            vectors = context.embed([text.ids for text in texts])
        except EngineError as error:
            for job in {id(text.job): text.job for text in texts}.values():
                self._cancel(job.request.id)
                self._send(Broken(job.request.id, str(error)))
            return
        for text, vector in zip(texts, vectors, strict=True):
            self._store(text, vector)

    def _store(self, text: _Text, vector: bytes) -> None:
        job = text.job
        with self._changed:
            job.vectors[text.index] = vector
            job.left -= 1
            whole = job.left == 0 and not job.cancelled
            if whole:
                self._jobs.pop(job.request.id, None)
        if whole:
            vectors = tuple(one for one in job.vectors if one is not None)
            self._send(Done(job.request.id, vectors, job.tokens, job.cut))

    def _send(self, answer: Answer) -> None:
        with self._sending:
            self._pipe.send(answer)
