"""Bounds that are looked at again and again keep their promise, and find what is wrong soon enough."""

from collections.abc import Iterator

import numpy as np
import pytest

from reembed.core.sequences import (
    Sample,
    Standing,
    Tally,
    at_least,
    at_most,
    difference_bounds,
    mean_bounds,
    share_bounds,
)

LOOKS = range(50, 2_001, 50)


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def growing(values: np.ndarray) -> Iterator[Sample]:
    """What is known of the values at each look."""
    for count in LOOKS:
        yield Sample(count, float(values[:count].sum()), float((values[:count] ** 2).sum()))


def tallies(events: np.ndarray) -> Iterator[Tally]:
    for count in LOOKS:
        yield Tally(count, int(events[:count].sum()))


@pytest.mark.parametrize(
    ("values", "chances"),
    [
        pytest.param([-1.0, -0.5, 0.0, 0.5, 0.9], [0.2] * 5, id="wide"),
        pytest.param([-1.0, 0.0], [0.02, 0.98], id="a rare great loss"),
        pytest.param([1.0, -0.02], [0.02, 0.98], id="a rare great gain"),
    ],
)
def test_bounds_of_a_mean_are_hardly_ever_wrong_at_any_look(values: list[float], chances: list[float]) -> None:
    chance, truth = rng(), float(np.dot(values, chances))
    wrong = 0
    for _ in range(200):
        samples = growing(chance.choice(values, size=LOOKS[-1], p=chances))
        wrong += any(not low <= truth <= high for low, high in map(mean_bounds, samples))
    assert wrong <= 6  # of 200, where each side promises one of a hundred


@pytest.mark.parametrize("truth", [0.001, 0.01, 0.05, 0.5])
def test_bounds_of_a_share_are_hardly_ever_wrong_at_any_look(truth: float) -> None:
    chance = rng()
    wrong = 0
    for _ in range(100):
        looks = tallies(chance.random(LOOKS[-1]) < truth)
        wrong += any(not low <= truth <= high for low, high in (share_bounds(one, about=0.05) for one in looks))
    assert wrong <= 2


def test_bounds_of_a_difference_of_shares_are_hardly_ever_wrong_at_any_look() -> None:
    chance = rng()
    wrong = 0
    for _ in range(30):
        pairs = zip(tallies(chance.random(LOOKS[-1]) < 0.04), tallies(chance.random(LOOKS[-1]) < 0.01), strict=True)
        wrong += any(not low <= 0.03 <= high for low, high in (difference_bounds(*pair, about=0.02) for pair in pairs))
    assert wrong <= 1


def test_a_loss_of_mrr_is_found_within_a_few_hundred_queries() -> None:
    chance, found = rng(), []
    for _ in range(21):
        values = chance.normal(-0.05, 0.2, size=LOOKS[-1])
        found.append(next(one.count for one in growing(values) if mean_bounds(one)[1] < 0))
    assert np.median(found) <= 300


def test_without_observations_everything_is_possible() -> None:
    assert mean_bounds(Sample()) == (-1.0, 1.0)
    assert mean_bounds(Sample(), span=(0.0, 1.0)) == (0.0, 1.0)
    assert share_bounds(Tally(), about=0.05) == (0.0, 1.0)
    assert difference_bounds(Tally(), Tally(1000, 10), about=0.05) == (-1.0, 1.0)
    assert difference_bounds(Tally(1000, 10), Tally(), about=0.05) == (-1.0, 1.0)


def test_a_hundred_equal_values_are_not_certainty() -> None:
    low, high = mean_bounds(Sample.of([0.0] * 100))
    assert low < -0.05
    assert high > 0.05


def test_no_error_at_all_bounds_their_share_from_above() -> None:
    low, high = share_bounds(Tally(500, 0), about=0.05)
    assert low == 0.0
    assert 0.01 < high < 0.05


def test_errors_alone_bound_their_share_from_below() -> None:
    low, high = share_bounds(Tally(10, 10), about=0.05)
    assert high == 1.0
    assert 0.05 < low < 0.5


def test_the_bounds_of_a_difference_mirror_when_its_sides_change_places() -> None:
    ours, theirs = Tally(1000, 30), Tally(9000, 90)
    low, high = difference_bounds(ours, theirs, about=0.01)
    assert difference_bounds(theirs, ours, about=0.01) == pytest.approx((-high, -low), abs=1e-6)
    assert low < 0.02 < high


def test_a_smaller_chance_of_error_widens_the_bounds() -> None:
    sample, tally = Sample(500, -10.0, 30.0), Tally(500, 20)
    assert mean_bounds(sample, 0.001)[0] < mean_bounds(sample, 0.01)[0]
    assert share_bounds(tally, 0.001, about=0.05)[1] > share_bounds(tally, 0.01, about=0.05)[1]


def test_bounds_are_tightest_near_what_they_are_tuned_for() -> None:
    def width(tuned_for: int) -> float:
        low, high = mean_bounds(Sample(1000, 0.0, 100.0), tuned_for=tuned_for)
        return high - low

    assert width(1000) < min(width(50), width(50_000))


def test_what_two_pods_saw_is_added() -> None:
    assert Sample.of([0.5, -1.0]) + Sample.of([0.25]) == Sample.of([0.5, -1.0, 0.25])
    assert Tally(10, 1) + Tally(20, 3) == Tally(30, 4)
    assert (Sample.of([0.5, 0.25]).mean, Sample().mean, Tally(4, 1).share, Tally().share) == (0.375, None, 0.25, None)


@pytest.mark.parametrize(
    ("bounds", "floor", "ceiling"),
    [
        pytest.param((-0.05, -0.03), Standing.FAILS, Standing.HOLDS, id="below the limit"),
        pytest.param((-0.05, -0.01), Standing.UNDECIDED, Standing.UNDECIDED, id="on both sides"),
        pytest.param((-0.02, -0.02), Standing.HOLDS, Standing.HOLDS, id="on the limit"),
        pytest.param((-0.01, 0.03), Standing.HOLDS, Standing.FAILS, id="above the limit"),
    ],
)
def test_a_standing_follows_from_the_bounds(bounds: tuple[float, float], floor: Standing, ceiling: Standing) -> None:
    assert (at_least(bounds, -0.02), at_most(bounds, -0.02)) == (floor, ceiling)
