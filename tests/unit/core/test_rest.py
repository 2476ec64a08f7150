"""A migration that has ended is left alone only when nothing of it is left to do, whatever its pods may say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core.decide import at_rest, decide
from reembed.core.hooks import HookReport, HookRun, RunState
from reembed.core.migration import Migration, Seen
from reembed.core.model import Command, Consumed, JobReport, Verb
from reembed.core.transitions import FINISHED, State
from tests import builders as b

ASKED = Command(Verb.RETRY, "uid-move", "1/RolledBack", "n1")
ANSWERED = Consumed(Verb.RETRY, "n1", "1/RolledBack", b.NOON, accepted=False, message="the index has another holder")
JOB = JobReport("reembed-backfill-move", active=1, failed=0, complete=False, exhausted=False)
LATE = HookRun("notify", "1/Rollback", "reembed-hook-notify", RunState.FAILED, b.NOON)
FREE = b.index(held=False, candidate=None)


def alone(**changes: object) -> Seen:
    """Return what objects say of a migration whose index nobody holds."""
    return replace(Seen(index=FREE, target=None, source=None, store=None), **changes)  # type: ignore[arg-type]


def rolled_back(*asked: Command, **changes: object) -> Migration:
    return replace(b.migration(State.ROLLED_BACK, **changes), asked=asked)


def no_finalizer(migration: Migration) -> Migration:
    return replace(migration, meta=replace(migration.meta, finalizers=()))


@pytest.mark.parametrize(
    ("migration", "seen"),
    [
        pytest.param(rolled_back(), alone(), id="rolled back and unwound"),
        pytest.param(rolled_back(), alone(index=None), id="its index is gone"),
        pytest.param(no_finalizer(b.migration(State.SUCCEEDED)), alone(), id="succeeded: nothing holds it"),
        pytest.param(rolled_back(ASKED, commands=(ANSWERED,)), alone(), id="its commands are answered"),
        pytest.param(rolled_back(hooks=(LATE,)), alone(), id="the Job of its last hook is gone"),
    ],
)
def test_what_has_ended_and_left_nothing_rests(migration: Migration, seen: Seen) -> None:
    verdict = decide(migration, seen, b.after(3600))
    assert at_rest(migration, seen)
    assert (verdict.before, verdict.after, verdict.look_again) == ((), (), None)


@pytest.mark.parametrize(
    ("migration", "seen"),
    [
        *(
            pytest.param(b.migration(state), alone(), id=f"{state.value} is no end")
            for state in State
            if state not in FINISHED
        ),
        pytest.param(b.migration(State.ROLLED_BACK, deleting=True), alone(), id="it is deleted"),
        pytest.param(no_finalizer(rolled_back()), alone(), id="its finalizer was taken off"),
        pytest.param(b.migration(State.SUCCEEDED), alone(), id="succeeded, and its finalizer still holds it"),
        pytest.param(rolled_back(ASKED), alone(), id="a command is not answered"),
        pytest.param(rolled_back(), alone(index=b.index(candidate=None)), id="it still holds its index"),
        pytest.param(rolled_back(), alone(index=b.index(held=False)), id="its collection is still planned"),
        pytest.param(rolled_back(), alone(job=JOB), id="its Job is still there"),
        pytest.param(
            rolled_back(hooks=(LATE,)),
            alone(hooks={LATE.job: HookReport(RunState.RUNNING)}),
            id="a late hook still runs",
        ),
    ],
)
def test_what_is_under_way_or_left_something_does_not_rest(migration: Migration, seen: Seen) -> None:
    assert not at_rest(migration, seen)
