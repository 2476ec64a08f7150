"""An event loop whose time jumps to the next timer, that knows no I/O at all, and in which a process can be frozen.

`looptime` gives other tests virtual time in a loop that can still read sockets, at some forty turns of the selector per
step. A life of a migration has a thousand steps and a night's run has millions of lives, so this one has no selector:
where nobody waits for a timer, nobody will ever run again, and that is an error.

Whatever runs in a context in which `PROCESS` is set is that process's. One that is frozen, as by SIGSTOP, runs nothing;
what became due meanwhile runs when it is thawed, in its order, as if no time had passed. What the world does for a
process (carrying its requests) runs in `WORLD`, so that a frozen process's request arrives all the same.
"""

from __future__ import annotations

import asyncio
from asyncio.events import Handle
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from heapq import heappop
from typing import Any, TypeVar

T = TypeVar("T")

PROCESS: ContextVar[str] = ContextVar("PROCESS", default="")
WORLD = Context()
# Timers that are so near to each other go off together.
_INSTANT = 1e-9


class Stuck(Exception):
    """Nothing is ready and no timer runs: whatever is awaited will never come."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their times, and no time passes but that between them."""

    # asyncio's own, which are part of what a loop may be derived from.
    _ready: Any
    _scheduled: Any
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._frozen: dict[str, list[Handle]] = {}

    def time(self) -> float:
        return self._now

    def freeze(self, process: str) -> None:
        self._frozen.setdefault(process, [])

    def thaw(self, process: str) -> None:
        """Let a process go on with what it had in hand."""
        self._ready.extend(self._frozen.pop(process, ()))

    def thaw_all(self) -> None:
        for process in tuple(self._frozen):
            self.thaw(process)

    def _run_once(self) -> None:
        """Run what is ready, and what is due with it: asyncio's own turn, without its selector."""
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:
            if not scheduled:
                raise Stuck("nothing is ready and no timer runs")
            self._now = max(self._now, scheduled[0]._when)
        due = self._now + _INSTANT
        while scheduled and scheduled[0]._when < due:
            timer = heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            self._turn(ready.popleft())

    def _turn(self, handle: Any) -> None:
        if handle._cancelled:
            return
        held = self._frozen.get(handle._context.get(PROCESS, "")) if self._frozen else None
        if held is None:
            handle._run()
        else:
            held.append(handle)

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time, and end whatever it leaves behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            loop.thaw_all()
            _cancel(loop)
        finally:
            loop.close()


def running() -> VirtualLoop:
    """Return the loop that runs now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def _cancel(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
