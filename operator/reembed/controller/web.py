"""The operator's own small HTTP server: liveness, readiness, metrics.

`/healthz` says that the process turns, and is what restarts it; `/ready` whether it has seen every namespace whole, and
so leads or could lead at once. A replica on standby is ready: else a roll-out would wait for it for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector

from reembed.controller.pool_metrics import PoolCollector, PoolMetrics, recycled
from reembed.controller.readiness import Readiness
from reembed.core import names


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
        self._ready = Gauge(
            "reembed_operator_namespace_ready",
            "1 if everything of the namespace could be listed at the last try, else 0",
            ["namespace"],
            registry=self.registry,
        )
        self.recycled = recycled(self.registry)
        self._pools = PoolCollector()
        self.registry.register(self._pools)
        self._leader = Gauge("reembed_operator_leader", "1 if this replica leads, else 0", registry=self.registry)

    def tell(self, readiness: Readiness, leads: Callable[[], bool], pools: PoolMetrics) -> None:
        """Have every scrape ask `readiness`, `leads`, and what is known of `pools` while this replica leads."""
        self._pools.known = lambda: pools.known if leads() else {}
        self._leader.set_function(leads)
        for namespace in readiness.namespaces:
            self._ready.labels(namespace).set_function(partial(readiness.ready, namespace))


# Whether the process is ready, and what it says about that.
Report = Callable[[], tuple[bool, dict[str, Any]]]


def application(report: Report, metrics: Metrics) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        is_ready, answer = report()
        return web.json_response(answer, status=200 if is_ready else 503)

    async def scrape(_: web.Request) -> web.Response:
        text = generate_latest(metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    made = web.Application()
    made.add_routes([web.get("/healthz", health), web.get("/ready", ready), web.get("/metrics", scrape)])
    return made


@asynccontextmanager
async def served(report: Report, metrics: Metrics) -> AsyncIterator[None]:
    """Answer on the port of all components while the block runs."""
    runner = web.AppRunner(application(report, metrics), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=names.PORT).start()
    try:
        yield
    finally:
        await runner.cleanup()
