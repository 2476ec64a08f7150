"""Emergency protection begins early, stops what can wait, and ends when the pressure has been gone for a while."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import decide
from reembed.core.effects import ApplyJob, ProtectPools, SetIndexStatus
from reembed.core.migration import Seen
from reembed.core.model import ArmMeasure, Emergency, TriggerState
from reembed.core.transitions import State
from tests import builders as b

BEGUN = Emergency(b.NOON, "Memory", "memory of the candidate pool 'new' is at 88% of its limit, above 85%")


def pressed(memory: float, side: str = "target") -> Seen:
    name = {"target": "new", "source": "old"}[side]
    return b.seen(b.index(10), **{side: b.pool(name, memory=memory)})


@pytest.mark.parametrize(
    ("memory", "begins"), [pytest.param(0.85, False, id="at 85 %"), pytest.param(0.88, True, id="above it")]
)
@pytest.mark.parametrize("side", ["target", "source"])
def test_memory_of_either_side_begins_it(memory: float, begins: bool, side: str) -> None:
    status = decide(b.migration(State.CANARY, weight=10), pressed(memory, side), b.NOON).status
    assert (status.emergency is not None) is begins


@pytest.mark.parametrize(
    ("seconds", "dry_run", "begins"),
    [
        pytest.param(86, False, False, id="less than half of its time"),
        pytest.param(88, False, True, id="half of its time"),
        pytest.param(170, True, False, id="in dry run"),
    ],
)
def test_a_trigger_past_half_of_its_time_begins_it(seconds: int, dry_run: bool, begins: bool) -> None:
    state = TriggerState(b.NOON, timedelta(seconds=seconds), b.NOON, timedelta(minutes=3), dry_run=dry_run)
    migration = b.migration(State.CANARY, weight=10, triggers={"ErrorRate": state})
    if dry_run:
        limits = migration.spec.limits
        dry = replace(limits, error_rate=replace(limits.error_rate, dry_run=True))
        migration = replace(migration, spec=replace(migration.spec, limits=dry))
    world = b.seen(b.index(10))
    failing = ArmMeasure(requests=100, errors=50, p95=timedelta(milliseconds=40))
    status = decide(migration, replace(world, arms=dict(world.arms) | {b.NEW.collection: failing}), b.after(2)).status
    assert (status.emergency is not None) is begins


def test_it_stops_the_backfill_and_protects_the_pods_of_both_sides() -> None:
    filling = b.store(b.collection("Filling", shards_done=3, written=400))
    world = b.seen(store=filling, target=b.pool("new", memory=0.88))
    verdict = decide(b.migration(State.BACKFILLING), world, b.NOON)
    assert [one.job.parallelism for one in verdict.after if isinstance(one, ApplyJob)] == [0]
    assert ProtectPools(("new", "old")) in verdict.after
    assert [note.reason for note in verdict.notes] == ["EmergencyBegan"]


def test_it_ends_shadow_queries_and_leaves_weight_and_epoch_as_they_are() -> None:
    found = b.index(10)
    migration = b.migration(State.CANARY, weight=10, acknowledged_at=b.NOON)
    verdict = decide(migration, pressed(0.88), b.NOON)
    routed = [one.status.routing for one in verdict.after if isinstance(one, SetIndexStatus)]
    assert routed == [replace(found.status.routing, shadow=0.0)]


def test_traffic_does_not_move_on_meanwhile() -> None:
    migration = b.migration(State.CANARY, weight=10, acknowledged_at=b.NOON)
    status = decide(migration, pressed(0.88), b.after(600)).status
    assert (status.step, status.reason) == (0, "EmergencyProtection")


@pytest.mark.parametrize(
    ("clear_for", "holds"), [pytest.param(59, True, id="just under a minute"), pytest.param(60, False, id="a minute")]
)
def test_it_ends_when_it_has_been_clear_for_a_minute(clear_for: int, holds: bool) -> None:
    migration = b.migration(State.CANARY, weight=10, emergency=replace(BEGUN, clear_since=b.NOON))
    verdict = decide(migration, pressed(0.5), b.after(clear_for))
    assert (verdict.status.emergency is not None) is holds
    assert [note.reason for note in verdict.notes] == ([] if holds else ["EmergencyEnded"])


def test_pressure_that_comes_back_begins_the_minute_anew() -> None:
    migration = b.migration(State.CANARY, weight=10, emergency=replace(BEGUN, clear_since=b.NOON))
    assert decide(migration, pressed(0.88), b.after(50)).status.emergency == BEGUN


@pytest.mark.parametrize(
    ("memory", "minutes", "tolerated"),
    [
        pytest.param(0.87, 4.9, None, id="not long enough"),
        pytest.param(0.87, 5, 87, id="long enough"),
        pytest.param(0.875, 5, 88, id="rounded to the safe side"),
        pytest.param(0.90, 5, None, id="at the trigger's limit"),
        pytest.param(0.97, 60, None, id="above it"),
    ],
)
@pytest.mark.parametrize("side", ["target", "source"])
def test_memory_that_stays_although_all_that_can_wait_has_stopped_holds_nothing_up(
    memory: float, minutes: float, tolerated: int | None, side: str
) -> None:
    migration = b.migration(State.CANARY, weight=10, emergency=BEGUN)
    verdict = decide(migration, pressed(memory, side), b.after(60 * minutes))
    told = [note.reason for note in verdict.notes]
    assert (verdict.status.tolerated, verdict.status.emergency is None, told) == (
        (tolerated, True, ["MemoryTolerated"]) if tolerated is not None else (None, False, [])
    )


@pytest.mark.parametrize(
    ("memory", "begins", "tolerated"),
    [
        pytest.param(0.88, False, 87, id="hardly higher"),
        pytest.param(0.89, True, 87, id="more than half-way to the trigger"),
        pytest.param(0.82, False, 87, id="a little lower is not forgotten"),
        pytest.param(0.79, False, None, id="given back"),
    ],
)
def test_what_is_tolerated_is_protected_again_before_the_trigger(
    memory: float, begins: bool, tolerated: int | None
) -> None:
    status = decide(b.migration(State.CANARY, weight=10, tolerated=87), pressed(memory), b.NOON).status
    assert (status.emergency is not None, status.tolerated) == (begins, tolerated)


def test_nothing_is_tolerated_while_a_trigger_runs() -> None:
    running = TriggerState(b.NOON, timedelta(seconds=10), b.after(298), timedelta(minutes=3))
    migration = b.migration(State.CANARY, weight=10, emergency=BEGUN, triggers={"ErrorRate": running})
    world = pressed(0.87)
    failing = ArmMeasure(requests=100, errors=50, p95=timedelta(milliseconds=40))
    status = decide(migration, replace(world, arms=dict(world.arms) | {b.NEW.collection: failing}), b.after(300)).status
    assert (status.emergency, status.tolerated) == (BEGUN, None)
