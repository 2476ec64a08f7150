"""Who may ask the endpoint next: live before background, at the throttle's rate, so many at a time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from reembed.embedder.hosted.throttle import Throttle

# Requests under way at a time: enough for an endpoint that needs a second, at the rates that are usual.
_MOST = 16
# Kept for live texts.
_LIVE_ONLY = 4

_Waiter = tuple[bool, int, int, asyncio.Future[None]]


class Turns:
    """A queue before an endpoint. All methods belong to one event loop."""

    def __init__(self, throttle: Throttle, clock: Callable[[], float]) -> None:
        self.throttle = throttle
        self._clock = clock
        self._order = itertools.count()
        self._waiters: list[_Waiter] = []
        self._timer: asyncio.TimerHandle | None = None
        self.busy = 0

    @property
    def wait(self) -> float:
        """Return for how many seconds nobody may ask."""
        return self.throttle.wait(self._clock())

    async def take(self, tokens: int, *, background: bool) -> None:
        """Wait for a turn; whoever got one gives it back with `leave`."""
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (background, next(self._order), tokens, waiter))
        self._next()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.busy -= 1
        self._next()

    def succeeded(self) -> None:
        self.throttle = self.throttle.succeeded(self._clock())

    def refused(self, wished: float | None) -> None:
        self.throttle = self.throttle.refused(self._clock(), wished)

    def _next(self) -> None:
        """Give turns to those who may have one now, and come again when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            background, _, tokens, waiter = self._waiters[0]
            if waiter.done():
                heapq.heappop(self._waiters)
                continue
            if self.busy >= (_MOST - _LIVE_ONLY if background else _MOST):
                return
            if (wait := self.wait) > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._next)
                return
            heapq.heappop(self._waiters)
            self.busy += 1
            self.throttle = self.throttle.sent(self._clock(), tokens)
            waiter.set_result(None)
