"""How full this container is: its memory and its CPU as shares of their limits, read at most once a second.

A backfill pod asks before each request how much it may carry (`core.batching`). A pod is one process, so its CPU time
is the container's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from reembed import cgroup

_SECONDS = 1.0


class ContainerPressure:
    """Readings of this container; the CPU's is over the time since the last one, None before there are two."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.process_time,
        memory: Callable[[], cgroup.Memory] = cgroup.memory,
        cpus: Callable[[], float] = cgroup.cpus,
    ) -> None:
        self._clock = clock
        self._worked = worked
        self._memory = memory
        self._cpus = cpus
        self._at, self._seconds = clock(), worked()
        self._last: tuple[float | None, float | None] = (self._memory_share(), None)

    def __call__(self) -> tuple[float | None, float | None]:
        """Return memory and CPU as shares of their limits."""
        now = self._clock()
        if now - self._at >= _SECONDS:
            seconds = self._worked()
            cpu = (seconds - self._seconds) / (now - self._at) / self._cpus()
            self._at, self._seconds = now, seconds
            self._last = (self._memory_share(), cpu)
        return self._last

    def _memory_share(self) -> float | None:
        memory = self._memory()
        return memory.used / memory.limit if memory.limit else None
