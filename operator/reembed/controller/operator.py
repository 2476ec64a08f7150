"""Puts the operator together: connection, cache, loops, lists, kopf's watches, and its own small HTTP server.

A namespace's objects are all listed before its first pass runs. Whatever a pass was in the middle of when the process
died is found again from the objects.

Of several replicas one leads; the others list and watch, and wait. Each term has an operator of its own: what a leader
remembered is worth nothing once another one may have written, so it begins anew with empty hands as if the process had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from time import monotonic, perf_counter
from typing import Any

import aiohttp

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.cluster.lease import Lease
from reembed.controller import relations
from reembed.controller.apply import Effects
from reembed.controller.cache import Cache, Key, Object, key_of
from reembed.controller.ending import Ending
from reembed.controller.handlers import concerned, under_way
from reembed.controller.indexes import Indexes
from reembed.controller.leading import Candidate, Fenced, Term
from reembed.controller.listing import KINDS, Lists
from reembed.controller.looks import Looks
from reembed.controller.loop import Ended, Loops
from reembed.controller.migration_metrics import MigrationMetrics
from reembed.controller.migrations import Migrations
from reembed.controller.nodes import Nodes
from reembed.controller.observe import Observer
from reembed.controller.pool_metrics import PoolMetrics
from reembed.controller.pools import Pools
from reembed.controller.prometheus import Prometheus
from reembed.controller.protection import Protection
from reembed.controller.readiness import Readiness, Standing
from reembed.controller.schema import Schema
from reembed.controller.scrape import HttpPods, Pods
from reembed.controller.serving import serve
from reembed.controller.settings import Election, Settings
from reembed.controller.shell import Clock, wall_clock
from reembed.controller.sizes import PoolLooks, Sizes
from reembed.controller.tasks import end
from reembed.controller.typed import Typed
from reembed.controller.vanished import Vanished
from reembed.controller.voting import Voting
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
        self.cache = Cache(self._news)
        self._writer = writer = Writer(cluster, self.cache)
        typed = Typed(self.cache)
        self._looks = Looks(scrape, prometheus)
        self._schema = Schema(cluster)
        self._voting = voting = Voting(cluster, settings.panel, self._voted, monotonic)
        observer = Observer(self.cache, typed, self._looks, self._schema, voting, settings.images.backfill)
        effects = Effects(cluster, self.cache, writer, Protection(self.cache, scrape, clock), voting, settings.images)
        vanished = Vanished(cluster, self.cache, observer, effects, clock)
        sizes = Sizes(self.cache, typed, PoolLooks.by(scrape, cluster), Nodes(cluster), settings)
        self.pools = PoolMetrics(metrics.recycled)
        self.migrations = MigrationMetrics(metrics.ended)
        self._passes = {
            kinds.POOL: Pools(self.cache, typed, writer, sizes, self.pools, clock).reconcile,
            kinds.INDEX: Indexes(self.cache, observer, effects, vanished, settings, clock).reconcile,
            kinds.MIGRATION: Migrations(self.cache, observer, effects, self.migrations, clock, metrics.acted).reconcile,
        }
        self.loops = Loops(self._pass, _LOGGER, self._urgent)
        self.readiness = Readiness(settings.namespaces, KINDS)
        self._ending = Ending(cluster, self.cache, writer)
        self._lists = Lists(cluster, self.cache, self.readiness, self._ending)

    async def run(self, stop: asyncio.Event, leads: asyncio.Event | None = None) -> None:
        """Serve all namespaces until `stop` is set, with loops once `leads` is; without it at once."""
        if leads is None:
            leads = asyncio.Event()
            leads.set()

        async def watched(namespace: str) -> None:
            await watch(namespace, self.cache, stop)

        await self._schema.look()
        looking = asyncio.create_task(self._schema.keep(), name="schema of the CRDs")
        voting = asyncio.create_task(self._voting.run(), name="votes of the panel")
        try:
            await serve(self._namespaces, self._lists, self.loops, watched, leads, stop)
        finally:
            await end((looking, voting))

    def _news(self, kind: Kind, obj: Object, before: Object | None) -> None:
        """Wake whom a change concerns; what pods said around a migration until then is not believed any more."""
        key = key_of(kind, obj)
        if before is None and self.cache.get(kind, key.namespace, key.name) is None:
            self._writer.forget(key)
        if kind == kinds.MIGRATION and before is None:
            # One that is gone is unwound by its index, from what is there then.
            self._looks.doubt(key.namespace, key.name)
        for key in concerned(kind, obj, self.cache, before):
            if key.kind == kinds.MIGRATION and kind != kinds.MIGRATION:
                self._looks.doubt(key.namespace, key.name)
            self.loops.wake(key)

    def _voted(self, slot: str) -> None:
        """Wake the migrations that have put something to the panel in this slot."""
        for namespace in self._namespaces:
            for migration in self.cache.related(kinds.MIGRATION, namespace, (relations.SLOT, slot)):
                self.loops.wake(key_of(kinds.MIGRATION, migration))

    def _urgent(self, key: Key) -> bool:
        """Return whether an object is a migration that is under way."""
        raw = self.cache.get(key.kind, key.namespace, key.name) if key.kind == kinds.MIGRATION else None
        return raw is not None and under_way(raw)

    async def _pass(self, key: Key) -> timedelta | Ended:
        began = perf_counter()
        try:
            return Ended.ENDED if await self._ending.let_go(key) else await self._passes[key.kind](key)
        except Exception:
            self._metrics.failures.labels(key.kind.name).inc()
            raise
        finally:
            self._metrics.seconds.labels(key.kind.name).observe(perf_counter() - began)


async def watch(namespace: str, cache: Cache, stop: asyncio.Event) -> None:
    """Watch a namespace with kopf, which takes long to load: migrations under way have had their first pass by now."""
    from reembed.controller import watching  # noqa: PLC0415

    await watching.watch(namespace, cache, stop)


class Replica:
    """One of several operators, from its start to its end: a new `Operator` for each of its terms."""

    def __init__(self, candidate: Candidate, make: Callable[[Term], Operator], metrics: Metrics) -> None:
        self._candidate = candidate
        self._make = make
        self._metrics = metrics
        self._begin()

    def _begin(self) -> None:
        self.term = Term()
        self.operator = self._make(self.term)
        operator = self.operator
        self._metrics.tell(operator.readiness, self.term.leads, operator.pools, operator.migrations)

    def report(self) -> tuple[bool, dict[str, Any]]:
        return self.operator.readiness.report(Standing(self.term.leads(), self.term.holder, self.term.problem))

    async def run(self, stop: asyncio.Event) -> None:
        """Stand for one term after the other until `stop` is set."""
        await self._one_term(stop)
        while not stop.is_set():
            self._begin()
            await self._one_term(stop)

    async def _one_term(self, stop: asyncio.Event) -> None:
        ends = asyncio.Event()
        standing = asyncio.create_task(self._candidate.stand(self.term), name="leader election")
        serving = asyncio.create_task(self.operator.run(ends, self.term.began), name="operator")
        serving.add_done_callback(lambda _: ends.set())
        try:
            await _any(stop, ends, self.term.over)
            if not self.term.over.is_set():
                stop.set()  # which it is not yet where kopf took the signal
            # Nothing may write any more before another may begin to.
            self.term.end()
            await self.operator.loops.close()
            await end((standing,))
            await self._candidate.hand_over(self.term)
        finally:
            ends.set()
            await end((standing,))
            await serving
        if not standing.cancelled():
            standing.result()


async def _any(*events: asyncio.Event) -> None:
    """Wait until one of `events` is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(waiting)


def _session() -> aiohttp.ClientSession:
    # Without a limit: those who wait for pods that are silent must not keep others from asking pods that are not. Pods
    # are asked by one address and know no cookies.
    connector = aiohttp.TCPConnector(limit=0, happy_eyeballs_delay=None)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def run(settings: Settings, election: Election, stop: asyncio.Event) -> None:
    """Run this replica of the operator until `stop` is set."""
    metrics = Metrics()
    # The Lease has a connection of its own: a renewal must not wait behind what a thousand passes send.
    async with Cluster.connect() as cluster, Cluster.connect() as for_lease, _session() as session:
        prometheus = Prometheus(session, settings.prometheus, monotonic) if settings.prometheus else None

        def make(term: Term) -> Operator:
            return Operator(Fenced(cluster, term), HttpPods(session), settings, metrics, prometheus=prometheus)

        lease = Lease(for_lease, election.namespace, election.lease)
        replica = Replica(Candidate(lease, election.identity), make, metrics)
        async with served(replica.report, metrics):
            await replica.run(stop)
