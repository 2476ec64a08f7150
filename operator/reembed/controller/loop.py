"""One level-triggered loop per object: a pass, then sleep until something changed or it is time to look again.

kopf's watches call `wake`; a pass returns when to look again whatever happens, so a lost event costs time but never
progress. A pass that fails is repeated with a growing pause; what it raises never ends the loop of another object.
Passes of one object never overlap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from reembed.cluster.client import ClusterError, Conflict
from reembed.controller.cache import Key
from reembed.controller.tasks import end

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# Without any event each object is looked at this often: the answer to events that never came.
RESYNC = timedelta(seconds=30)


class Ended(Enum):
    """The object is gone: its loop ends with it."""

    ENDED = "Ended"


Pass = Callable[[Key], Awaitable[timedelta | Ended]]


@dataclass
class _Live:
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Loops:
    """The running loops, one per key."""

    def __init__(self, run_pass: Pass, logger: logging.Logger) -> None:
        self._pass = run_pass
        self._logger = logger
        self._live: dict[Key, _Live] = {}
        self._open: set[str] = set()

    def open(self, namespace: str) -> None:
        """Start to run passes in `namespace`; what was woken before waits until now."""
        self._open.add(namespace)
        for key in list(self._live):
            if key.namespace == namespace:
                self.wake(key)

    def wake(self, key: Key) -> None:
        """Have a pass over `key` as soon as possible."""
        live = self._live.setdefault(key, _Live())
        live.changed.set()
        if key.namespace in self._open and live.task is None:
            live.task = asyncio.create_task(self._run(key, live), name=f"{key.kind.name} {key.namespace}/{key.name}")

    async def close(self) -> None:
        """End all loops; a pass in the middle of its effects is cut off and found again by the next operator."""
        self._open.clear()
        await end([live.task for live in self._live.values() if live.task is not None])

    async def _run(self, key: Key, live: _Live) -> None:
        failures = 0
        while True:
            live.changed.clear()
            try:
                again = await self._pass(key)
                failures = 0
            except Conflict:
                # Somebody wrote first; the cache holds the newer object by now.
                again = timedelta(seconds=0.1)
            except ClusterError as error:
                failures += 1
                again = timedelta(seconds=min(_FIRST_PAUSE * 2**failures, _LONGEST_PAUSE))
                self._logger.warning("%s %s: %s; again in %s", key.kind.name, key.name, error, again)
            except Exception:
                failures += 1
                again = timedelta(seconds=min(_FIRST_PAUSE * 2**failures, _LONGEST_PAUSE))
                self._logger.exception("%s %s: a pass failed; again in %s", key.kind.name, key.name, again)
            if isinstance(again, Ended):
                if live.changed.is_set():  # another object of the same name came meanwhile
                    continue
                del self._live[key]
                return
            try:
                # Not wait_for: in Python 3.11 it can lose a cancellation that comes with the event.
                async with asyncio.timeout(again.total_seconds()):
                    await live.changed.wait()
            except TimeoutError:
                continue
