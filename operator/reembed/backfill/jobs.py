"""Work of the store worker, each piece a task of its own: an index build must not hold up a rollback.

The worker's pass asks for work on something by name and looks again at its next pass. Work of another kind on the same
thing ends what runs: who wants a collection withdrawn has no use for its index. What failed is left alone for a while,
and its problem is kept for the report until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.core.model import Problem
from reembed.stores.protocol import StoreError, StoreUnavailable, Unfit

log = logging.getLogger(__name__)

# Between attempts at what an administrator has to heal, and at what heals by itself.
_AGAIN_SECONDS = 60.0
_SOON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a kind of work on something failed, and before when it is not tried again."""

    kind: str
    problem: Problem
    not_before: float


class Jobs:
    """Tasks by the name of what they work on, at most one each."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[str, tuple[str, asyncio.Task[Any]]] = {}
        self._failures: dict[str, Failure] = {}

    @property
    def running(self) -> bool:
        return bool(self._tasks)

    @property
    def problems(self) -> Mapping[str, Problem]:
        """Why the last work on a name failed."""
        return {name: failure.problem for name, failure in self._failures.items()}

    def works_on(self, name: str) -> bool:
        return name in self._tasks

    def ask(self, name: str, kind: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start the work unless it runs already or failed a moment ago; end work of another kind, to start later."""
        if name in self._tasks:
            running, task = self._tasks[name]
            if running != kind:
                task.cancel()
            return
        failure = self._failures.get(name)
        if failure is not None and failure.kind == kind and self._clock() < failure.not_before:
            return
        task = asyncio.create_task(work(), name=f"{kind} {name}")
        self._tasks[name] = (kind, task)
        task.add_done_callback(lambda done: self._ended(name, kind, done))

    async def stop(self) -> None:
        """End everything and wait until it has let go of the store."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, name: str, kind: str, task: asyncio.Task[Any]) -> None:
        del self._tasks[name]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failures.pop(name, None)
            return
        log.warning("%s of %s failed: %s", kind, name, error, exc_info=None if isinstance(error, StoreError) else error)
        wait = _SOON_SECONDS if isinstance(error, StoreUnavailable) else _AGAIN_SECONDS
        self._failures[name] = Failure(kind, problem_of(error), self._clock() + wait)


def problem_of(error: BaseException) -> Problem:
    """Return what an error of the store means to whoever reads the status."""
    if isinstance(error, Unfit):
        return error.problem
    if isinstance(error, StoreUnavailable):
        return Problem("StoreUnreachable", str(error))
    if isinstance(error, StoreError):
        return Problem("StoreRefused", str(error))
    return Problem("WorkerFailed", f"{type(error).__name__} in the store worker; it is tried again, its log has more")
