"""Triggers count observed time, in one piece, and never take missing data for health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reembed.core.decide import decide
from reembed.core.migration import Seen
from reembed.core.model import (
    ArmMeasure,
    Limit,
    Limits,
    NoData,
    Operator,
    PanelReport,
    PointerPlan,
    PrometheusLimit,
    TriggerState,
)
from reembed.core.sequences import Sample
from reembed.core.transitions import State
from reembed.core.triggers import Finding, first_due, first_missing, shared_failure, track
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
        pytest.param(60, 2, id="nobody looked for a minute, and then somebody did"),
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


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        pytest.param(0.051, True, id="above the limit"),
        pytest.param(0.048, True, id="a little below it"),
        pytest.param(0.045, False, id="a tenth of it below"),
    ],
)
def test_what_was_exceeded_is_over_only_well_below_the_limit(share: float, kept: bool) -> None:
    measure = ArmMeasure(requests=1000, errors=round(1000 * share), p95=timedelta(milliseconds=40))
    migration = b.migration(State.CANARY, triggers={"ErrorRate": held(30)})
    assert ("ErrorRate" in track(migration, world(measure), b.after(2))) is kept


def test_time_just_below_the_limit_is_not_counted_as_held() -> None:
    measure = ArmMeasure(requests=1000, errors=48, p95=timedelta(milliseconds=40))
    migration = b.migration(State.CANARY, triggers={"ErrorRate": held(30)})
    assert clocks(track(migration, world(measure), b.after(2)))["ErrorRate"][1] == timedelta(seconds=30)


FINE = ArmMeasure(requests=30, errors=0, p95=timedelta(milliseconds=40))
BAD = replace(FINE, errors=20)


@pytest.mark.parametrize(
    ("since_shared", "candidate", "serving", "counted"),
    [
        pytest.param(2, FINE, FINE, 0, id="the candidate's minute leaves the shared time a look later"),
        pytest.param(2, BAD, BAD, 0, id="both still fail, and the serving side answered more before"),
        pytest.param(2, BAD, None, 0, id="of late the serving side was not measured"),
        pytest.param(2, BAD, FINE, 2, id="of late the candidate alone failed"),
        pytest.param(120, FINE, FINE, 0, id="some of it may be in sight"),
        pytest.param(122, FINE, FINE, 2, id="all that is measured is of the candidate alone"),
    ],
)
def test_what_was_measured_while_both_sides_failed_is_nobodys_fault(
    since_shared: float, candidate: ArmMeasure, serving: ArmMeasure | None, counted: float
) -> None:
    shared = replace(held(30, last_seen=120), shared_at=b.after(122 - since_shared))
    migration = b.migration(State.CANARY, triggers={"ErrorRate": shared})
    healthy = replace(FINE, requests=500, lately=serving)
    arms = {b.NEW.collection: replace(FAILING, lately=candidate), b.OLD.collection: healthy}
    states = track(migration, b.seen(arms=arms), b.after(122))
    assert clocks(states) == {"ErrorRate": (b.NOON, timedelta(seconds=30 + counted), b.after(122))}
    assert states["ErrorRate"].shared_at == shared.shared_at


def test_a_candidate_that_recovered_meanwhile_is_watched_as_before() -> None:
    shared = replace(held(0), shared_at=b.after(0))
    recovered = track(b.migration(State.CANARY, triggers={"ErrorRate": shared}), world(), b.after(2))
    assert recovered == {}


DRY = replace(Limits(), error_rate=Limit(timedelta(minutes=3), share=0.05, dry_run=True))


def test_a_trigger_in_dry_run_is_told_once_and_never_acted_upon() -> None:
    before = TriggerState(b.NOON, timedelta(seconds=179), b.NOON, timedelta(minutes=3), dry_run=True)
    migration = b.migration(State.CANARY, spec={"limits": DRY}, triggers={"ErrorRate": before}, weight=10)
    first = decide(migration, world(FAILING), b.after(2))
    second = decide(replace(migration, status=first.status), world(FAILING), b.after(4))
    assert [one.status.state for one in (first, second)] == [State.CANARY, State.CANARY]
    assert [[note.reason for note in one.notes] for one in (first, second)] == [["DryRun"], []]


def test_a_trigger_in_dry_run_does_not_keep_traffic_from_moving() -> None:
    state = TriggerState(b.NOON, timedelta(seconds=10), b.NOON, timedelta(minutes=3), dry_run=True)
    migration = b.migration(
        State.CANARY, spec={"limits": DRY}, triggers={"ErrorRate": state}, weight=10, acknowledged_at=b.NOON
    )
    assert decide(migration, world(FAILING), b.after(600)).status.step == 1


def test_a_status_shows_how_far_a_trigger_is() -> None:
    (state,) = track(CANARY, world(FAILING), b.NOON).values()
    assert (state.hold, state.value, state.threshold, state.dry_run) == (timedelta(minutes=3), "8 %", "5 %", False)


PANEL = PanelReport(members=8, faulty=2, gone=0, vote_due=True, quorum=True)


@pytest.mark.parametrize(
    ("panel", "found"),
    [
        pytest.param(PANEL, set(), id="all there"),
        pytest.param(replace(PANEL, gone=2), set(), id="as many gone as may be faulty"),
        pytest.param(replace(PANEL, gone=3), {"AgentsUnreachable"}, id="one more gone"),
        pytest.param(replace(PANEL, gone=3, vote_due=False), set(), id="nobody is asked"),
        pytest.param(replace(PANEL, gone=3, rolling=True), set(), id="the panel is rolled out"),
        pytest.param(replace(PANEL, quorum=False), {"NoQuorum"}, id="no quorum"),
        pytest.param(replace(PANEL, quorum=False, vote_due=False), set(), id="no vote is due"),
    ],
)
def test_the_panel_triggers_only_while_its_word_is_needed(panel: PanelReport, found: set[str]) -> None:
    assert set(track(CANARY, replace(world(), panel=panel), b.NOON)) == found


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        pytest.param(PointerPlan(b.OLD.collection, b.OLD.fingerprint, 1), set(), id="as planned"),
        pytest.param(PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2), {"PointerInconsistent"}, id="moved by hand"),
        pytest.param(PointerPlan("c_other", "fp", 1), {"PointerInconsistent"}, id="a strange collection"),
        pytest.param(None, {"PointerInconsistent"}, id="gone"),
    ],
)
def test_a_pointer_that_is_not_where_it_was_planned_is_found(pointer: PointerPlan | None, found: set[str]) -> None:
    seen = replace(world(), store=b.store(b.collection(), pointer=pointer))
    assert set(track(CANARY, seen, b.NOON)) == found


def test_a_pointer_that_is_about_to_be_moved_is_not_inconsistent() -> None:
    index = b.index(100)
    planned = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)
    index = replace(index, status=replace(index.status, plan=replace(index.status.plan, pointer=planned)))
    assert track(b.migration(State.RETAINING), b.seen(index), b.NOON) == {}


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        pytest.param([0.1, 0.2] * 400, {"RetrievalRegression"}, id="a loss above the margin is certain"),
        pytest.param([0.1, 0.2] * 4, set(), id="too few queries to be certain"),
        pytest.param([0.5, -0.5] * 400, set(), id="no loss"),
    ],
)
def test_a_certain_loss_of_retrieval_triggers(losses: list[float], found: set[str]) -> None:
    migration = b.migration(State.CANARY, spec={"evaluation": b.EVALUATION})
    store = b.store(b.collection(), retrieval=Sample.of(losses))
    assert set(track(migration, replace(world(), store=store), b.NOON)) == found


def test_the_weight_stays_while_nobody_watches_the_labelled_queries() -> None:
    migration = b.migration(State.CANARY, spec={"evaluation": b.EVALUATION})
    found = first_missing(migration, world())
    assert found == Finding("NoData", "RetrievalRegression has no measurements; the weight stays until it has")


@pytest.mark.parametrize(("seconds", "found"), [(299, set()), (301, {"FollowerLag"})])
def test_live_writes_that_are_far_behind_trigger(seconds: int, found: set[str]) -> None:
    seen = replace(world(), store=b.store(b.collection(), lag=timedelta(seconds=seconds)))
    assert set(track(CANARY, seen, b.NOON)) == found


@pytest.mark.parametrize(
    ("serving", "rolls_back"),
    [pytest.param(2, True, id="what serves is fresh"), pytest.param(900, False, id="what serves is behind as well")],
)
def test_a_candidate_is_taken_back_only_if_it_alone_is_behind(serving: int, rolls_back: bool) -> None:
    late = [
        replace(b.collection(name=arm.collection), lag=timedelta(seconds=seconds))
        for arm, seconds in ((b.NEW, 600), (b.OLD, serving))
    ]
    seen = replace(world(), store=replace(b.store(), collections=tuple(late), lag=timedelta(seconds=900)))
    held = track(CANARY, seen, b.NOON)
    assert set(held) == {"FollowerLag"}
    assert (shared_failure(CANARY, seen) is None) is rolls_back


CLICKS = PrometheusLimit("clicks", "sum(x)", Operator.BELOW, Limit(timedelta(minutes=2), number=100.0))


@pytest.mark.parametrize(
    ("value", "kept", "started"),
    [
        pytest.param({"clicks": 99.0}, True, True, id="below"),
        pytest.param({"clicks": 105.0}, True, False, id="between limit and hysteresis"),
        pytest.param({"clicks": 110.0}, False, False, id="well above"),
        pytest.param({}, True, False, id="no value"),
        pytest.param(None, True, False, id="no Prometheus"),
    ],
)
def test_a_query_of_ones_own_triggers_on_the_side_that_was_said(
    value: dict[str, float] | None, kept: bool, started: bool
) -> None:
    limits = replace(Limits(), prometheus=(CLICKS,))
    new = b.migration(State.CANARY, spec={"limits": limits})
    running = b.migration(State.CANARY, spec={"limits": limits}, triggers={"Prometheus_clicks": held(30)})
    found = ["Prometheus_clicks" in track(one, replace(world(), queries=value), b.after(2)) for one in (running, new)]
    assert found == [kept, started]


def test_a_query_that_is_due_names_its_value_and_limit() -> None:
    migration = b.migration(State.CANARY, spec={"limits": replace(Limits(), prometheus=(CLICKS,))})
    found = first_due(migration, replace(world(), queries={"clicks": 42.0}), {"Prometheus_clicks": held(120)})
    assert found == Finding("Prometheus_clicks", "the query of trigger 'clicks' gives 42, below 100 for 120 s")
