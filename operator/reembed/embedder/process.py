"""The parent's side of the child process: requests as awaitables, and a child that may die.

A crash of llama.cpp ends the child, not the server: who waits is told to try again, a new child is started, and a
counter says how often. What waits is bounded by (estimated) tokens; background texts are turned away at half of the
bound, so that there is always room for a live query. A caller who goes away takes its texts out of the queue.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from reembed.core.model import Model
from reembed.embedder import child

_LOGGER = logging.getLogger("reembed.embedder")

# Half a minute's work of one core for a small model: who would wait longer had better try elsewhere.
_MOST_TOKENS = 65_536
# Rather too many than too few: English has about four bytes a token, code three.
_BYTES_PER_TOKEN = 3
_RESTART_PAUSE = 0.5


class EngineUnavailable(Exception):
    """The child died or is not ready; trying again soon helps."""


class EngineBusy(Exception):
    """More waits than will be done soon."""

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"about {waiting} tokens wait, of {limit} that may; try again later")


class EngineFailed(Exception):
    """The engine could not do this request; another may work."""


class TextTooLong(Exception):
    """A text is longer than the model reads, and the pool refuses such."""

    def __init__(self, index: int, limit: int) -> None:
        super().__init__(f"text {index} has more than {limit} tokens; shorten it, or use a pool with truncate: End")
        self.index = index


@dataclass
class _Waiting:
    answer: asyncio.Future[child.Done]
    tokens: int


class Engine:
    """A child that computes, and those who wait for it. All methods belong to one event loop."""

    def __init__(self, path: Path, model: Model, contexts: int) -> None:
        self._arguments = (path, model, contexts)
        self._ids = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._ready = asyncio.Event()
        self._closing = False
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # why it could not even start
        self.restarts = 0
        self._keeper: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    @property
    def tokens(self) -> int:
        """Return about how many tokens wait or are computed."""
        return sum(one.tokens for one in self._waiting.values())

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start a child and keep one alive from now on."""
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End the child; who still waits is told."""
        self._closing = True
        if self._pipe is not None:
            self._pipe.close()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.join)

    async def embed(self, texts: Sequence[str], *, background: bool, tokens_only: bool = False) -> child.Done:
        """Return vectors (or token counts alone) for texts that carry their prefix already.

        Raises:
            EngineBusy: too much waits.
            EngineUnavailable: there is no child now, or it died meanwhile.
            EngineFailed: the engine could not do it.
            TextTooLong: a text is refused for its length.

        """
        tokens = sum(len(text.encode()) // _BYTES_PER_TOKEN + 2 for text in texts)
        limit = _MOST_TOKENS // 2 if background else _MOST_TOKENS
        # A request larger than the whole bound must pass when nothing waits.
        if self.tokens and self.tokens + tokens > limit:
            raise EngineBusy(self.tokens, limit)
        if self._pipe is None or not self.ready:
            raise EngineUnavailable("the model is being loaded")
        request = child.Request(next(self._ids), tuple(texts), background, tokens_only)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), tokens)
        self._waiting[request.id] = waiting
        try:
            self._send(request)
            return await waiting.answer
        except asyncio.CancelledError:
            self._send(child.Cancel(request.id))
            raise
        finally:
            self._waiting.pop(request.id, None)

    def _send(self, message: child.Request | child.Cancel) -> None:
        try:
            if self._pipe is not None:
                self._pipe.send(message)
        except OSError as error:
            raise EngineUnavailable("the engine stopped; it is started again") from error

    async def _keep(self) -> None:
        """Run children one after the other."""
        while not self._closing:
            ended = self._spawn()
            await ended.wait()
            self._ready.clear()
            for waiting in self._waiting.values():
                if not waiting.answer.done():
                    waiting.answer.set_exception(EngineUnavailable("the engine stopped; it is started again"))
            if self._closing or self.failed.done():
                return
            _LOGGER.error("the engine's process died; another is started")
            self.restarts += 1
            await asyncio.sleep(_RESTART_PAUSE)

    def _spawn(self) -> asyncio.Event:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        path, model, contexts = self._arguments
        self._process = context.Process(target=child.run, args=(theirs, path, model, contexts), daemon=True)
        self._process.start()
        theirs.close()
        ended = asyncio.Event()
        reader = threading.Thread(target=self._read, args=(self._pipe, asyncio.get_running_loop(), ended), daemon=True)
        reader.start()
        return ended

    def _read(self, pipe: Connection, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        """Hand the child's answers to the event loop, in a thread, until the child is gone."""
        try:
            while True:
                loop.call_soon_threadsafe(self._take, pipe.recv())
        except (EOFError, OSError, RuntimeError):  # RuntimeError: the loop is closed, and so is the server
            pass
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:
            return

    def _take(self, answer: child.Answer) -> None:
        if isinstance(answer, child.Ready):
            self._ready.set()
            return
        if isinstance(answer, child.Broken) and answer.id is None:
            self.failed.set_result(answer.message)
            return
        waiting = self._waiting.get(answer.id) if answer.id is not None else None
        if waiting is None or waiting.answer.done():
            return
        match answer:
            case child.Done():
                waiting.answer.set_result(answer)
            case child.TooLong():
                waiting.answer.set_exception(TextTooLong(answer.index, answer.limit))
            case child.Broken():
                waiting.answer.set_exception(EngineFailed(answer.message))
