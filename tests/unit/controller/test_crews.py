"""What lacks room is told from what starts, and what never fits reaches the migration that waits for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reembed.controller.crews import Means, crews, judged, said
from reembed.core import names
from reembed.core.model import Device, PoolReport, Problem
from reembed.core.scaling import Crew
from tests import builders as b

POOL = b.pool("new")
MEANS = Means({Device.CPU: "engine:1"})
DEPLOYMENT = {
    "metadata": {"name": names.embedder("new", "cpu")},
    "spec": {"replicas": 3},
    "status": {"readyReplicas": 1},
}


def pod(name: str, waits_since: float | None = None, **meta: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True"}
    if waits_since is not None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
        condition["lastTransitionTime"] = b.after(waits_since).isoformat()
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [condition]}
    return {"metadata": {"name": name, "labels": {names.LABEL_VARIANT: "cpu"}, **meta}, "status": status}


def test_a_pod_without_a_node_counts_once_it_has_waited_for_half_a_minute() -> None:
    found = [
        pod("a"),
        pod("b", waits_since=-31),
        pod("c", waits_since=-10),
        pod("d", waits_since=-99, deletionTimestamp="x"),
    ]
    seen = crews(POOL.meta, POOL.spec, [DEPLOYMENT], found, MEANS, b.NOON)
    assert (seen.crews, seen.problems, seen.ready, seen.again) == (
        {"cpu": Crew(3, 1, stuck=1)},
        {"cpu": Problem("Unschedulable", "pod b: no room")},
        {"a": "10.0.0.1"},
        timedelta(seconds=20),
    )


def test_pods_of_a_variant_that_is_gone_are_nobody_s() -> None:
    left = pod("a", waits_since=-99)
    left["metadata"]["labels"] = {names.LABEL_VARIANT: "old"}
    seen = crews(POOL.meta, POOL.spec, [], [left], MEANS, b.NOON)
    assert (seen.crews, seen.problems, seen.variants) == ({"cpu": Crew()}, {}, {"a": ""})


@pytest.mark.parametrize(
    ("reason", "ready", "problem", "permanent"),
    [
        pytest.param("NeverFits", 0, "NeverFits", True, id="it never fits and is needed"),
        pytest.param("NeverFits", 1, None, False, id="it never fits and others answer"),
        pytest.param("GpuImageMissing", 1, "GpuImageMissing", False, id="it cannot be run"),
        pytest.param("Unschedulable", 1, None, False, id="others answer"),
    ],
)
def test_a_migration_is_told_what_a_pool_says_of_its_variants(
    reason: str, ready: int, problem: str | None, permanent: bool
) -> None:
    raw = {"status": {"message": "why", "variants": [{"name": "cpu", "reason": ""}, {"name": "gpu", "reason": reason}]}}
    report = judged(PoolReport("f", ready, 1), said(raw))
    assert (report.problem, report.permanent) == (Problem(problem, "why") if problem else None, permanent)
