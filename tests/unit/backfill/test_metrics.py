"""What a store worker tells Prometheus of inspections is what was found last."""

from __future__ import annotations

from prometheus_client import generate_latest

from reembed.backfill.metrics import WorkerMetrics
from reembed.core.model import Finding, InspectionReport, Reproduced
from tests.builders import NOON

ZERO = Finding("VectorsZero", 2, 0.002, ("3", "7"), "2 vectors are zero")


def shown(metrics: WorkerMetrics) -> list[str]:
    text = generate_latest(metrics.registry).decode()
    return [line for line in text.splitlines() if line.startswith("reembed_inspection_")]


def report(name: str, *findings: Finding, cosine: float = 0.999) -> InspectionReport:
    return InspectionReport(name, NOON, "c_old", "fp", 9, 9, findings, Reproduced(9, cosine, cosine, 1.0))


def test_the_newest_outcome_of_a_collection_is_shown_and_none_of_before() -> None:
    metrics = WorkerMetrics()
    metrics.tell_inspections((report("b", ZERO, cosine=0.5), report("a")))
    assert shown(metrics) == [
        'reembed_inspection_findings{collection="c_old",reason="VectorsZero"} 2.0',
        'reembed_inspection_median_cosine{collection="c_old"} 0.5',
    ]
    metrics.tell_inspections((report("c"), report("b", ZERO)))
    assert shown(metrics) == ['reembed_inspection_median_cosine{collection="c_old"} 0.999']
    metrics.tell_inspections(())
    assert shown(metrics) == []
