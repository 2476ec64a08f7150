"""Puts the operator together: connection, cache, loops, lists, kopf's watches, and its own small HTTP server.

A namespace's objects are all listed before its first pass runs. The end of the process needs no order: whatever a pass
was in the middle of is found again from the objects.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from time import perf_counter

import aiohttp

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller.cache import Cache, Key
from reembed.controller.ending import Ending
from reembed.controller.indexes import Indexes
from reembed.controller.listing import KINDS, Lists
from reembed.controller.loop import Ended, Loops
from reembed.controller.migrations import Migrations
from reembed.controller.observe import Observer
from reembed.controller.pools import Pools
from reembed.controller.readiness import Readiness
from reembed.controller.scrape import HttpPods, Pods
from reembed.controller.serving import serve
from reembed.controller.settings import Settings
from reembed.controller.shell import Clock, wall_clock
from reembed.controller.watching import watch
from reembed.controller.web import Metrics, served
from reembed.controller.writer import Writer

_LOGGER = logging.getLogger("reembed.controller")


class Operator:
    """The loops of all objects of some namespaces."""

    def __init__(
        self, cluster: Cluster, scrape: Pods, settings: Settings, metrics: Metrics, clock: Clock = wall_clock
    ) -> None:
        self._namespaces = settings.namespaces
        self._metrics = metrics
        self.cache = Cache()
        writer = Writer(cluster, self.cache)
        observer = Observer(self.cache, scrape, settings.images.backfill)
        self._passes = {
            kinds.POOL: Pools(self.cache, writer, settings, clock).reconcile,
            kinds.INDEX: Indexes(cluster, self.cache, writer, observer, settings, clock).reconcile,
            kinds.MIGRATION: Migrations(self.cache, writer, observer, settings, clock).reconcile,
        }
        self.loops = Loops(self._pass, _LOGGER)
        self.readiness = Readiness(settings.namespaces, KINDS)
        self._ending = Ending(cluster, self.cache, writer)
        self._lists = Lists(cluster, self.cache, self.loops, self.readiness, self._ending)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve all namespaces until `stop` is set."""

        async def watched(namespace: str) -> None:
            await watch(namespace, self.cache, self.loops, stop)

        await serve(self._namespaces, self._lists, self.loops, watched, stop)

    async def _pass(self, key: Key) -> timedelta | Ended:
        began = perf_counter()
        try:
            return Ended.ENDED if await self._ending.let_go(key) else await self._passes[key.kind](key)
        except Exception:
            self._metrics.failures.labels(key.kind.name).inc()
            raise
        finally:
            self._metrics.seconds.labels(key.kind.name).observe(perf_counter() - began)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the operator until `stop` is set."""
    metrics = Metrics()
    async with Cluster.connect() as cluster, aiohttp.ClientSession() as session:
        operator = Operator(cluster, HttpPods(session), settings, metrics)
        metrics.tell(operator.readiness)
        async with served(operator.readiness, metrics):
            await operator.run(stop)
