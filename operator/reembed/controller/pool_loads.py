"""Asks the pods of pools in use what they carry, and keeps what they said.

A pool that scales, or whose migration's other pool does, is asked every five seconds, others once a minute for their
memory's sake. The looks of many pools do not keep step.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from reembed.controller.scrape import Pods
from reembed.core.load import Load, sampled

_OFTEN = timedelta(seconds=5)
_SELDOM = timedelta(minutes=1)
_SHORTEST = 0.75


class PoolLoads:
    """The load of each pool that is in use, by namespace and name."""

    def __init__(self, scrape: Pods) -> None:
        self._scrape = scrape
        self._loads: dict[str, dict[str, Load]] = {}
        self._looked: dict[tuple[str, str], datetime] = {}

    def of(self, namespace: str) -> Mapping[str, Load]:
        """Return the loads of a namespace's pools by name."""
        return self._loads.get(namespace, {})

    def forget(self, namespace: str, pool: str) -> None:
        self._loads.get(namespace, {}).pop(pool, None)
        self._looked.pop((namespace, pool), None)

    async def look(self, namespace: str, pool: str, ready: Mapping[str, str], now: datetime) -> None:
        """Ask the ready pods (name -> address) of a pool."""
        self._looked[namespace, pool] = now
        scraped = await self._scrape.metrics(ready) if ready else {}
        found = {pod: sampled(samples) for pod, samples in scraped.items()}
        loads = self._loads.setdefault(namespace, {})
        loads[pool] = loads.get(pool, Load()).add(found, ready, now)

    def due(self, namespace: str, pool: str, now: datetime, *, often: bool) -> timedelta:
        """Return in how much time the next look is due; a clock that was set back makes it due at once."""
        last = self._looked.get((namespace, pool))
        if last is None or last > now:
            return timedelta(0)
        return max(last + _period(f"{namespace}/{pool}", often=often) - now, timedelta(0))


def _period(name: str, *, often: bool) -> timedelta:
    share = (zlib.crc32(name.encode()) & 0xFFFF) / 0x10000
    return (_OFTEN if often else _SELDOM) * (_SHORTEST + (1 - _SHORTEST) * share)
