"""Emergency protection begins early, stops what can wait, and ends when the pressure has been gone for a while."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import decide
from reembed.core.effects import ApplyJob, ProtectPools
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
