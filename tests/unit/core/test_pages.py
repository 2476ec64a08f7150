"""Shards hold every id once, pages keep their order, and rates are honest."""

from datetime import timedelta

import pytest

from reembed.core.pages import InOrder, Pace, Range, bottleneck, fractions, ranges

EMPTY = Range(None, None, empty=True)


@pytest.mark.parametrize(
    ("boundaries", "shards", "expected"),
    [
        pytest.param(["b", "d"], 3, [Range(None, "b"), Range("b", "d"), Range("d", None)], id="one range a shard"),
        pytest.param([], 1, [Range(None, None)], id="a single shard"),
        pytest.param(["a", "a", "a"], 4, [Range(None, "a"), Range("a", None), EMPTY, EMPTY], id="few documents"),
        pytest.param([], 2, [Range(None, None), EMPTY], id="no documents"),
    ],
)
def test_ranges_hold_every_id_once(boundaries: list[str], shards: int, expected: list[Range]) -> None:
    assert list(ranges(boundaries, shards)) == expected


def test_boundaries_lie_at_equal_shares() -> None:
    assert fractions(4) == (0.25, 0.5, 0.75)


def test_items_come_back_in_order() -> None:
    ordered = InOrder[str]()
    assert [ordered.add([(1, "b")]), ordered.add([(0, "a"), (3, "d")]), ordered.add([(2, "c")])] == [
        [],
        ["a", "b"],
        ["c", "d"],
    ]


def test_a_rate_is_taken_over_the_window_alone() -> None:
    pace = Pace(timedelta(seconds=10))
    readings = [(0, 0), (5, 500), (10, 1000), (15, 1000), (20, 1000)]
    assert [pace.read(now, count) for now, count in readings] == [0, 100, 100, 50, 0]


def test_a_counter_that_starts_again_does_not_give_a_negative_rate() -> None:
    pace = Pace(timedelta(seconds=10))
    assert [pace.read(0, 100), pace.read(1, 0), pace.read(2, 10)] == [0, 0, 10]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        pytest.param([{"read": 0.1, "embed": 0.9}, {"read": 1.0, "embed": 0.5}], "embed", id="over all shards"),
        pytest.param([{"write": 0.7}], "write", id="one shard"),
        pytest.param([{"read": 0.01}], None, id="all idle"),
        pytest.param([], None, id="no shard moves"),
    ],
)
def test_the_busiest_stage_is_the_bottleneck(shards: list[dict[str, float]], expected: str | None) -> None:
    assert bottleneck(shards) == expected
