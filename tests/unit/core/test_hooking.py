"""Hooks hold up what they were asked to, in every state that has some, and never take what is done already back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import Verdict, decide
from reembed.core.effects import DeleteJob
from reembed.core.hooks import FailurePolicy, Hook, HookReport, HookRun, HttpHook, On, RunHook, RunState
from reembed.core.migration import Migration, Seen
from reembed.core.model import PointerPlan
from reembed.core.transitions import State
from tests import builders as b

HELD = {"acknowledged_at": b.NOON, "weight": 10}


def hook(on: On, policy: FailurePolicy = FailurePolicy.FAIL) -> Hook:
    return Hook("warm", on, timedelta(seconds=30), policy, HttpHook("https://cache/warm"))


def hooked(state: State, on: On, policy: FailurePolicy = FailurePolicy.FAIL, **changes: object) -> Migration:
    return b.migration(state, spec={"hooks": (hook(on, policy),)}, **changes)


def started(verdict: Verdict) -> list[str]:
    return [one.key for one in verdict.after if isinstance(one, RunHook)]


def ran(migration: Migration, world: Seen, state: RunState, message: str = "") -> Verdict:
    """Return the pass that follows on the run which the first pass asks for."""
    first = decide(migration, world, b.after(600))
    (run,) = first.status.hooks
    reports = {run.job: HookReport(state, message)}
    return decide(replace(migration, status=first.status), replace(world, hooks=reports), b.after(602))


PROMOTED = b.index(0, candidate=None)
PROMOTED = replace(
    PROMOTED,
    status=replace(PROMOTED.status, routing=replace(PROMOTED.status.routing, serving=b.NEW)),
)
POINTER = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)
OLD_WITHDRAWN = tuple(
    replace(one, state="Withdrawn") if one.name == b.OLD.collection else one
    for one in b.store(b.collection()).collections
)
MOMENTS = [
    pytest.param(b.migration(), b.seen(b.index(candidate=None)), On.PRE, State.PREFLIGHT, id="Pre"),
    pytest.param(b.migration(State.EVALUATING), b.seen(), On.EACH_STEP, State.EVALUATING, id="the first step"),
    pytest.param(
        b.migration(State.CANARY, **HELD), b.seen(b.index(10)), On.EACH_STEP, State.CANARY, id="the next step"
    ),
    pytest.param(
        b.migration(State.PROMOTING),
        b.seen(PROMOTED, store=b.store(pointer=POINTER, collections=OLD_WITHDRAWN)),
        On.POST,
        State.PROMOTING,
        id="Post",
    ),
    pytest.param(b.migration(State.ROLLING_BACK), b.seen(b.index(0)), On.ROLLBACK, State.ROLLING_BACK, id="Rollback"),
]


@pytest.mark.parametrize(("migration", "world", "on", "state"), MOMENTS)
def test_a_hook_is_run_and_waited_for_at_its_moment(migration: Migration, world: Seen, on: On, state: State) -> None:
    if on is On.ROLLBACK:
        world = replace(world, store=b.store(b.collection("Withdrawn")))
    migration = replace(migration, spec=replace(migration.spec, hooks=(hook(on),)))
    verdict = decide(migration, world, b.after(600))
    assert (verdict.status.state, len(verdict.status.hooks), len(started(verdict))) == (state, 1, 1)


@pytest.mark.parametrize(("migration", "world", "on", "state"), MOMENTS)
def test_a_hook_that_succeeded_lets_the_migration_go_on(
    migration: Migration, world: Seen, on: On, state: State
) -> None:
    if on is On.ROLLBACK:
        world = replace(world, store=b.store(b.collection("Withdrawn")))
    migration = replace(migration, spec=replace(migration.spec, hooks=(hook(on),)))
    verdict = ran(migration, world, RunState.SUCCEEDED)
    assert (verdict.status.state, verdict.status.step) != (state, migration.status.step)
    assert "HookSucceeded" in [note.reason for note in verdict.notes]


@pytest.mark.parametrize(
    ("migration", "world", "on", "end"),
    [
        pytest.param(b.migration(), b.seen(b.index(candidate=None)), On.PRE, State.FAILED, id="Pre"),
        pytest.param(b.migration(State.EVALUATING), b.seen(), On.EACH_STEP, State.ROLLING_BACK, id="first step"),
        pytest.param(
            b.migration(State.CANARY, **HELD), b.seen(b.index(10)), On.EACH_STEP, State.ROLLING_BACK, id="next step"
        ),
    ],
)
def test_a_hook_that_fails_stops_what_has_not_happened_yet(
    migration: Migration, world: Seen, on: On, end: State
) -> None:
    migration = replace(migration, spec=replace(migration.spec, hooks=(hook(on),)))
    verdict = ran(migration, world, RunState.FAILED, "503 after 4 tries")
    assert (verdict.status.state, verdict.status.reason) == (end, "HookFailed")
    assert verdict.status.message.startswith("hook 'warm' failed: 503 after 4 tries")


def test_a_failed_hook_that_may_be_ignored_is_only_told() -> None:
    migration = hooked(State.CANARY, On.EACH_STEP, FailurePolicy.IGNORE, **HELD)
    verdict = ran(migration, b.seen(b.index(10)), RunState.FAILED, "503")
    assert (verdict.status.step, [note.reason for note in verdict.notes]) == (1, ["Canary", "HookFailed"])


def test_a_hook_is_not_started_while_the_migration_is_paused() -> None:
    migration = hooked(State.CANARY, On.EACH_STEP, paused=True, **HELD)
    verdict = decide(migration, b.seen(b.index(10)), b.after(600))
    assert (verdict.status.hooks, started(verdict), verdict.status.reason) == ((), [], "Paused")


def test_the_last_step_is_left_without_a_hook_for_a_step_that_does_not_exist() -> None:
    migration = hooked(State.CANARY, On.EACH_STEP, step=2, acknowledged_at=b.NOON, weight=100)
    assert decide(migration, b.seen(b.index(100)), b.after(600)).status.state is State.RETAINING


def test_a_trigger_does_not_wait_for_a_hook_and_stops_it() -> None:
    run = HookRun("warm", "1/EachStep/1", "job-1", RunState.RUNNING, b.NOON)
    lowered = b.index(0)
    migration = hooked(State.CANARY, On.EACH_STEP, hooks=(run,), **HELD)
    world = b.seen(lowered, hooks={"job-1": HookReport(RunState.RUNNING)})
    verdict = decide(migration, world, b.after(5))
    assert verdict.status.state is State.ROLLING_BACK
    following = decide(replace(migration, status=verdict.status), world, b.after(7))
    assert DeleteJob("job-1") in following.after
