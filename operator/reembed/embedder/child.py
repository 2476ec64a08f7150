"""The engine process: takes requests from a pipe, computes them in packs, answers over the pipe.

`embedder.process` starts it as `python -m reembed.embedder.child FD`, with the pipe's end as an inherited descriptor.
One thread reads and tokenizes; each context has a thread of its own that takes the next pack when it is free. The
process knows no HTTP and keeps nothing: if it dies, the server answers for it and starts another; if the server dies,
the pipe closes and this process ends.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from reembed.core.model import Truncate
from reembed.embedder.llama import Context, EngineError, ModelUnusable, Weights
from reembed.embedder.messages import (
    Answer,
    Broken,
    Cancel,
    Computing,
    Done,
    Failed,
    Pace,
    Ready,
    Request,
    Start,
    TooLong,
    Unreadable,
)
from reembed.embedder.packing import PACK_TOKENS, Item, Lanes

# A context's buffers grow with its capacity times the vocabulary (60 MiB at 512 tokens and 30,000 words). Where a model
# reads more than this, one context alone does so.
_SHORT_TOKENS = 512
_PROBE = "the quick brown fox jumps over the lazy dog"


@dataclass
class _Job:
    """A request on its way: its vectors come pack by pack."""

    request: Request
    tokens: tuple[int, ...]
    cut: tuple[int, ...]
    vectors: list[bytes | None]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.vectors)


@dataclass(frozen=True, slots=True)
class _Text:
    """One text of a job, as packs carry it."""

    job: _Job
    index: int
    ids: tuple[int, ...]


def run(pipe: Connection) -> None:
    """Load the model and serve the pipe until its other end closes."""
    start: Start = pipe.recv()
    try:
        weights = Weights(start.path, start.model)
        # With one context more than there is CPU time for, a live query never waits for a whole background pack.
        contexts = [Context(weights, capacity) for capacity in _capacities(start.contexts + 1, start.model.max_tokens)]
        for context in contexts:
            _prove(weights, context)
    except EngineError as error:
        pipe.send(Failed(str(error), isinstance(error, ModelUnusable)))
        return
    work = _Work(pipe, weights, len(contexts))
    for number, context in enumerate(contexts):
        threading.Thread(target=work.compute, args=(context, number), daemon=True).start()
    pipe.send(Ready())
    work.read()


def _capacities(contexts: int, max_tokens: int) -> list[int]:
    """Return how many tokens each context reads at once: live-only first, last the one that can read the longest text.

    Queries are short; a long one waits for a context of the others.
    """
    return [PACK_TOKENS, *[min(max_tokens, _SHORT_TOKENS)] * (contexts - 2), max_tokens]


def _prove(weights: Weights, context: Context) -> None:
    """Embed a probe; a file may load without fault and still hold no usable model."""
    if context.embed([weights.tokenize(_PROBE).ids]) == [None]:
        raise ModelUnusable("the model's vector of a short text is not finite, or zero: the file is damaged")


class _Work:
    """What waits and is computed, shared by the reader's and the contexts' threads."""

    def __init__(self, pipe: Connection, weights: Weights, contexts: int) -> None:
        self._pipe = pipe
        self._weights = weights
        self._contexts = contexts
        self._allowed = contexts  # how many of them compute side by side
        self._computing = 0
        self._most_computing = 0
        self._lanes: Lanes[_Text] = Lanes()
        self._jobs: dict[int, _Job] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()

    def read(self) -> None:
        """Take requests until the server is gone."""
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, ConnectionError):
                return
            match message:
                case Cancel(request):
                    self._forget(request)
                case Pace():
                    self._set(message)
                case _:
                    self._accept(message)

    def compute(self, context: Context, number: int) -> None:
        """Take packs for one context until the process ends; the first context takes live texts alone."""
        while True:
            with self._changed:
                while not (pack := self._next_pack(context, number)):
                    self._changed.wait()
                self._began()
            self._compute_pack(context, [item.work for item in pack])
            with self._changed:
                self._computing -= 1
                # Only a context that was not allowed beside this one waits for its end.
                if self._computing == self._allowed - 1:
                    self._changed.notify_all()

    def _next_pack(self, context: Context, number: int) -> list[Item[_Text]]:
        # The last contexts go on where not all may: they can read the longest texts.
        if number < self._contexts - self._allowed or self._computing >= self._allowed:
            return []
        return self._lanes.next_pack(context.capacity, live_only=number == 0)

    def _began(self) -> None:
        self._computing += 1
        if self._computing > self._most_computing:
            self._most_computing = self._computing
            self._send(Computing(self._computing))

    def _set(self, pace: Pace) -> None:
        with self._changed:
            self._allowed = min(pace.contexts, self._contexts)
            self._lanes.pack_tokens, self._lanes.pack_texts = pace.pack_tokens, pace.pack_texts
            self._most_computing = 0
            self._send(Computing(0))
            self._changed.notify_all()

    def _accept(self, request: Request) -> None:
        try:
            read = [self._weights.tokenize(text) for text in request.texts]
        except EngineError as error:
            self._send(Broken(request.id, str(error)))
            return
        cut = tuple(index for index, text in enumerate(read) if text.cut)
        if request.tokens_only:
            self._send(Done(request.id, (), tuple(text.full for text in read), cut))
        elif cut and self._weights.model.truncate is Truncate.REFUSE:
            self._send(TooLong(request.id, cut[0], read[cut[0]].full))
        elif (empty := next((index for index, text in enumerate(read) if not text.ids), None)) is not None:
            self._send(Unreadable(request.id, empty, "has nothing that the model's vocabulary knows; leave it out"))
        else:
            job = _Job(request, tuple(len(text.ids) for text in read), cut, [None] * len(read))
            self._queue(job, [_Text(job, index, text.ids) for index, text in enumerate(read)])

    def _queue(self, job: _Job, texts: Sequence[_Text]) -> None:
        with self._changed:
            self._jobs[job.request.id] = job
            for text in texts:
                self._lanes.add(Item(len(text.ids), job.request.background, text))
            self._changed.notify_all()

    def _forget(self, request: int) -> bool:
        """Drop a request and what waits of it; return whether it was still there."""
        with self._changed:
            job = self._jobs.pop(request, None)
            if job is not None:
                self._lanes.discard(lambda text: text.job is job)
        return job is not None

    def _compute_pack(self, context: Context, texts: Sequence[_Text]) -> None:
        try:
            vectors = context.embed([text.ids for text in texts])
        except EngineError as error:
            for request in {text.job.request.id for text in texts}:
                self._fail(Broken(request, str(error)))
            return
        for text, vector in zip(texts, vectors, strict=True):
            if vector is None:
                message = "gets a vector from this model that is not finite, or zero; leave it out"
                self._fail(Unreadable(text.job.request.id, text.index, message))
            else:
                self._store(text, vector)

    def _fail(self, answer: Broken | Unreadable) -> None:
        if self._forget(answer.id):
            self._send(answer)

    def _store(self, text: _Text, vector: bytes) -> None:
        job = text.job
        with self._changed:
            job.vectors[text.index] = vector
            job.left -= 1
            whole = job.left == 0 and self._jobs.pop(job.request.id, None) is not None
        if whole:
            vectors = tuple(one for one in job.vectors if one is not None)
            self._send(Done(job.request.id, vectors, job.tokens, job.cut))

    def _send(self, answer: Answer | Computing) -> None:
        with self._sending:
            self._pipe.send(answer)


if __name__ == "__main__":
    # The server decides when this process ends; a terminal's Ctrl-C goes to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(Connection(int(sys.argv[1])))
