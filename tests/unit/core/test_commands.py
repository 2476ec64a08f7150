"""Commands work once, for the object and the point that their sender saw, and never in place of a gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import decide
from reembed.core.effects import ApplyJob
from reembed.core.migration import Migration, Seen
from reembed.core.model import (
    Approval,
    ArmMeasure,
    Command,
    EvaluationReport,
    Excused,
    GatewayReport,
    Step,
    TriggerState,
    Verb,
)
from reembed.core.transitions import State
from tests import builders as b

HELD = {"acknowledged_at": b.NOON, "weight": 10}
APPROVED_STEPS = (Step(10, timedelta(minutes=5), Approval.REQUIRED), Step(100, timedelta(minutes=5)))


def asked(migration: Migration, *verbs: Verb, **changes: str) -> Migration:
    given = {"uid": migration.meta.uid, "at": migration.status.at, "nonce": "n-1"} | changes
    return replace(migration, asked=tuple(Command(verb, **given) for verb in verbs))  # type: ignore[arg-type]


def answers(migration: Migration, seen: Seen) -> list[tuple[str, bool, str]]:
    status = decide(migration, seen, b.NOON).status
    return [(one.verb.value, one.accepted, one.message) for one in status.commands]


def test_an_aborted_canary_gives_the_queries_back_before_its_status_is_written() -> None:
    verdict = decide(asked(b.migration(State.CANARY, **HELD), Verb.ABORT), b.seen(b.index(10)), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.ROLLING_BACK, "Aborted")
    assert [type(one).__name__ for one in verdict.before] == ["SetIndexStatus"]


@pytest.mark.parametrize(
    "state",
    [State.PREFLIGHT, State.BACKFILLING, State.INDEXING, State.EVALUATING, State.CANARY, State.RETAINING],
)
def test_a_migration_can_be_aborted_until_it_is_promoted(state: State) -> None:
    assert decide(asked(b.migration(state), Verb.ABORT), b.seen(), b.NOON).status.state is State.ROLLING_BACK


def test_a_command_that_was_answered_is_not_answered_again() -> None:
    migration = asked(b.migration(State.CANARY, **HELD), Verb.PAUSE)
    world = b.seen(b.index(10))
    once = decide(migration, world, b.NOON).status
    resumed = replace(once, paused=False)
    twice = decide(replace(migration, status=resumed), world, b.NOON).status
    assert (once.paused, twice.paused, twice.commands) == (True, False, once.commands)


def test_an_annotation_that_is_still_there_stays_answered_after_many_others() -> None:
    status = decide(asked(b.migration(State.CANARY, **HELD), Verb.PAUSE), b.seen(b.index(10)), b.NOON).status
    for number in range(40):
        both = asked(replace(b.migration(State.CANARY), status=status), Verb.PAUSE).asked
        verb = (Verb.RESUME, Verb.PROMOTE)[number % 2]
        other = Command(verb, "uid-move", status.at, f"n-{number + 2}")
        migration = replace(b.migration(State.CANARY), status=status, asked=(*both, other))
        status = decide(migration, b.seen(b.index(10)), b.NOON).status
    assert (status.paused, len(status.commands) <= 16) == (False, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"uid": "uid-of-another"}, "it is meant for UID uid-of-another, and this", id="another object"),
        pytest.param({"at": "1/Canary/1"}, "it is meant for 1/Canary/1, and the migration is at 1/Canary/0", id="step"),
        pytest.param({"at": "2/Canary/0"}, "it is meant for 2/Canary/0, and the migration is at", id="another attempt"),
        pytest.param({"problem": "annotation x must be JSON"}, "annotation x must be JSON", id="unreadable"),
    ],
)
def test_a_command_for_something_else_is_refused(changes: dict[str, str], message: str) -> None:
    migration = asked(b.migration(State.CANARY, **HELD), Verb.PROMOTE, **changes)
    ((verb, accepted, text),) = answers(migration, b.seen(b.index(10)))
    assert (verb, accepted) == ("promote", False)
    assert text.startswith(message)


def test_an_abort_is_meant_for_the_attempt_whatever_step_it_has_got_to() -> None:
    migration = asked(b.migration(State.CANARY, **HELD), Verb.ABORT, at="1/Canary/1")
    assert decide(migration, b.seen(b.index(10)), b.NOON).status.state is State.ROLLING_BACK


def test_abort_wins_over_whatever_else_is_asked() -> None:
    migration = asked(b.migration(State.CANARY, **HELD), Verb.PROMOTE, Verb.PAUSE, Verb.ABORT)
    found = answers(migration, b.seen(b.index(10)))
    assert [(verb, accepted) for verb, accepted, _ in found] == [("abort", True), ("pause", False), ("promote", False)]


@pytest.mark.parametrize(
    ("state", "verb", "message"),
    [
        pytest.param(State.PREFLIGHT, Verb.PROMOTE, "Preflight has no hold to skip", id="nothing to promote"),
        pytest.param(State.CANARY, Verb.RESUME, "it is not paused", id="nothing to resume"),
        pytest.param(State.CANARY, Verb.RETRY, "Canary is not retried", id="nothing to retry"),
        pytest.param(State.PROMOTING, Verb.ABORT, "there is nothing to abort in Promoting", id="too late to abort"),
        pytest.param(State.PROMOTING, Verb.PAUSE, "Promoting is not paused", id="too late to pause"),
        pytest.param(
            State.ROLLING_BACK, Verb.ABORT, "there is nothing to abort in RollingBack", id="goes back already"
        ),
        pytest.param(State.FAILED, Verb.ABORT, "there is nothing to abort in Failed", id="ended"),
        pytest.param(State.SUCCEEDED, Verb.RETRY, "Succeeded is not retried", id="nothing failed"),
    ],
)
def test_a_command_that_does_not_apply_is_refused_with_the_reason(state: State, verb: Verb, message: str) -> None:
    ((_, accepted, text),) = answers(asked(b.migration(state), verb), b.seen(b.index(0)))
    assert (accepted, text[: len(message)]) == (False, message)


def test_no_abort_sends_queries_to_a_dead_serving_side() -> None:
    world = b.seen(b.index(10), source=b.pool("old", ready=0))
    verdict = decide(asked(b.migration(State.CANARY, **HELD), Verb.ABORT), world, b.NOON)
    assert verdict.status.state is State.CANARY
    assert "force-stable" in verdict.status.commands[0].message


def test_what_the_manifest_pauses_is_resumed_in_the_manifest() -> None:
    migration = asked(b.migration(State.CANARY, spec={"paused": True}, **HELD), Verb.RESUME)
    ((_, accepted, message),) = answers(migration, b.seen(b.index(10)))
    assert (accepted, message) == (False, "spec.paused is true in the manifest; set it to false there")


@pytest.mark.parametrize("how", [{"paused": True}, {"spec": {"paused": True}}], ids=["by command", "by the manifest"])
def test_a_paused_step_is_not_left_however_long_it_was_held(how: dict[str, object]) -> None:
    status = decide(b.migration(State.CANARY, **HELD, **how), b.seen(b.index(10)), b.after(3600)).status
    assert (status.state, status.step, status.reason) == (State.CANARY, 0, "Paused")


def test_a_trigger_takes_the_queries_back_from_a_paused_migration() -> None:
    due = {"ErrorRate": TriggerState(b.NOON, timedelta(minutes=3), b.NOON)}
    failing = ArmMeasure(requests=100, errors=50, p95=timedelta(milliseconds=40))
    world = b.seen(b.index(10))
    world = replace(world, arms=dict(world.arms) | {b.NEW.collection: failing})
    verdict = decide(b.migration(State.CANARY, paused=True, triggers=due, **HELD), world, b.after(2))
    assert (verdict.status.state, verdict.status.reason) == (State.ROLLING_BACK, "ErrorRate")


def test_a_paused_backfill_runs_no_pods() -> None:
    filling = b.store(b.collection("Filling", shards_done=3, written=400))
    verdict = decide(b.migration(State.BACKFILLING, paused=True), b.seen(store=filling), b.NOON)
    jobs = [one.job.parallelism for one in verdict.after if isinstance(one, ApplyJob)]
    assert (jobs, verdict.status.reason) == ([0], "Paused")


def test_a_paused_migration_that_has_not_begun_holds_no_index() -> None:
    world = b.seen(b.index(held=False, candidate=None))
    verdict = decide(b.migration(spec={"paused": True}), world, b.NOON)
    assert (verdict.status.reason, verdict.after) == ("Paused", ())


def test_a_pause_counts_to_no_deadline() -> None:
    paused = b.migration(State.INDEXING, paused=True, reason="Paused", excused=Excused(since=b.NOON))
    building = b.seen(store=b.store(b.collection("Filled")))
    status = decide(paused, building, b.after(3600 * 90)).status
    resumed = replace(paused, status=replace(status, paused=False))
    later = decide(resumed, building, b.after(3600 * 91)).status
    assert [status.state, later.state] == [State.INDEXING, State.INDEXING]
    assert later.excused == Excused(timedelta(hours=91), timedelta(hours=91))


def test_promote_skips_the_rest_of_a_hold() -> None:
    migration = asked(b.migration(State.CANARY, **HELD), Verb.PROMOTE)
    status = decide(migration, b.seen(b.index(10)), b.after(1)).status
    assert (status.state, status.step, status.message) == (State.CANARY, 1, "promoted by command")


def test_promote_skips_no_gate() -> None:
    migration = asked(b.migration(State.CANARY, **HELD), Verb.PROMOTE)
    status = decide(migration, b.seen(b.index(10), target=b.pool("new", ready=0)), b.after(1)).status
    assert (status.step, status.reason, status.promoted) == (0, "CapacityNotReady", "1/Canary/0")


def test_a_step_that_needs_approval_waits_for_it_and_no_deadline_runs() -> None:
    migration = b.migration(State.CANARY, spec={"steps": APPROVED_STEPS}, **HELD)
    waits = decide(migration, b.seen(b.index(10)), b.after(600)).status
    days = replace(migration, status=waits)
    approved = decide(asked(days, Verb.PROMOTE), b.seen(b.index(10)), b.after(3600 * 72)).status
    assert [(one.step, one.reason) for one in (waits, approved)] == [(0, "AwaitingApproval"), (1, "StepHeld")]
    assert waits.excused == Excused(since=b.after(600))


def test_an_approval_is_for_one_step() -> None:
    steps = (replace(APPROVED_STEPS[0]), Step(50, timedelta(0), Approval.REQUIRED), Step(100, timedelta(0)))
    migration = b.migration(
        State.CANARY, spec={"steps": steps}, step=1, acknowledged_at=b.NOON, weight=50, promoted="1/Canary/0"
    )
    assert decide(migration, b.seen(b.index(50)), b.after(600)).status.reason == "AwaitingApproval"


@pytest.mark.parametrize(
    ("verdict", "state"),
    [("Inconclusive", State.CANARY), ("TooFewQueries", State.CANARY), ("Inferior", State.ROLLING_BACK)],
)
def test_a_word_turns_undecided_retrieval_into_yes_and_never_worse_retrieval(verdict: str, state: State) -> None:
    report = EvaluationReport("uid-move-1", verdict, 200, 10, 0.5, 0.5, -0.03, 0.03, "MRR@10 0.5 after 0.5")
    migration = b.migration(State.EVALUATING, spec={"evaluation": b.EVALUATION}, reason=f"Retrieval{verdict}")
    world = b.seen(store=b.store(b.collection(), evaluation=report))
    assert decide(asked(migration, Verb.PROMOTE), world, b.NOON).status.state is state


def test_the_queries_can_be_taken_back_until_retention_ends() -> None:
    migration = asked(b.migration(State.RETAINING, acknowledged_at=b.NOON, weight=100), Verb.ABORT)
    verdict = decide(migration, b.seen(b.index(100)), b.after(1800))
    (effect,) = verdict.before
    assert verdict.status.state is State.ROLLING_BACK
    assert (effect.status.routing.serving, effect.status.routing.weight) == (b.OLD, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("state", [State.FAILED, State.ROLLED_BACK])
def test_a_retry_begins_anew_with_a_collection_of_its_own(state: State) -> None:
    ended = b.migration(state, triggers={}, weight=0)
    world = b.seen(b.index(held=False, candidate=None), store=b.store(b.collection("Withdrawn")))
    first = decide(asked(ended, Verb.RETRY), world, b.after(60)).status
    assert (first.state, first.attempt, first.serving, first.candidate) == (State.PREFLIGHT, 2, None, None)
    assert [visit.state for visit in first.timeline][-2:] == [state, State.PREFLIGHT]
    assert first.attempted_at == b.after(60)


def test_a_retry_waits_until_the_last_attempt_is_withdrawn() -> None:
    world = b.seen(b.index(held=False, candidate=None), gateways=(), gateway_pods=("a",))
    plan = b.index().status.plan
    world = replace(world, index=b.index(held=False, candidate=None, plan=plan))
    ((_, accepted, message),) = answers(asked(b.migration(State.ROLLED_BACK), Verb.RETRY), world)
    assert (accepted, message.partition(":")[0]) == (False, "what the last attempt made is not withdrawn yet")


def test_gateways_that_lag_do_not_answer_for_a_command() -> None:
    late = GatewayReport("a", 2, 0, b.OLD, None)
    verdict = decide(asked(b.migration(State.CANARY), Verb.PROMOTE), b.seen(b.index(10), gateways=(late, late)), b.NOON)
    assert (verdict.status.step, verdict.status.promoted) == (0, "1/Canary/0")
