"""The operator's own small HTTP server: liveness, readiness, metrics.

`/healthz` says that the process turns, and is what restarts it; `/ready` whether it has seen every namespace whole, and
so leads or could lead at once. A replica on standby is ready: else a roll-out would wait for it for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from reembed import monitoring
from reembed.controller.migration_metrics import MigrationCollector, MigrationMetrics, ended
from reembed.controller.pool_metrics import PoolCollector, PoolMetrics, recycled
from reembed.controller.readiness import Readiness
from reembed.core import names
from reembed.core.quorum.acted import Act
from reembed.monitoring import Report


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
        self._acts = Counter(
            "reembed_operator_panel_acts",
            "What a quorum of agents told the operator to do, and whether it could",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self._pools = PoolCollector()
        self.registry.register(self._pools)
        self.ended = ended(self.registry)
        self._migrations = MigrationCollector()
        self.registry.register(self._migrations)
        self._leader = Gauge("reembed_operator_leader", "1 if this replica leads, else 0", registry=self.registry)

    def acted(self, act: Act) -> None:
        self._acts.labels(act.kind.value, "NotExecuted" if act.problem else "Executed").inc()

    def tell(
        self, readiness: Readiness, leads: Callable[[], bool], pools: PoolMetrics, migrations: MigrationMetrics
    ) -> None:
        """Have every scrape ask `readiness`, `leads`, and what is known of pools and migrations while it leads."""
        self._pools.known = lambda: pools.known if leads() else {}
        self._migrations.known = lambda: migrations.known if leads() else {}
        migrations.begin(readiness.namespaces)
        self._leader.set_function(leads)
        for namespace in readiness.namespaces:
            self._ready.labels(namespace).set_function(partial(readiness.ready, namespace))


def application(report: Report, metrics: Metrics) -> web.Application:
    return monitoring.application(report, metrics.registry, "/healthz")


def served(report: Report, metrics: Metrics) -> AbstractAsyncContextManager[None]:
    """Answer on the port of all components while the block runs."""
    return monitoring.served(application(report, metrics), names.PORT)
