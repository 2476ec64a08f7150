"""What an index wants of its store, read from the API server; the only module of this room that knows Kubernetes.

A watch brings changes at once, a reading every ten seconds brings what a watch missed. Both end in the same call, so
the order and the number of deliveries mean nothing. Without the API server the worker goes on with what it knows: the
plan only changes there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.api import InvalidField, parse_index
from reembed.backfill.worker import Wanted
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError

log = logging.getLogger(__name__)

_READ_EVERY = 10.0
_WATCH_AGAIN = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the index."""

    uid: str
    wanted: Wanted


class PlanSource:
    """One index in one cluster."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    async def first(self) -> Reading:
        """Return what the index says, as soon as it can be read."""
        while True:
            if (reading := await self._read()) is not None:
                return reading
            await asyncio.sleep(_WATCH_AGAIN)

    async def follow(self, tell: Callable[[Reading], None]) -> None:
        """Tell each reading, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_for_ever(tell))
            tasks.create_task(self._watch_for_ever(tell))

    async def _read_for_ever(self, tell: Callable[[Reading], None]) -> None:
        while True:
            if (reading := await self._read()) is not None:
                tell(reading)
            await asyncio.sleep(_READ_EVERY)

    async def _watch_for_ever(self, tell: Callable[[Reading], None]) -> None:
        while True:
            try:
                async for event, found in self._cluster.watch(kinds.INDEX, self._namespace, name=self._name):
                    if event != "DELETED" and (reading := _parsed(found)) is not None:
                        tell(reading)
            except (ClusterError, OSError, TimeoutError, ValueError) as error:
                log.info("the watch of the index ended: %s", error)
            # Also after an orderly end: a server that ends each watch at once must not be asked without a pause.
            await asyncio.sleep(_WATCH_AGAIN)

    async def _read(self) -> Reading | None:
        try:
            found = await self._cluster.get(kinds.INDEX, self._namespace, self._name)
        except (ClusterError, OSError, TimeoutError) as error:
            log.warning("the index was not read: %s; the store is kept as it was last planned", error)
            return None
        return None if found is None else _parsed(found)


def _parsed(found: Mapping[str, Any]) -> Reading | None:
    try:
        meta, spec, status = parse_index(found)
    except InvalidField as error:
        log.warning("the index can't be understood: %s; the store is kept as it was last planned", error)
        return None
    arms = (status.routing.serving, status.routing.candidate)
    answering = frozenset(arm.collection for arm in arms if arm is not None)
    return Reading(meta.uid, Wanted(spec, status.plan, meta.deleting, answering))
