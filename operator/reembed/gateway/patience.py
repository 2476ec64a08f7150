"""Awaits work for so long and no longer, even if it does not heed its cancellation.

A database driver that cancels a query waits for the server's word on it, which never comes from a server that is cut
off; so such work is left to end by itself. Used for every attempt of an arm, whether a caller waits for it or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class OutOfTime(Exception):
    """An arm did not answer before its deadline."""


class Patience:
    """Holds the work that was given up until it ends."""

    def __init__(self) -> None:
        self._given_up: set[asyncio.Future[Any]] = set()

    async def wait(self, work: Awaitable[T], seconds: float) -> T:
        """Return what `work` gives, or raise OutOfTime; if the caller is cancelled, so is the work."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=max(0.0, seconds))
        finally:
            if not task.done():
                task.cancel()
                self._given_up.add(task)
                task.add_done_callback(self._forget)
        if not task.done() or task.cancelled():
            raise OutOfTime(f"no answer within {seconds:.3g} s")
        return task.result()

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not report it as lost
