"""Puts the operator together: connection, cache, loops, lists, kopf's watches, and its own small HTTP server.

A namespace's objects are all listed before its first pass runs. The end of the process needs no order: whatever a pass
was in the middle of is found again from the objects.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from time import monotonic, perf_counter

import aiohttp

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller.apply import Effects
from reembed.controller.cache import Cache, Key
from reembed.controller.ending import Ending
from reembed.controller.indexes import Indexes
from reembed.controller.listing import KINDS, Lists
from reembed.controller.loop import Ended, Loops
from reembed.controller.migrations import Migrations
from reembed.controller.observe import Observer
from reembed.controller.pools import Pools
from reembed.controller.prometheus import Prometheus
from reembed.controller.protection import Protection
from reembed.controller.readiness import Readiness
from reembed.controller.scrape import HttpPods, Pods
from reembed.controller.serving import serve
from reembed.controller.settings import Settings
from reembed.controller.shell import Clock, wall_clock
from reembed.controller.vanished import Vanished
from reembed.controller.watching import watch
from reembed.controller.web import Metrics, served
from reembed.controller.writer import Writer

_LOGGER = logging.getLogger("reembed.controller")


class Operator:
    """The loops of all objects of some namespaces."""

    def __init__(
        self,
        cluster: Cluster,
        scrape: Pods,
        settings: Settings,
        metrics: Metrics,
        clock: Clock = wall_clock,
        prometheus: Prometheus | None = None,
    ) -> None:
        self._namespaces = settings.namespaces
        self._metrics = metrics
        self.cache = Cache()
        writer = Writer(cluster, self.cache)
        observer = Observer(self.cache, scrape, prometheus, settings.images.backfill)
        effects = Effects(cluster, self.cache, writer, Protection(self.cache, scrape, clock), settings.images)
        vanished = Vanished(cluster, self.cache, observer, effects, clock)
        self._passes = {
            kinds.POOL: Pools(self.cache, writer, settings, clock).reconcile,
            kinds.INDEX: Indexes(self.cache, observer, effects, vanished, settings, clock).reconcile,
            kinds.MIGRATION: Migrations(self.cache, observer, effects, clock).reconcile,
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
        prometheus = Prometheus(session, settings.prometheus, monotonic) if settings.prometheus else None
        operator = Operator(cluster, HttpPods(session), settings, metrics, prometheus=prometheus)
        metrics.tell(operator.readiness)
        async with served(operator.readiness, metrics):
            await operator.run(stop)
