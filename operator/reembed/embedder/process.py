"""The server's side of the engine process: requests as awaitables, and a process that may die.

A crash of llama.cpp ends the engine, not the server: who waits is told to try again, another engine is started, and a
counter says how often. What waits is bounded by (estimated) tokens; background texts are turned away at half of the
bound, so that there is always room for a live query. A caller who goes away takes its texts out of the queue. In
emergency protection the bounds are lower and background texts that wait already are turned away, too.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from reembed.core.emergency_limits import Limits
from reembed.embedder.messages import (
    Answer,
    Broken,
    Cancel,
    Computing,
    Done,
    Failed,
    FromEngine,
    Pace,
    Ready,
    Request,
    Start,
    ToEngine,
    TooLong,
    Unreadable,
)
from reembed.embedder.refusals import ArchitectureUnsupported, Refusal, Unavailable

_log = logging.getLogger("reembed.embedder")

# Rather too many than too few: English has about four bytes a token, code three.
_BYTES_PER_TOKEN = 3
_RESTART_PAUSE = 0.5
# An engine that dies so often before it was ever ready will not be ready the next time.
_EARLY_DEATHS = 3


class EngineUnavailable(Exception):
    """The engine died or is not ready; trying again soon helps."""


class EngineBusy(Exception):
    """More waits than will be done soon."""


class EngineFailed(Exception):
    """The engine could not do this request; another may work."""


class TextRefused(Exception):
    """A text has no vector; `index` says which."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"text {index} {message}")
        self.index = index


class TextTooLong(TextRefused):
    """A text is longer than the model reads, and the pool refuses such."""


@dataclass
class _Waiting:
    answer: asyncio.Future[Done]
    tokens: int
    background: bool


class Engine:
    """A process that computes, and those who wait for it. All methods belong to one event loop."""

    def __init__(self, start: Start, limits: Limits) -> None:
        self._start = start
        self._limits = limits
        self._ids = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._link: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.failed: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()  # why it can't even start
        self.ready = False
        self.restarts = 0
        self.contexts_peak = 0  # contexts that computed side by side since the limits last changed

    @property
    def tokens(self) -> int:
        """Return about how many tokens wait or are computed."""
        return sum(one.tokens for one in self._waiting.values())

    def start(self) -> None:
        """Start a process and keep one alive from now on."""
        self._keeper = asyncio.create_task(self._keep())

    def limit(self, limits: Limits) -> None:
        """Work with other limits from now on; a call that the engine computes is finished first."""
        self._limits = limits
        if self._link is not None:
            self._link.send(_pace(limits))
        if limits.background_tokens == 0:
            self._shed_background()

    async def close(self) -> None:
        """End the process."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
        self._lose_waiting()

    async def embed(self, texts: Sequence[str], *, background: bool, tokens_only: bool = False) -> Done:
        """Return vectors (or token counts alone) for texts that carry their prefix already.

        Raises:
            EngineBusy: too much waits.
            EngineUnavailable: there is no engine now, or it died meanwhile.
            EngineFailed: the engine could not do it.
            TextRefused: a text is at fault.

        """
        if self._link is None or not self.ready:
            raise EngineUnavailable("the model is being loaded; try again soon")
        request = Request(next(self._ids), tuple(texts), background, tokens_only)
        tokens = self._admit(texts, background=background)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), tokens, background)
        self._waiting[request.id] = waiting
        try:
            self._link.send(request)
            return await waiting.answer
        except asyncio.CancelledError:
            self._link.send(Cancel(request.id))
            raise
        finally:
            self._waiting.pop(request.id, None)

    def _admit(self, texts: Sequence[str], *, background: bool) -> int:
        """Return about how many tokens the texts have, if there is room for them."""
        longest = self._start.model.max_tokens
        tokens = sum(min(len(text.encode()) // _BYTES_PER_TOKEN + 2, longest) for text in texts)
        limit = self._limits.background_tokens if background else self._limits.queue_tokens
        if (waiting := self.tokens) and waiting + tokens > limit:
            raise EngineBusy(f"about {waiting} tokens wait, {tokens} more pass the limit of {limit}; try again later")
        if tokens > (most := max(limit, self._limits.request_tokens)):
            raise EngineBusy(f"the request has about {tokens} tokens, {most} are taken now; send fewer texts at a time")
        return tokens

    def _shed_background(self) -> None:
        for number, waiting in self._waiting.items():
            if waiting.background and not waiting.answer.done():
                text = "emergency protection began: background requests that wait are turned away; try again later"
                waiting.answer.set_exception(EngineBusy(text))
                if self._link is not None:
                    self._link.send(Cancel(number))

    async def _keep(self) -> None:
        """Run processes one after the other."""
        early = 0
        while True:
            self._link = _Link(self._start, self._take)
            self._link.send(_pace(self._limits))
            self.contexts_peak = 0
            status = await self._link.ended
            early = 0 if self.ready else early + 1
            self.ready = False
            self._lose_waiting()
            if self.failed.done():
                return
            if early == _EARLY_DEATHS:
                self.failed.set_result(_refusal(status, early))
                return
            _log.error("the engine ended (%s); another is started", _ending(status))
            self.restarts += 1
            await asyncio.sleep(_RESTART_PAUSE)

    def _lose_waiting(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(EngineUnavailable("the engine stopped; another is started, try again"))

    def _take(self, message: FromEngine) -> None:
        match message:
            case Ready():
                self.ready = True
            case Computing(contexts):
                self.contexts_peak = contexts
            case Failed(text, permanent):
                self.failed.set_result(ArchitectureUnsupported(text) if permanent else Unavailable(text))
            case _:
                self._answer(message)

    def _answer(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.id)
        if waiting is None or waiting.answer.done():
            return
        limit = self._start.model.max_tokens
        match answer:
            case Done():
                waiting.answer.set_result(answer)
            case TooLong(_, index, tokens):
                message = f"has {tokens} tokens, the model reads {limit} and the pool says truncate: Refuse; shorten it"
                waiting.answer.set_exception(TextTooLong(index, message))
            case Unreadable(_, index, message):
                waiting.answer.set_exception(TextRefused(index, message))
            case Broken(_, message):
                waiting.answer.set_exception(EngineFailed(message))


class _Link:
    """One engine process and the pipe to it. Threads do what would block: a large request fills the pipe's buffer."""

    def __init__(self, start: Start, take: Callable[[FromEngine], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._take = take
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "reembed.embedder.child", str(theirs.fileno())]
            # A crash would otherwise call a debugger, if there is one, and print pages.
            environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)  # noqa: S603 - our own
        self._pipe = Connection(ours.detach())
        self._outbox: queue.SimpleQueue[ToEngine | None] = queue.SimpleQueue()
        self.ended: asyncio.Future[int] = self._loop.create_future()  # the exit status
        self.send(start)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def send(self, message: ToEngine) -> None:
        """Send in order; a message to a process that died is lost, and `ended` says so."""
        self._outbox.put(message)

    async def close(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._pipe.send(message)
            except OSError:
                return

    def _read(self) -> None:
        """Hand the process's messages to the event loop until the process is gone."""
        try:
            while True:
                self._call(self._take, self._pipe.recv())
        except (EOFError, OSError):
            status = self._process.wait()
        self._outbox.put(None)
        self._threads[0].join()
        self._pipe.close()
        self._call(self._end, status)

    def _end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop is closed, and nobody waits any more
            return


def _pace(limits: Limits) -> Pace:
    return Pace(limits.contexts, limits.pack_tokens, limits.pack_texts)


def _refusal(status: int, times: int) -> Refusal:
    """Say why an engine never became ready."""
    if status == -signal.SIGKILL:
        return Unavailable(
            f"the engine was killed {times} times while it loaded the model, most likely for want of memory: raise the "
            "memory limit of the pool's variant"
        )
    return ArchitectureUnsupported(
        f"the engine ended {times} times while it loaded the model ({_ending(status)}); the file's tensors are not "
        "what llama.cpp expects: convert the model again"
    )


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
