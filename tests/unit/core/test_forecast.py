"""A line says what is certain of the next minute, and a leak is told from warming up, from noise and from work."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.forecast import line
from reembed.core.leaks import worst
from reembed.core.load import Load, Sampled
from tests import builders as b


def test_a_line_through_points_on_a_line_is_that_line() -> None:
    found = line([(1e9 + 10 * n, 2.0 + 0.5 * n) for n in range(20)])
    assert found is not None
    assert (round(found.slope, 9), round(found.error, 6), round(found.ahead(60), 4)) == (0.05, 0.0, 14.5)
    assert round(found.until(21.5)) == 200


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)] * 5, [(1.0, 1.0)] * 9], ids=["none", "few", "of one moment"])
def test_where_there_is_no_line_none_is_drawn(points: list[tuple[float, float]]) -> None:
    assert line(points) is None


def test_what_is_full_has_no_time_left_and_what_shrinks_has_for_ever() -> None:
    shrinks = line([(float(n), 9.0 - n) for n in range(8)])
    assert shrinks is not None
    assert (shrinks.until(20), shrinks.until(1.0), shrinks.steady) == (math.inf, 0.0, 0.0)


@given(st.integers(0, 2**32))
def test_a_random_walk_is_rarely_taken_for_a_certain_rise(seed: int) -> None:
    rng = random.Random(seed)
    value, points = 0.0, []
    for n in range(60):
        value += rng.gauss(0, 1)
        points.append((5.0 * n, value))
    found = line(points)
    assert found is not None
    assert 0 <= found.steady <= max(found.slope, 0.0)


def grown(memory: dict[float, float]) -> Load:
    load = Load()
    for at, share in memory.items():
        load = load.add({"pod": Sampled(memory=share, process=1.0)}, {"pod"}, b.after(at))
    return load


def minutes(count: int, share: object) -> dict[float, float]:
    return {20.0 * n: share(20.0 * n / 60) for n in range(3 * count)}  # type: ignore[operator]


def test_a_pod_that_fills_up_within_half_an_hour_is_found_with_its_numbers() -> None:
    leak = worst(grown(minutes(20, lambda minute: 0.5 + 0.012 * minute)))
    assert leak is not None
    assert leak.told() == (
        "memory of pod pod is at 74% and grows by 72% of its limit an hour (standard error 0.0%): full in 22 min"
    )


@pytest.mark.parametrize(
    "share",
    [
        pytest.param(lambda minute: 0.8, id="much and no more"),
        pytest.param(lambda minute: 0.9 - 0.4 * math.exp(-minute / 3), id="a cache that fills"),
        pytest.param(lambda minute: 0.5 + 0.3 * (minute > 10), id="a step"),
        pytest.param(lambda minute: 0.5 + 0.3 * (minute > 15), id="a step a while ago"),
        pytest.param(lambda minute: 0.5 + 0.3 * (minute > 17), id="a step of late"),
        pytest.param(lambda minute: 0.5 + 0.3 * (minute > 18.5), id="a step just now"),
        pytest.param(lambda minute: 0.1 + 0.01 * minute, id="far from its limit"),
        pytest.param(lambda minute: 0.6 + 0.002 * minute, id="slow enough to wait"),
        pytest.param(lambda minute: 0.7 + 0.1 * math.sin(minute), id="work that comes and goes"),
    ],
)
def test_what_is_no_leak_is_left_alone(share: object) -> None:
    assert worst(grown(minutes(20, share))) is None


def test_a_cache_of_texts_that_fills_is_no_leak_and_a_leak_beside_it_is_one() -> None:
    found = []
    for leak in (0.0, 0.012):
        load = Load()
        for at in range(0, 1200, 20):
            kept = 0.02 * at / 60
            one = Sampled(memory=0.3 + kept + leak * at / 60, kept=kept, process=1.0)
            load = load.add({"pod": one}, {"pod"}, b.after(at))
        found.append(worst(load))
    assert found[0] is None
    assert found[1] is not None
    assert (round(found[1].memory, 2), round(found[1].left / 60)) == (0.93, 6)


def test_a_pod_that_is_young_is_not_judged() -> None:
    assert worst(grown(minutes(8, lambda minute: 0.5 + 0.03 * minute))) is None


def test_random_work_around_a_level_is_no_leak() -> None:
    found = []
    for seed in range(40):
        rng = random.Random(seed)
        found.append(worst(grown(minutes(40, lambda _: 0.75 + rng.gauss(0, 0.03)))))  # noqa: B023
    assert found == [None] * 40
