"""A leaking pod is replaced when another one can take its place, one at a time, and never the last one."""

from __future__ import annotations

import pytest

from reembed.core.leaks import Leak
from reembed.core.recycling import Recycle, recycle
from reembed.core.scaling import Crew

PODS = {"a": "cpu", "b": "cpu", "g": "gpu"}


def leak(pod: str) -> Leak:
    return Leak(pod, 0.9, 0.2, 0.01, 900.0)


@pytest.mark.parametrize(
    ("before", "found", "crews", "least", "expected"),
    [
        pytest.param(None, None, {"cpu": Crew(2, 2)}, 2, None, id="nothing leaks"),
        pytest.param(None, "a", {"cpu": Crew(2, 2)}, 2, Recycle("a", "cpu", goes=False), id="another is made first"),
        pytest.param(None, "a", {"cpu": Crew(2, 1)}, 1, None, id="not while another is missing"),
        pytest.param(
            None,
            "a",
            {"cpu": Crew(3, 2, 1)},
            1,
            Recycle("a", "cpu", goes=False),
            id="what has no room is not waited for",
        ),
        pytest.param(None, "a", {"cpu": Crew(2, 2)}, 3, None, id="not while the pool has too few"),
        pytest.param(None, "gone", {"cpu": Crew(2, 2)}, 2, None, id="it went by itself"),
        pytest.param("a", None, {"cpu": Crew(2, 2)}, 2, Recycle("a", "cpu", goes=False), id="the other starts"),
        pytest.param("a", None, {"cpu": Crew(2, 3)}, 2, Recycle("a", "cpu", goes=True), id="the other is ready"),
        pytest.param("a", "b", {"cpu": Crew(2, 3)}, 2, Recycle("a", "cpu", goes=True), id="one at a time"),
        pytest.param("gone", "b", {"cpu": Crew(2, 2)}, 2, Recycle("b", "cpu", goes=False), id="then the next"),
        pytest.param("g", None, {"gpu": Crew(1, 1, 1)}, 1, Recycle("g", "gpu", goes=False), id="never the last one"),
        pytest.param("g", None, {"gpu": Crew(2, 2, 1)}, 1, Recycle("g", "gpu", goes=True), id="no room for another"),
        pytest.param("g", None, {"gpu": Crew(2, 2, 1)}, 2, Recycle("g", "gpu", goes=False), id="all are needed"),
    ],
)
def test_a_leaking_pod_goes_when_it_is_replaced(
    before: str | None, found: str | None, crews: dict[str, Crew], least: int, expected: Recycle | None
) -> None:
    assert recycle(before, leak(found) if found else None, PODS, crews, least) == expected


@pytest.mark.parametrize(
    ("before", "leaks", "asked", "expected"),
    [
        pytest.param(None, None, "a", Recycle("a", "cpu", goes=False), id="as one that leaks"),
        pytest.param("b", None, "a", Recycle("b", "cpu", goes=False), id="after the one that is being replaced"),
        pytest.param(None, "b", "a", Recycle("b", "cpu", goes=False), id="after one that leaks"),
        pytest.param(None, None, "gone", None, id="not what is gone"),
    ],
)
def test_a_pod_that_a_panel_names_is_replaced_in_its_turn(
    before: str | None, leaks: str | None, asked: str, expected: Recycle | None
) -> None:
    assert recycle(before, leak(leaks) if leaks else None, PODS, {"cpu": Crew(2, 2)}, 1, asked) == expected
