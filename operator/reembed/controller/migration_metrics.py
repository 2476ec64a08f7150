"""What Prometheus reads of migrations under way, and how many have ended how.

The figures are those of the last pass of each, and of this term alone, as with pools (`pool_metrics`). One that has
ended has none: it is counted by namespace, in counters that are there at zero from the start, so that the first one
shows as growth. Alerts are made of them (docs/alerts.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reembed.core.migration import Migration, Status
from reembed.core.reasons import BEFORE_PANEL
from reembed.core.transitions import FINISHED, State

# How a migration may end that somebody wants to know of; one that is deleted ends in none of them.
OUTCOMES = (State.SUCCEEDED, State.ROLLED_BACK, State.FAILED)


@dataclass(frozen=True, slots=True)
class Figures:
    """A migration under way as of its last pass."""

    state: str
    reason: str
    documents: int | None  # None before its backfill has told how far it is
    panel_since: datetime | None  # since when it waits for the panel; None while it does not
    panel_deadline: timedelta  # that its user gives the panel


# Namespace and name of each migration under way.
Known = Mapping[tuple[str, str], Figures]


def ended(registry: CollectorRegistry) -> Counter:
    """Return the counter that outlives terms."""
    text = "Migrations that ended since this process began"
    return Counter("reembed_migrations_ended", text, ["namespace", "outcome"], registry=registry)


class MigrationMetrics:
    """The figures of one term."""

    def __init__(self, ended: Counter) -> None:
        self._ended = ended
        self.known: dict[tuple[str, str], Figures] = {}

    def begin(self, namespaces: Iterable[str]) -> None:
        """Let the counters of these namespaces be there."""
        for namespace in namespaces:
            for outcome in OUTCOMES:
                self._ended.labels(namespace, outcome.value)

    def take(self, migration: Migration, status: Status, now: datetime) -> None:
        """Note what a pass made of a migration; told after its status was written."""
        where = (migration.meta.namespace, migration.meta.name)
        if status.state not in FINISHED:
            self.known[where] = _figures(migration, status, self.known.get(where), now)
            return
        self.known.pop(where, None)
        if status.state in OUTCOMES and migration.status.state not in FINISHED:
            self._ended.labels(migration.meta.namespace, status.state.value).inc()

    def forget(self, namespace: str, name: str) -> None:
        self.known.pop((namespace, name), None)


def _figures(migration: Migration, status: Status, before: Figures | None, now: datetime) -> Figures:
    return Figures(
        status.state.value,
        status.reason,
        status.backfill.documents if status.backfill is not None else None,
        _panel_since(status, before, now),
        migration.spec.consensus.deadline,
    )


def _panel_since(status: Status, before: Figures | None, now: datetime) -> datetime | None:
    """Return since when the panel is waited for; what is asked again after a refusal waits since the first time."""
    if status.reason not in BEFORE_PANEL:
        return None
    if before is not None and before.panel_since is not None:
        return before.panel_since
    # Another operator may have put it to the panel before this one began.
    asked = status.asked
    return asked.opened_at if asked is not None and not asked.certified else now


class MigrationCollector(Collector):
    """Asks the operator of the present term at every scrape."""

    def __init__(self) -> None:
        self.known: Callable[[], Known] = dict

    def collect(self) -> Iterable[GaugeMetricFamily]:
        known = self.known()
        state = _family("state", "1 for the state that a migration under way is in, and why", "state", "reason")
        documents = _family("backfilled_documents", "Documents that have a vector in the new collection")
        since = _family(
            "panel_waiting_since_timestamp_seconds", "When a migration began to wait for the panel, while it does"
        )
        deadline = _family("panel_deadline_seconds", "For how long the panel may take, where it is waited for")
        for labels, one in known.items():
            state.add_metric([*labels, one.state, one.reason], 1)
            if one.documents is not None:
                documents.add_metric(labels, one.documents)
            if one.panel_since is not None:
                since.add_metric(labels, one.panel_since.timestamp())
                deadline.add_metric(labels, one.panel_deadline.total_seconds())
        return [state, documents, since, deadline]


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"reembed_migration_{name}", text, labels=["namespace", "migration", *labels])
