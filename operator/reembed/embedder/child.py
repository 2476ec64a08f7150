"""The engine process: takes requests from a pipe, computes them in packs, answers over the pipe.

`embedder.link` starts it as `python -m reembed.embedder.child PIPE BOARD`, two inherited descriptors. One thread reads
and tokenizes; each context has a thread of its own that takes the next pack when it is free. The process knows no HTTP
and keeps nothing: if it dies, the server answers for it and starts another; if the server dies, the pipe closes and
this process ends.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic

from reembed.core.model import Truncate
from reembed.embedder import tiles
from reembed.embedder.board import Board
from reembed.embedder.jobs import Job, Text, grouped, job
from reembed.embedder.llama import Context, EngineError, Ids, ModelUnusable, Vectors, Weights, offloads
from reembed.embedder.messages import (
    Answer,
    Broken,
    Cancel,
    Computing,
    Done,
    Failed,
    Pace,
    Packs,
    Ready,
    Request,
    Start,
    TooLong,
    Unreadable,
)
from reembed.embedder.packing import PACK_TOKENS, SMALL_PACK_TOKENS, Item, Lanes
from reembed.embedder.proof import prove

# How long a call of background texts should take at most: a query that comes meanwhile shares the CPU with it.
_BACKGROUND_SECONDS = 0.1
# With 16 callers of short texts it makes packs a third larger, and a tenth more of them; twice as long brings no more.
_GATHER_SECONDS = 0.002
# Seconds between two accounts of what was computed, while more waits.
_ACCOUNT_SECONDS = 0.5


def run(pipe: Connection, board: Board) -> None:
    """Load the model and serve the pipe until its other end closes."""
    start: Start = pipe.recv()
    try:
        if start.tiles is not None and not tiles.use(start.tiles):
            raise EngineError("the kernel no longer lets a process use the CPU's tiles; it did when they were measured")
        weights = Weights(start.path, start.model, start.device)
        contexts = [Context(weights, capacity, start.piece) for capacity in start.capacities]
        cosine = prove(weights, contexts)
    except EngineError as error:
        pipe.send(Failed(str(error), isinstance(error, ModelUnusable)))
        return
    work = Work(pipe, weights, board, [context.capacity for context in contexts], start.cpus)
    for number, context in enumerate(contexts):
        threading.Thread(target=work.compute, args=(context, number), daemon=True).start()
    pipe.send(Ready(offloads(), cosine))
    work.read()


def _vectors(context: Context, texts: Sequence[Ids]) -> Vectors:
    """Return the texts' vectors; who gets none beside others gets another try alone.

    Where one text's numbers are not finite, llama.cpp's sums over a whole call spoil those of its neighbours: nothing
    times infinity is no number.
    """
    vectors = context.embed(texts)
    for row, ids in enumerate(texts):
        if len(texts) > 1 and not _usable(vectors, row):
            vectors[row] = context.embed([ids])[0]
    return vectors


def _usable(vectors: Vectors, row: int) -> bool:
    return bool(vectors[row, 0] == vectors[row, 0])  # NaN is not equal to itself


class Work:
    """What waits and is computed, shared by the reader's and the contexts' threads.

    `capacities` are the contexts', the first of which takes live texts alone if there are several; `cpus` of them
    compute side by side, and one more where a background pack would keep a live one waiting.
    """

    def __init__(self, pipe: Connection, weights: Weights, board: Board, capacities: Sequence[int], cpus: int) -> None:
        self._pipe = pipe
        self._weights = weights
        self._board = board
        self._capacities = capacities
        self._cpus = cpus
        self._allowed = len(capacities)  # how many of them compute side by side
        self._busy: dict[int, bool] = {}  # contexts that compute: whether background texts
        self._most_computing = 0
        self._lanes: Lanes[Text] = Lanes()
        self._alone: list[Text] = []
        self._isolating = False
        self._others_until = 0.0  # before then live texts go before those that must be alone
        self._jobs: dict[int, Job] = {}
        self._packs = Packs()
        self._accounted = 0.0
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._reading = threading.Lock()

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
                case Request(tokens_only=True):
                    # Megabytes may be counted, which takes seconds.
                    threading.Thread(target=self._count, args=(message,), daemon=True).start()
                case _:
                    self._accept(message)

    def compute(self, context: Context, number: int) -> None:
        """Take packs for one context until the process ends."""
        while True:
            with self._changed:
                pack = self._wait_for_pack(number)
                groups = grouped(item.work for item in pack)
                began = self._begin(number, groups)
            self._compute_pack(context, groups)
            self._board.clear(number)
            with self._changed:
                del self._busy[number]
                ended = monotonic()
                self._account(groups, ended - began)
                if self._isolating:
                    # Everybody waited for this text: now it is others' turn for as long.
                    self._isolating, self._others_until = False, 2 * ended - began
                self._changed.notify_all()

    def _wait_for_pack(self, number: int) -> list[Item[Text]]:
        while True:
            self._gather()
            if pack := self._next_pack(number):
                if pack[0].tokens > self._capacities[0]:
                    self._changed.notify_all()  # who left this text to this context may take what is behind it
                return pack
            self._changed.wait()

    def _gather(self) -> None:
        """Wait a moment for a pack that is computed well, if others compute: answers of theirs bring new requests."""
        end = monotonic() + _GATHER_SECONDS
        while self._busy and 0 < self._lanes.live_tokens < SMALL_PACK_TOKENS and (left := end - monotonic()) > 0:
            self._changed.wait(left)

    def _next_pack(self, number: int) -> list[Item[Text]]:
        """Return what a context computes next; it is begun at once, or empty."""
        # The last contexts go on where not all may: they can read the longest texts.
        if number < len(self._capacities) - self._allowed or len(self._busy) >= self._allowed or self._isolating:
            return []
        if self._alone and not (self._lanes.live_tokens and monotonic() < self._others_until):
            return self._next_alone(number)
        live_only = number == 0 and len(self._capacities) > 1
        if len(self._busy) >= self._cpus:
            # There is CPU time for no more, but a live text does not wait for background ones.
            if not any(self._busy.values()):
                return []
            live_only = True
        if self._better_elsewhere(number):
            return []
        free = max(1, min(self._allowed, self._cpus) - len(self._busy))
        return self._lanes.next_pack(self._capacities[number], live_only=live_only, free=free, now=monotonic())

    def _next_alone(self, number: int) -> list[Item[Text]]:
        """Return a text that may have ended an engine, once nothing else computes that might."""
        if self._busy or number != len(self._capacities) - 1:
            return []
        self._isolating = True
        text = self._alone.pop(0)
        return [Item(len(text.ids), text.job.request.background, text)]

    def _better_elsewhere(self, number: int) -> bool:
        """Return whether the live text that waits longest is too long for a context, and one that can is idle."""
        first = self._lanes.first()
        if first is None or first.tokens <= self._capacities[number]:
            return False
        return any(
            capacity >= first.tokens and other not in self._busy for other, capacity in enumerate(self._capacities)
        )

    def _begin(self, number: int, groups: Sequence[Sequence[Text]]) -> float:
        now = monotonic()
        first = [group[0] for group in groups]
        self._busy[number] = first[0].job.request.background
        texts = [(text.job.request.id, text.index) for text in first]
        self._board.write(number, now, sum(len(text.ids) for text in first), texts)
        for group in groups:
            for text in group:
                text.job.began = text.job.began or now
        if len(self._busy) > self._most_computing:
            self._most_computing = len(self._busy)
            self._send(Computing(self._most_computing))
        return now

    def _account(self, groups: Sequence[Sequence[Text]], seconds: float) -> None:
        texts, before = sum(map(len, groups)), self._packs
        self._packs = after = Packs(
            calls=before.calls + 1,
            texts=before.texts + texts,
            tokens=before.tokens + sum(len(group[0].ids) for group in groups),
            equal=before.equal + texts - len(groups),
            seconds=before.seconds + seconds,
        )
        most = int(after.tokens / after.seconds * _BACKGROUND_SECONDS)
        self._lanes.background_tokens = max(1, min(PACK_TOKENS, most))
        now = monotonic()
        if now - self._accounted > _ACCOUNT_SECONDS or not (self._busy or self._lanes.tokens):
            self._accounted = now
            self._send(after)

    def _set(self, pace: Pace) -> None:
        with self._changed:
            self._allowed = min(pace.contexts, len(self._capacities))
            self._lanes.pack_tokens, self._lanes.pack_texts = pace.pack_tokens, pace.pack_texts
            self._most_computing = 0
            self._send(Computing(0))
            self._changed.notify_all()

    def _count(self, request: Request) -> None:
        try:
            if not request.ends:
                self._send(Done(request.id, b"", tuple(map(self._weights.count, request.texts)), ()))
                return
            # One at a time: all of it is the interpreter's work, which queries need too.
            with self._reading:
                ends = tuple([tuple(self._weights.ends(text)) for text in request.texts])
            self._send(Done(request.id, b"", tuple(map(len, ends)), (), ends=ends))
        except EngineError as error:
            self._send(Broken(request.id, str(error)))

    def _accept(self, request: Request) -> None:
        try:
            read = [self._weights.tokenize(text) for text in request.texts]
        except EngineError as error:
            self._send(Broken(request.id, str(error)))
            return
        cut = tuple(index for index, text in enumerate(read) if text.cut)
        if cut and self._weights.model.truncate is Truncate.REFUSE:
            first = read[cut[0]]
            self._send(TooLong(request.id, cut[0], first.full, first.whole))
        elif (empty := next((index for index, text in enumerate(read) if not len(text.ids)), None)) is not None:
            self._send(Unreadable(request.id, empty, "has nothing that the model's vocabulary knows; leave it out"))
        else:
            self._queue(*job(request, read, self._weights.model.dimensions, monotonic()))

    def _queue(self, job: Job, texts: Sequence[Text]) -> None:
        request = job.request
        with self._changed:
            self._jobs[request.id] = job
            if request.alone:
                self._alone += texts
            else:
                for text in texts:
                    self._lanes.add(Item(len(text.ids), request.background, text, text.key, job.arrived))
            self._changed.notify_all()

    def _forget(self, request: int) -> bool:
        """Drop a request and what waits of it; return whether it was still there."""
        with self._changed:
            job = self._jobs.pop(request, None)
            if job is not None:
                self._lanes.discard(lambda text: text.job is job)
                self._alone = [text for text in self._alone if text.job is not job]
                self._changed.notify_all()
        return job is not None

    def _compute_pack(self, context: Context, groups: Sequence[Sequence[Text]]) -> None:
        try:
            vectors = _vectors(context, [group[0].ids for group in groups])
        except EngineError as error:
            for request in {text.job.request.id for group in groups for text in group}:
                self._fail(Broken(request, str(error)))
            return
        for row, group in enumerate(groups):
            for text in group:
                if _usable(vectors, row):
                    self._store(text, vectors[row])
                else:
                    message = "gets a vector from this model that is not finite, or zero; leave it out"
                    self._fail(Unreadable(text.job.request.id, text.index, message))

    def _fail(self, answer: Broken | Unreadable) -> None:
        if self._forget(answer.id):
            self._send(answer)

    def _store(self, text: Text, vector: Vectors) -> None:
        job = text.job
        with self._changed:
            job.vectors[text.index] = vector
            job.left -= 1
            whole = job.left == 0 and self._jobs.pop(job.request.id, None) is not None
        if whole:
            self._send(job.done(monotonic()))

    def _send(self, answer: Answer | Computing | Packs) -> None:
        # Where the server is gone, the reader ends this process.
        with self._sending, suppress(OSError):
            self._pipe.send(answer)


if __name__ == "__main__":
    # The server decides when this process ends; a terminal's Ctrl-C goes to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(Connection(int(sys.argv[1])), Board(int(sys.argv[2])))
