"""Puts the operator together: connection, cache, loops, kopf's watches, and its own small HTTP server.

Start-up lists every object before the first pass runs. The end of the process needs no order: whatever a pass was in
the middle of is found again from the objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import perf_counter
from typing import Any

import aiohttp
import kopf
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Object
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, key_of
from reembed.controller.handlers import CHILD_LABELS, CHILDREN, OWN, register
from reembed.controller.indexes import Indexes
from reembed.controller.loop import Ended, Loops
from reembed.controller.migrations import Migrations
from reembed.controller.observe import Observer
from reembed.controller.pools import Pools
from reembed.controller.scrape import HttpPods, Pods
from reembed.controller.settings import Settings
from reembed.controller.shell import Clock, wall_clock
from reembed.controller.writer import Writer
from reembed.core import names

# Between two tries to list a kind at start-up, in seconds.
_START_PAUSE = 1.0

_LOGGER = logging.getLogger("reembed.controller")


class Metrics:
    """What Prometheus reads of the operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.seconds = Histogram(
            "reembed_operator_pass_seconds", "Duration of one pass", ["kind"], registry=self.registry
        )
        self.failures = Counter(
            "reembed_operator_pass_failures", "Passes that ended with an error", ["kind"], registry=self.registry
        )


class Operator:
    """The loops of all objects of some namespaces."""

    def __init__(
        self, cluster: Cluster, scrape: Pods, settings: Settings, metrics: Metrics, clock: Clock = wall_clock
    ) -> None:
        self._cluster = cluster
        self._namespaces = settings.namespaces
        self._metrics = metrics
        self.cache = Cache()
        writer = Writer(cluster, self.cache)
        observer = Observer(self.cache, scrape, settings.images.backfill)
        self._passes = {
            kinds.POOL: Pools(self.cache, writer, settings, clock).reconcile,
            kinds.INDEX: Indexes(self.cache, writer, observer, settings, clock).reconcile,
            kinds.MIGRATION: Migrations(self.cache, writer, observer, settings, clock).reconcile,
        }
        self.loops = Loops(self._pass, _LOGGER)

    async def start(self) -> None:
        """List everything, then let the loops run."""
        for namespace in self._namespaces:
            for kind in (*OWN, *CHILDREN):
                selector = "" if kind in OWN else ",".join(f"{label}={value}" for label, value in CHILD_LABELS.items())
                for obj in await self._listed(kind, namespace, selector):
                    self.cache.put(kind, obj)
                    if kind in OWN:
                        self.loops.wake(key_of(kind, obj))
        self.loops.open()

    async def _listed(self, kind: Kind, namespace: str, selector: str) -> list[Object]:
        """List a kind; one that the API server does not serve yet (its CRD was made a moment ago) is waited for."""
        while True:
            try:
                return await self._cluster.list(kind, namespace, selector=selector)
            except ClusterError as error:
                _LOGGER.warning("cannot list %s in %s yet: %s", kind.plural, namespace, error)
                await asyncio.sleep(_START_PAUSE)

    async def stop(self) -> None:
        await self.loops.close()

    async def _pass(self, key: Key) -> timedelta | Ended:
        began = perf_counter()
        try:
            return await self._passes[key.kind](key)
        except Exception:
            self._metrics.failures.labels(key.kind.name).inc()
            raise
        finally:
            self._metrics.seconds.labels(key.kind.name).observe(perf_counter() - began)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the operator until `stop` is set."""
    metrics = Metrics()
    async with Cluster.connect() as cluster, aiohttp.ClientSession() as session, _served(metrics):
        operator = Operator(cluster, HttpPods(session), settings, metrics)
        await operator.start()
        try:
            await watch(operator, settings.namespaces, stop)
        finally:
            await operator.stop()


async def watch(operator: Operator, namespaces: tuple[str, ...], stop: asyncio.Event) -> None:
    """Run kopf's watches until `stop` is set."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    register(registry, operator.cache, operator.loops)
    await kopf.operator(
        registry=registry,
        settings=_kopf_settings(),
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
    )


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's account, or as a developer's own configuration says."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no rights on namespaces and CRDs are needed
    settings.posting.enabled = False  # events are posted by `controller.writer`
    settings.networking.request_timeout = 30  # the default of five minutes would look like a freeze
    settings.watching.server_timeout = 60
    settings.queueing.worker_limit = 100
    return settings


@asynccontextmanager
async def _served(metrics: Metrics) -> AsyncIterator[None]:
    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def scrape(_: web.Request) -> web.Response:
        text = generate_latest(metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    application = web.Application()
    application.add_routes([web.get("/healthz", health), web.get("/metrics", scrape)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=names.PORT).start()
    try:
        yield
    finally:
        await runner.cleanup()
