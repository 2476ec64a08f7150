"""What a backfill pod and a store worker tell Prometheus; each process has a registry of its own."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from reembed.core.model import InspectionReport

QUEUES = ("read", "embedded", "validated")


class Metrics:
    """A backfill pod's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.documents = Counter(
            "reembed_backfill_documents", "Documents stored with a vector.", registry=self.registry
        )
        self.rejected = Counter(
            "reembed_backfill_rejected", "Documents that cannot have a vector.", ["reason"], registry=self.registry
        )
        self.stage_seconds = Counter(
            "reembed_backfill_stage_seconds",
            "Time that the stages of the pipeline worked; its embedding requests run concurrently and add up.",
            ["stage"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "reembed_backfill_queue_documents", "Documents that wait behind a stage.", ["queue"], registry=self.registry
        )
        self.requests_limit = Gauge(
            "reembed_backfill_requests_limit",
            "Requests that may be under way; below one there are rests between them.",
            registry=self.registry,
        )
        self.throttled_seconds = Counter(
            "reembed_backfill_throttled_seconds",
            "Time in which less was embedded because somebody suffered: store or queries.",
            ["throttled_by"],
            registry=self.registry,
        )


class WorkerMetrics:
    """A store worker's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.passes = Counter(
            "reembed_worker_passes",
            "Passes over the index's plan, by how they ended.",
            ["outcome"],  # done, problem or error
            registry=self.registry,
        )
        self.documents = Gauge(
            "reembed_worker_documents", "Documents in the source, when last counted.", registry=self.registry
        )
        self.lag = Gauge(
            "reembed_follower_lag_seconds",
            "For how long a collection has lacked the first of the live writes that it lacks.",
            ["collection"],
            registry=self.registry,
        )
        self.owed = Gauge(
            "reembed_follower_owed_documents",
            "Live writes that a collection lacks.",
            ["collection"],
            registry=self.registry,
        )
        self.followed = Counter(
            "reembed_follower_documents",
            "Live writes brought into a collection: embedded, unchanged, gone or rejected.",
            ["collection", "outcome"],
            registry=self.registry,
        )
        self.differences = Counter(
            "reembed_follower_differences",
            "Documents that a comparison with the source found missing, stale or orphaned, and that nobody knew of.",
            ["collection", "kind"],
            registry=self.registry,
        )
        self.findings = Gauge(
            "reembed_inspection_findings",
            "Vectors or documents that the last inspection of a collection found something about.",
            ["collection", "reason"],
            registry=self.registry,
        )
        self.reproduced = Gauge(
            "reembed_inspection_median_cosine",
            "Median cosine of a collection's vectors with those that its pool made again at the last inspection.",
            ["collection"],
            registry=self.registry,
        )

    def tell_inspections(self, reports: Sequence[InspectionReport]) -> None:
        """Show the newest outcome of each collection; `reports` begin with it."""
        self.findings.clear()
        self.reproduced.clear()
        for collection, report in {one.collection: one for one in reversed(reports)}.items():
            for finding in report.findings:
                self.findings.labels(collection, finding.reason).set(finding.count)
            if report.reproduced is not None:
                self.reproduced.labels(collection).set(report.reproduced.median)
