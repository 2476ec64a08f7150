"""What changes about a pool is told once, and what moves with every measurement is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core.model import PoolStatus, Problem, VariantStatus
from reembed.core.notes import Note
from reembed.core.pool_notes import notes, told
from tests import builders as b


def status(gpu: int = 1, cpu: int = 0, reason: str = "", **changes: object) -> PoolStatus:
    variants = (VariantStatus("gpu", gpu, gpu, reason), VariantStatus("cpu", cpu, cpu))
    return replace(PoolStatus(variants, "Latency", "p95 800 ms", b.NOON), **changes)  # type: ignore[arg-type]


NO_ROOM = {"gpu": Problem("Unschedulable", "no node has a GPU")}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(PoolStatus(), status(), [], id="the first pods are no news"),
        pytest.param(status(), status(message="p95 801 ms"), [], id="numbers"),
        pytest.param(
            status(), status(gpu=2), [Note("ScaledUp", "variant 'gpu' goes from 1 to 2 pods: p95 800 ms")], id="more"
        ),
        pytest.param(
            status(2, 2),
            status(1, 1),
            [
                Note(
                    "ScaledDown",
                    "variant 'gpu' goes from 2 to 1 pod: p95 800 ms; variant 'cpu' goes from 2 to 1 pod: p95 800 ms",
                )
            ],
            id="fewer of both",
        ),
        pytest.param(
            status(),
            status(cpu=1, reason="Unschedulable"),
            [
                Note("Overflow", "variant 'cpu' goes from 0 to 1 pod: p95 800 ms; variants before it have no room"),
                Note("Unschedulable", "variant 'gpu': no node has a GPU", warning=True),
            ],
            id="no room",
        ),
        pytest.param(status(reason="Unschedulable"), status(reason="Unschedulable"), [], id="still no room"),
        pytest.param(
            status(),
            status(recycling="gpu-1"),
            [Note("Recycling", "memory grows; another pod is made, and then it goes", warning=True)],
            id="a leak",
        ),
        pytest.param(
            status(recycling="gpu-1"),
            status(),
            [Note("Recycled", "pod gpu-1 was replaced after another was made")],
            id="a leak is over",
        ),
    ],
)
def test_what_changes_is_told_once(before: PoolStatus, after: PoolStatus, expected: list[Note]) -> None:
    assert list(notes(before, after, NO_ROOM, "memory grows")) == expected


@pytest.mark.parametrize(
    ("after", "seconds", "said"),
    [
        pytest.param(status(message="p95 801 ms"), 600, "p95 800 ms", id="numbers alone are not written"),
        pytest.param(replace(status(message="memory"), reason="Memory"), 29, "p95 800 ms", id="another reason, lately"),
        pytest.param(replace(status(message="memory"), reason="Memory"), 30, "memory", id="another reason, later"),
        pytest.param(status(gpu=2, message="p95 900 ms"), 1, "p95 900 ms", id="more pods"),
        pytest.param(replace(status(message="memory"), reason="Memory"), -9, "memory", id="a clock that was set back"),
    ],
)
def test_a_status_is_written_when_it_says_something_new(after: PoolStatus, seconds: float, said: str) -> None:
    assert told(status(), after, b.after(seconds)).message == said
