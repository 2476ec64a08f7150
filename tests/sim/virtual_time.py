"""An event loop whose time jumps to the next timer, and that knows no I/O at all.

`looptime` gives other tests virtual time in a loop that can still read sockets, at some forty turns of the selector per
step. A life of a migration has a thousand steps and a night's run has millions of lives, so this one has no selector:
where nobody waits for a timer, nobody will ever run again, and that is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(Exception):
    """Nothing is ready and no timer runs: whatever is awaited will never come."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their times, and no time passes but that between them."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Stand in for a selector: what waits until the next timer is the time itself."""
        if timeout is None:
            raise Stuck("nothing is ready and no timer runs")
        if timeout > 0:
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time, and end whatever it leaves behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel(loop)
        finally:
            loop.close()


def _cancel(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
