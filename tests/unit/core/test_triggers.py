"""Triggers count observed time, in one piece, and never take missing data for health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reembed.core.migration import Seen
from reembed.core.model import ArmMeasure, Limit, Limits, NoData, TriggerState
from reembed.core.transitions import State
from reembed.core.triggers import Finding, first_due, first_missing, track
from tests import builders as b

CANARY = b.migration(State.CANARY)
FAILING = ArmMeasure(requests=100, errors=8, p95=timedelta(milliseconds=40))


def world(candidate: ArmMeasure | None = None, serving: ArmMeasure | None = None, memory: float | None = 0.5) -> Seen:
    seen = b.seen(b.index(10), target=b.pool("new", memory=memory))
    arms = {b.NEW.collection: candidate, b.OLD.collection: serving}
    return replace(seen, arms={**seen.arms, **{name: arm for name, arm in arms.items() if arm is not None}})


def held(seconds: float, last_seen: float = 0) -> TriggerState:
    return TriggerState(b.NOON, timedelta(seconds=seconds), b.after(last_seen))


def clocks(states: Mapping[str, TriggerState]) -> dict[str, tuple[datetime, timedelta, datetime]]:
    return {name: (one.since, one.held, one.last_seen) for name, one in states.items()}


def test_a_trigger_that_was_exceeded_for_its_whole_hold_is_due() -> None:
    found = first_due(CANARY, world(FAILING), {"ErrorRate": held(180)})
    assert found == Finding("ErrorRate", "8 % of the candidate's queries failed, above 5 % for 180 s")


def test_a_trigger_held_a_little_too_short_is_not_due() -> None:
    assert first_due(CANARY, world(FAILING), {"ErrorRate": held(179)}) is None


def test_the_cause_is_reported_before_the_symptom() -> None:
    states = {"ErrorRate": held(600), "MemoryPressure": held(600)}
    found = first_due(CANARY, world(FAILING, memory=0.95), states)
    assert found is not None
    assert found.reason == "MemoryPressure"


@pytest.mark.parametrize(
    ("gap", "counted"),
    [
        pytest.param(2, 2, id="two looks in a row"),
        pytest.param(4, 4, id="one look was missed"),
        pytest.param(60, 0, id="nobody looked for a minute"),
        pytest.param(-5, 0, id="the clock went back"),
    ],
)
def test_only_observed_time_counts(gap: float, counted: float) -> None:
    migration = b.migration(State.CANARY, triggers={"ErrorRate": held(30)})
    states = track(migration, world(FAILING), b.after(gap))
    assert clocks(states) == {"ErrorRate": (b.NOON, timedelta(seconds=30 + counted), b.after(gap))}


def test_one_healthy_measurement_clears_a_trigger() -> None:
    assert track(b.migration(State.CANARY, triggers={"ErrorRate": held(30)}), world(), b.after(2)) == {}


def test_a_running_trigger_stands_still_without_data() -> None:
    migration = b.migration(State.CANARY, triggers={"MemoryPressure": held(30)})
    states = track(migration, world(memory=None), b.after(2))
    assert clocks(states) == {"MemoryPressure": (b.NOON, timedelta(seconds=30), b.after(2))}


def test_missing_data_counts_as_exceeded_only_where_the_user_says_so() -> None:
    strict = Limits(memory=Limit(timedelta(minutes=5), share=0.9, no_data=NoData.ROLL_BACK))
    migrations = (CANARY, b.migration(State.CANARY, spec={"limits": strict}))
    started = [track(one, world(memory=None), b.NOON).keys() for one in migrations]
    assert started == [set(), {"MemoryPressure"}]


@pytest.mark.parametrize(
    ("limit", "p95_ms", "exceeded"),
    [
        pytest.param(Limit(timedelta(minutes=2), factor=10.0), 399, False, id="below ten times the baseline"),
        pytest.param(Limit(timedelta(minutes=2), factor=10.0), 401, True, id="above ten times the baseline"),
        pytest.param(Limit(timedelta(minutes=2), absolute=timedelta(seconds=1)), 999, False, id="below a duration"),
        pytest.param(Limit(timedelta(minutes=2), absolute=timedelta(seconds=1)), 1001, True, id="above a duration"),
    ],
)
def test_latency_is_judged_against_the_baseline_or_a_duration(limit: Limit, p95_ms: int, exceeded: bool) -> None:
    slow = ArmMeasure(requests=100, errors=0, p95=timedelta(milliseconds=p95_ms))
    migration = b.migration(State.CANARY, spec={"limits": replace(Limits(), latency=limit)})
    assert ("Latency" in track(migration, world(slow), b.NOON)) is exceeded


def test_traffic_does_not_move_while_a_trigger_has_nothing_to_judge_by() -> None:
    few = ArmMeasure(requests=3, errors=0, p95=None)
    found = first_missing(CANARY, world(few))
    assert found == Finding("NoData", "ErrorRate has no measurements; the weight stays until it has")
