"""Who may ask the endpoint next: live before background, at the throttle's rate, so many at a time.

Background texts starve for at most five seconds: then one request of theirs goes first, as in an engine of our own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from reembed.embedder.hosted.throttle import Throttle

# Requests under way at a time: enough for an endpoint that needs a second, at the rates that are usual.
_MOST = 16
# Kept for live texts.
_LIVE_ONLY = 4
_LONGEST_STARVING = 5.0

# Tokens of a request, and who waits to send it.
_Waiter = tuple[int, asyncio.Future[None]]


class Turns:
    """A queue before an endpoint. All methods belong to one event loop."""

    def __init__(self, throttle: Throttle, clock: Callable[[], float]) -> None:
        self.throttle = throttle
        self._clock = clock
        self._live: deque[_Waiter] = deque()
        self._background: deque[_Waiter] = deque()
        self._fed = clock()  # when background texts last had a turn, or nobody waited
        self._timer: asyncio.TimerHandle | None = None
        self.busy = 0

    @property
    def wait(self) -> float:
        """Return for how many seconds nobody may ask."""
        return self.throttle.wait(self._clock())

    async def take(self, tokens: int, *, background: bool) -> None:
        """Wait for a turn; whoever got one gives it back with `leave`."""
        waiter = asyncio.get_running_loop().create_future()
        if background and not self._background:
            self._fed = self._clock()
        (self._background if background else self._live).append((tokens, waiter))
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
        while (line := self._line()) is not None:
            if (wait := self.wait) > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._next)
                return
            tokens, waiter = line.popleft()
            if line is self._background:
                self._fed = self._clock()
            self.busy += 1
            self.throttle = self.throttle.sent(self._clock(), tokens)
            waiter.set_result(None)

    def _line(self) -> deque[_Waiter] | None:
        """Return the line whose first one is next, None if nobody may have a turn."""
        for line in (self._live, self._background):
            while line and line[0][1].done():  # it left
                line.popleft()
        fits = bool(self._background) and self.busy < _MOST - _LIVE_ONLY
        starving = self._clock() - self._fed >= _LONGEST_STARVING
        if fits and (starving or not self._live):
            return self._background
        return self._live if self._live and self.busy < _MOST else None
