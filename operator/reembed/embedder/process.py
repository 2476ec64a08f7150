"""The server's side of the engine process: requests as awaitables, and a process that may die.

A crash of llama.cpp ends the engine, not the server: who waits is told to try again, another engine is started, and a
counter says how often. What it computed is read from its board, so that a text which ends engines is found and refused
(`embedder.suspects`); an engine that computes one call for far too long is ended in the same way. What waits is bounded
by (estimated) tokens; background texts are turned away at half of the bound, so that there is always room for a live
query. A caller who goes away takes its texts out of the queue. In emergency protection the bounds are lower and
background texts that wait already are turned away, too. Live texts that were asked for lately are answered from memory.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from reembed.core.emergency_limits import Limits
from reembed.core.model import Device
from reembed.embedder.board import Board, Slot
from reembed.embedder.failures import EngineBusy, EngineFailed, EngineUnavailable, TextRefused, TextTooLong
from reembed.embedder.link import Link
from reembed.embedder.messages import (
    Answer,
    Broken,
    Cancel,
    Computing,
    Done,
    Failed,
    FromEngine,
    Pace,
    Packs,
    Ready,
    Request,
    Start,
    TooLong,
    Unreadable,
)
from reembed.embedder.refusals import ArchitectureUnsupported, Refusal, Unavailable
from reembed.embedder.remembered import remembered
from reembed.embedder.suspects import Suspects
from reembed.embedder.text_cache import TextCache

_log = logging.getLogger("reembed.embedder")

# Rather too many than too few: English has about four bytes a token, code three.
_BYTES_PER_TOKEN = 3
_RESTART_PAUSE = 0.5
# A look that comes after so many times its pause says that the process itself stood still.
_LATE = 3.0
# An engine that dies so often before it was ever ready will not be ready the next time.
_EARLY_DEATHS = 3
# As a shell says that a command could not be started.
_NOT_STARTED = 127
# What ends a process by its own doing; SIGKILL is the kernel's or somebody's, and no text's.
_CRASHES = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})


@dataclass(frozen=True, slots=True)
class Patience:
    """When a call counts as hung: a model of 7 billion weights computes 13 tokens a second on one core."""

    seconds: float = 60.0
    seconds_per_token: float = 0.5
    look_every: float = 5.0

    def over(self, slot: Slot, now: float) -> bool:
        return now - slot.since > self.seconds + self.seconds_per_token * slot.tokens


@dataclass
class _Waiting:
    answer: asyncio.Future[Done]
    request: Request
    tokens: int


class Engine:
    """A process that computes, and those who wait for it. All methods belong to one event loop."""

    def __init__(self, start: Start, limits: Limits, cache: TextCache, patience: Patience = Patience()) -> None:
        self._start = start
        self._patience = patience
        self._limits = limits
        self._cache = cache
        self._suspects = Suspects()
        self._board = Board.make(len(start.capacities))
        self._ids = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._left: dict[int, Request] = {}  # what is still computed for callers who went
        self._heard = 0.0  # when the engine last said or computed something, or nothing was asked of it
        self._link: Link | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._hung = False
        self.tokens = 0  # that wait or are computed, estimated
        self._background = 0  # those of background texts
        self.failed: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()  # why it can't even start
        self.ready = False
        self.up = asyncio.Event()  # it was ready once
        self.offloads = False
        self.cosine = 0.0  # of a probe alone and beside others; 0 as long as nothing was loaded
        self.restarts = 0
        self.packs = Packs()
        self._packs_before = Packs()  # of the processes that died
        self.contexts_peak = 0  # contexts that computed side by side since the limits last changed

    @property
    def contexts_busy(self) -> int:
        """Return how many contexts compute now."""
        return sum(1 for _ in self._board.slots())

    def start(self) -> None:
        """Start a process and keep one alive from now on."""
        self._tasks = (asyncio.create_task(self._keep()), asyncio.create_task(self._watch()))

    def limit(self, limits: Limits) -> None:
        """Work with other limits from now on; a call that the engine computes is finished first."""
        self._limits = limits
        if self._link is not None:
            self._link.send(_pace(limits))
        if limits.background_tokens == 0:
            self._cache.clear()
            self._shed_background()

    async def close(self) -> None:
        """End the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
        self._lose_waiting()
        self._board.close()

    async def embed(self, texts: Sequence[str], *, background: bool) -> Done:
        """Return vectors for texts that carry their prefix already; live ones perhaps from memory.

        Raises:
            EngineBusy: too much waits.
            EngineUnavailable: there is no engine now, or it died meanwhile.
            EngineFailed: the engine could not do it.
            TextRefused: a text is at fault.

        """
        if background or not self._cache.on:
            return await self._ask(texts, background=background)
        return await remembered(self._cache, texts, lambda missing: self._ask(missing, background=False))

    async def count(self, texts: Sequence[str]) -> tuple[int, ...]:
        """Return how many tokens the texts have; raises as `embed` does."""
        return (await self._ask(texts, background=False, tokens_only=True)).tokens

    async def ends(self, texts: Sequence[str], *, background: bool) -> tuple[tuple[int, ...], ...]:
        """Return where the tokens of the texts end, in characters; raises as `embed` does."""
        return (await self._ask(texts, background=background, tokens_only=True, ends=True)).ends

    async def _ask(
        self, texts: Sequence[str], *, background: bool, tokens_only: bool = False, ends: bool = False
    ) -> Done:
        if self._link is None or not self.ready:
            raise EngineUnavailable("the model is being loaded; try again soon")
        if not tokens_only and (index := self._suspects.guilty(texts)) is not None:
            raise TextRefused(index, "ended the engine twice, the second time on its own; leave it out")
        alone = not tokens_only and self._suspects.suspicious(texts)
        request = Request(next(self._ids), tuple(texts), background, tokens_only, ends, alone)
        tokens = self._admit(texts, background=background)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), request, tokens)
        self._waiting[request.id] = waiting
        self._count_in(tokens, background=background)
        try:
            self._link.send(request)
            done = await waiting.answer
        except asyncio.CancelledError:
            self._link.send(Cancel(request.id))
            self._remember(request)
            raise
        finally:
            self._count_in(-tokens, background=background)
            self._waiting.pop(request.id, None)
        if alone:
            self._suspects.acquit(texts)
        return done

    def _admit(self, texts: Sequence[str], *, background: bool) -> int:
        """Return about how many tokens the texts have, if there is room for them."""
        longest = self._start.model.max_tokens
        tokens = sum(min(len(text.encode()) // _BYTES_PER_TOKEN + 2, longest) for text in texts)
        limit = self._limits.background_tokens if background else self._limits.queue_tokens
        waiting = self.tokens
        if not background:
            # One request may be larger than the bound; what it has above that is not at the cost of queries.
            waiting -= max(0, self._background - self._limits.background_tokens)
        if waiting and waiting + tokens > limit:
            raise EngineBusy(f"about {waiting} tokens wait, {tokens} more pass the limit of {limit}; try again later")
        if tokens > (most := max(limit, self._limits.request_tokens)):
            raise EngineBusy(f"the request has about {tokens} tokens, {most} are taken now; send fewer texts at a time")
        return tokens

    def _count_in(self, tokens: int, *, background: bool) -> None:
        self.tokens += tokens
        self._background += tokens if background else 0

    def _remember(self, request: Request) -> None:
        """Keep a request whose caller went while it is computed: it may end the engine yet."""
        computed = {number for slot in self._board.slots() for number, _ in slot.texts}
        left = {**self._left, request.id: request}
        self._left = {number: one for number, one in left.items() if number in computed}

    def _shed_background(self) -> None:
        for number, waiting in self._waiting.items():
            if waiting.request.background and not waiting.answer.done():
                text = "emergency protection began: background requests that wait are turned away; try again later"
                waiting.answer.set_exception(EngineBusy(text))
                if self._link is not None:
                    self._link.send(Cancel(number))

    async def _keep(self) -> None:
        """Run processes one after the other."""
        early = 0
        while True:
            status = await self._run()
            early = 0 if self.ready else early + 1
            self.ready = False
            self._suspect(status)
            self._lose_waiting()
            if self.failed.done():
                return
            if early == _EARLY_DEATHS:
                self.failed.set_result(_refusal(status, early))
                return
            _log.error("the engine ended (%s); another is started", "it hung" if self._hung else _ending(status))
            self._hung = False
            self._packs_before = self.packs
            self.restarts += 1
            await asyncio.sleep(_RESTART_PAUSE)

    async def _run(self) -> int:
        """Run a process to its end; return its exit status."""
        try:
            self._link = await Link.open(self._board, self._take)
        except OSError as error:
            _log.error("the engine's process cannot be started: %s", error.strerror)
            return _NOT_STARTED
        self._link.send(self._start)
        self._link.send(_pace(self._limits))
        self.contexts_peak = 0
        return await self._link.ended()

    async def _watch(self) -> None:
        """End an engine that computes one call for far too long, or is asked and does nothing at all.

        Time that nobody watched does not count: whatever froze this process may have frozen the engine as well.
        """
        looked = monotonic()
        while True:
            await asyncio.sleep(self._patience.look_every)
            now, slots = monotonic(), list(self._board.slots())
            late, looked = now - looked > _LATE * self._patience.look_every, now
            if late or slots or not (self.ready and self._waiting):
                self._heard = now
            if late:
                continue
            silent = now - self._heard > self._patience.seconds
            if self._link is not None and (silent or any(self._patience.over(slot, now) for slot in slots)):
                self._hung = True
                self._link.kill()

    def _suspect(self, status: int) -> None:
        """Remember what the process that died computed, if that may have been why."""
        if self._hung or -status in _CRASHES:
            found = [pair for slot in self._board.slots() for pair in slot.texts]
            requests = self._left | {number: waiting.request for number, waiting in self._waiting.items()}
            known = [(requests[number], index) for number, index in found if number in requests]
            texts = [request.texts[index] for request, index in known]
            self._suspects.crashed(texts, alone=len(found) == 1 and all(request.alone for request, _ in known))
        self._board.wipe()
        self._left.clear()

    def _lose_waiting(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(EngineUnavailable("the engine stopped; another is started, try again"))

    def _take(self, message: FromEngine) -> None:
        self._heard = monotonic()
        match message:
            case Ready(offloads, cosine):
                self.ready, self.offloads, self.cosine = True, offloads, cosine
                self.up.set()
                if self._start.device is Device.GPU and not offloads:
                    text = "this build of llama.cpp uses no GPU, or finds none: everything is computed by the CPU"
                    _log.error("%s; set the chart's image for GPUs, and look at the node's driver", text)
            case Computing(contexts):
                self.contexts_peak = contexts
            case Packs():
                self.packs = self._packs_before.plus(message)
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
            case TooLong(_, index, tokens, whole):
                count = f"{tokens} tokens" if whole else f"more than {tokens} tokens"
                message = f"has {count}, the model reads {limit} and the pool says truncate: Refuse; shorten it"
                waiting.answer.set_exception(TextTooLong(index, message))
            case Unreadable(_, index, message):
                waiting.answer.set_exception(TextRefused(index, message))
            case Broken(_, message):
                waiting.answer.set_exception(EngineFailed(message))


def _pace(limits: Limits) -> Pace:
    return Pace(limits.contexts, limits.pack_tokens, limits.pack_texts)


def _refusal(status: int, times: int) -> Refusal:
    """Say why an engine never became ready; only what llama.cpp itself gave up for is the file's fault."""
    if status == -signal.SIGKILL:
        return Unavailable(
            f"the engine was killed {times} times while it loaded the model, most likely for want of memory: raise the "
            "memory limit of the pool's variant"
        )
    found = f"the engine ended {times} times while it loaded the model ({_ending(status)})"
    if status == -signal.SIGBUS:
        return Unavailable(f"{found}: its file cannot be read any more; look at the cache's volume and its disk")
    if status == -signal.SIGILL:
        return Unavailable(f"{found}: this node's CPU lacks what the image's llama.cpp was built for; use other nodes")
    if status >= 0:
        return Unavailable(f"{found}; its own words are in the pod's log, and the pod tries again")
    return ArchitectureUnsupported(
        f"{found}; the file's tensors are not what llama.cpp expects: convert the model again"
    )


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
