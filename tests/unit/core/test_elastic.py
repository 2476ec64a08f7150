"""How many pods of a backfill run while others suffer, and after."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.decide import decide
from reembed.core.effects import ApplyJob
from reembed.core.elastic import measured, track
from reembed.core.migration import Migration, Seen
from reembed.core.model import Lowered
from reembed.core.throttle import LEAST, MOST
from reembed.core.transitions import State
from tests import builders as b

EIGHT = {"shards": 64, "parallelism": 8}


def filling(lowered: Lowered | None = None, **spec: object) -> Migration:
    return b.migration(State.BACKFILLING, lowered=lowered, spec={**EIGHT, **spec})


def told(requests: float | None = None, yields_to: str | None = None, left: int = 64) -> Seen:
    """A store whose pods ask for so much each, with so many shards that are not done."""
    report = b.collection("Filling", shards=64, shards_done=64 - left, requests=requests, yields_to=yields_to)
    return b.seen(store=b.store(report))


SUFFERS = told(LEAST, "store")
CALM = told(MOST)


@pytest.mark.parametrize(
    ("before", "world", "pods"),
    [
        pytest.param(None, SUFFERS, 4, id="pods that ask for the least and hurt are halved at once"),
        pytest.param(None, told(1.0, "store"), None, id="pods that can still ask for less do that first"),
        pytest.param(None, told(), None, id="what reports nothing is no reason for anything"),
        pytest.param(None, CALM, None, id="nobody suffers"),
        pytest.param(None, told(LEAST, "queries", left=3), 1, id="of three that have a shard one stays"),
        pytest.param(None, told(LEAST, "store", left=1), None, id="the last pod stays"),
        pytest.param(Lowered(4, "store", b.after(31)), SUFFERS, 4, id="what went a moment ago has not shown yet"),
        pytest.param(Lowered(4, "store", b.after(30)), SUFFERS, 2, id="half a minute later half of the rest goes"),
        pytest.param(Lowered(1, "store", b.NOON), SUFFERS, 1, id="one goes on whatever happens"),
        pytest.param(Lowered(4, "store", b.after(1)), CALM, 4, id="within a minute none comes back"),
        pytest.param(Lowered(4, "store", b.NOON), CALM, 5, id="after a minute one comes back"),
        pytest.param(Lowered(7, "store", b.NOON), CALM, None, id="the last one is back"),
        pytest.param(Lowered(4, "store", b.NOON), told(), 4, id="silence brings none back"),
        pytest.param(Lowered(4, "store", b.NOON), told(4.0, "queries"), 4, id="while pods yield none comes back"),
        pytest.param(Lowered(4, "store", b.after(999)), CALM, 4, id="a clock that was set back is no past"),
    ],
)
def test_pods_go_by_halves_and_come_back_by_eighths(before: Lowered | None, world: Seen, pods: int | None) -> None:
    found = track(filling(before), world, b.after(60))
    assert (found.pods if found is not None else None) == pods


def test_a_clock_that_was_set_back_stops_nothing_for_longer_than_its_time() -> None:
    lowered = Lowered(4, "store", b.after(9999))
    found = track(filling(lowered), CALM, b.NOON)
    assert found is not None
    assert track(filling(found), CALM, b.after(60)) == Lowered(5, "store", b.after(60))


def test_many_pods_come_back_by_many() -> None:
    found = track(filling(Lowered(10, "store", b.NOON), parallelism=800), CALM, b.after(60))
    assert found == Lowered(110, "store", b.after(60))


SEEN = st.tuples(st.sampled_from([LEAST, 1.0, MOST, None]), st.sampled_from(["store", "queries", None]))


@given(st.lists(st.tuples(SEEN, st.integers(0, 90)), max_size=30), st.integers(1, 40), st.integers(1, 64))
def test_whatever_happened_a_pod_runs_and_after_calm_minutes_all_do(
    looks: list[tuple[tuple[float | None, str | None], int]], parallelism: int, left: int
) -> None:
    now, lowered = 0.0, None
    for (requests, yields_to), seconds in looks:
        now += seconds
        lowered = track(filling(lowered, parallelism=parallelism), told(requests, yields_to, left), b.after(now))
        assert lowered is None or 1 <= lowered.pods < parallelism
    for _ in range(15):
        now += 60
        lowered = track(filling(lowered, parallelism=parallelism), told(MOST, left=left), b.after(now))
    assert lowered is None


def test_the_job_is_lowered_and_raised_in_place_and_people_are_told() -> None:
    lowered = decide(filling(), SUFFERS, b.NOON)
    raised = decide(filling(Lowered(7, "store", b.NOON)), CALM, b.after(60))
    assert [parallelism(one) for one in (lowered, raised)] == [4, 8]
    assert [[note.reason for note in one.notes] for one in (lowered, raised)] == [
        ["BackfillLowered"],
        ["BackfillRaised"],
    ]
    assert lowered.status.message.endswith("; 4 of 8 pods may run, since commits take much longer than usual")


def test_what_its_user_asks_for_holds_at_once() -> None:
    jobs = [
        parallelism(decide(filling(one, parallelism=most), told(), b.NOON))
        for one, most in ((None, 16), (Lowered(4, "store", b.NOON), 2), (Lowered(4, "store", b.NOON), 16))
    ]
    assert jobs == [16, 2, 4]


def test_a_pause_ends_with_as_many_pods_as_before() -> None:
    before = filling(Lowered(4, "store", b.NOON))
    paused = decide(replace(before, spec=replace(before.spec, paused=True)), told(), b.after(60))
    resumed = decide(replace(before, status=paused.status), told(), b.after(120))
    assert [parallelism(one) for one in (paused, resumed)] == [0, 4]


def test_a_backfill_that_is_over_lowers_nothing_any_more() -> None:
    world = told(LEAST, "store", left=0)
    verdict = decide(filling(Lowered(4, "store", b.NOON)), world, b.after(60))
    assert (verdict.status.state, verdict.status.lowered) == (State.INDEXING, None)


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        pytest.param([], (None, None), id="none moved"),
        pytest.param([{"embed": 0.9}], (None, None), id="pods of a version that does not say so"),
        pytest.param([{"requests": 4.0}, {"requests": 2.0, "throttled_by_store": 1.0}], (3.0, "store"), id="half"),
        pytest.param(
            [{"requests": 4.0}, {"requests": 4.0}, {"requests": 0.125, "throttled_by_store": 1.0}],
            (4.0, None),
            id="one of three",
        ),
        pytest.param(
            [{"requests": 0.125, "throttled_by_queries": 1.0}, {"embed": 0.5}],
            (0.125, "queries"),
            id="one that says so",
        ),
    ],
)
def test_what_most_shards_say_counts(shards: list[dict[str, float]], expected: tuple[float | None, str | None]) -> None:
    assert measured(shards) == expected


def parallelism(verdict: object) -> int:
    (job,) = (one.job for one in verdict.after if isinstance(one, ApplyJob))  # type: ignore[attr-defined]
    return job.parallelism


def test_the_numbers_of_the_module_s_first_lines() -> None:
    """Eight pods become one in a minute, and eight again in seven."""
    now, lowered, seen = timedelta(0), None, []
    for world in (SUFFERS, SUFFERS, SUFFERS, *[CALM] * 8):
        lowered = track(filling(lowered), world, b.NOON + now)
        seen.append(lowered.pods if lowered is not None else 8)
        now += timedelta(seconds=30) if world is SUFFERS else timedelta(minutes=1)
    assert seen == [4, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8]
