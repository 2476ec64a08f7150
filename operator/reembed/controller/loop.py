"""One level-triggered loop per object: a pass, then sleep until something changed or it is time to look again.

What changes the cache calls `wake`; a pass returns when to look again whatever happens, so a lost event costs time but
never progress. A pass that fails is repeated with a growing pause, and what it raises ends no other object's loop.
Passes of one object never overlap. An object that rests has no loop: the next change of it begins one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from reembed.cluster.client import ClusterError, Conflict
from reembed.controller.cache import Key
from reembed.controller.tasks import end

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# Without any event each object is looked at this often: the answer to what no event tells. Lost events are found by the
# lists of each minute.
RESYNC = timedelta(minutes=5)
# For so many seconds all else waits at a start for the first passes of what is urgent.
_HEAD_START = 2.0
_AT_ONCE = 16
# Of what can wait at a start, so many objects have their first pass before other work has its turn.
_TOGETHER = 10


class Ended(Enum):
    """The object is gone, or nothing but a change of it matters: its loop ends."""

    ENDED = "Ended"


Pass = Callable[[Key], Awaitable[timedelta | Ended]]
# Whether an object's first pass after a start must not wait for those of others.
Urgent = Callable[[Key], bool]


@dataclass
class _Live:
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    passed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Loops:
    """The running loops, one per key."""

    def __init__(self, run_pass: Pass, logger: logging.Logger, urgent: Urgent = lambda _: False) -> None:
        self._pass = run_pass
        self._logger = logger
        self._urgent = urgent
        self._live: dict[Key, _Live] = {}
        self._open: set[str] = set()

    async def open(self, namespace: str, waiting: Sequence[Key]) -> None:
        """Start to run passes in `namespace`, first of all those of what is urgent among what waits."""
        self._open.add(namespace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEAD_START):
                await self._first([key for key in waiting if self._urgent(key)])
        for number, key in enumerate(waiting):
            if key not in self._live:
                self.wake(key)
            if number % _TOGETHER == 0:
                await asyncio.sleep(0)

    async def _first(self, urgent: Sequence[Key]) -> None:
        """Have the first passes of what is urgent: some at a time, so that the first are done when the last begin."""
        lives: list[_Live] = []
        for number, key in enumerate(urgent):
            if number >= _AT_ONCE:
                await lives[number - _AT_ONCE].passed.wait()
            self.wake(key)
            lives.append(self._live[key])
        for live in lives:
            await live.passed.wait()

    def wake(self, key: Key) -> None:
        """Have a pass over `key` as soon as possible; before its namespace is open, that is when it is opened."""
        if key.namespace not in self._open:
            return
        live = self._live.setdefault(key, _Live())
        live.changed.set()
        if live.task is None:
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
            live.passed.set()
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
