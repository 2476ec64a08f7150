"""Hooks run one after another, each under one name for ever; how one ended is never forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core import hooks
from reembed.core.hooks import (
    FailurePolicy,
    Hook,
    HookReport,
    HookRun,
    HttpHook,
    Moment,
    On,
    RunHook,
    RunState,
    Situation,
    Standing,
)
from reembed.core.transitions import State
from tests import builders as b

MINUTE = timedelta(minutes=1)
FREEZE = Hook("freeze", On.PRE, MINUTE, http=HttpHook("https://hooks/freeze"))
WARM = Hook("warm", On.PRE, MINUTE, cron_job="warm-up")
PRE = Moment(On.PRE, 1)
KEY = "uid-move/1/Pre/freeze"
JOB = hooks.job_name("move", "freeze", KEY)


def situation(*of: Hook, moment: Moment | None = PRE, **reports: HookReport) -> Situation:
    """Return what is known of migration `move`; reports are given by the hook's name."""
    seen = {job(name, moment or PRE): report for name, report in reports.items()}
    return Situation("move", "uid-move", moment, of or (FREEZE, WARM), seen)


def job(hook: str, when: Moment = PRE) -> str:
    return hooks.job_name("move", hook, hooks.idempotency_key("uid-move", when, hook))


def run(hook: str = "freeze", state: RunState = RunState.RUNNING, message: str = "", when: Moment = PRE) -> HookRun:
    return HookRun(hook, when.at, job(hook, when), state, b.NOON, message)


DONE, FAILED, RUNNING = RunState.SUCCEEDED, RunState.FAILED, RunState.RUNNING


def test_the_first_hook_is_recorded_before_its_job_is_made() -> None:
    standing = hooks.check(situation(), (), b.NOON)
    assert standing == Standing((run(),), waits=f"waiting for hook 'freeze' (Job {JOB}): it may take 0:01:00")
    assert hooks.to_make(situation(), standing.runs) == RunHook(FREEZE, PRE, JOB, KEY)


def test_a_pass_that_is_repeated_asks_for_the_same_job() -> None:
    runs = hooks.check(situation(), (), b.NOON).runs
    assert hooks.check(situation(), runs, b.after(5)).runs == runs
    assert hooks.to_make(situation(), runs) == hooks.to_make(situation(), runs)


def test_a_job_that_is_there_is_not_made_again() -> None:
    assert hooks.to_make(situation(freeze=HookReport(RUNNING)), (run(),)) is None


def test_a_job_that_somebody_deleted_while_it_ran_is_made_again_under_the_same_name() -> None:
    assert hooks.to_make(situation(), (run(),)) == RunHook(FREEZE, PRE, JOB, KEY)


def test_the_second_hook_begins_once_the_first_ended() -> None:
    standing = hooks.check(situation(), (run(state=DONE),), b.NOON)
    assert standing.runs == (run(state=DONE), run("warm"))


def test_a_moment_is_over_when_all_its_hooks_ended() -> None:
    runs = (run(state=DONE), run("warm", DONE))
    assert hooks.check(situation(), runs, b.NOON) == Standing(runs)


def test_a_failure_that_counts_ends_the_moment() -> None:
    runs = (run(state=FAILED, message="hooks answered 403: frozen"),)
    text = f"hook 'freeze' failed: hooks answered 403: frozen (Job {JOB})"
    assert hooks.check(situation(), runs, b.NOON) == Standing(runs, failure=text)


@pytest.mark.parametrize(
    ("on", "policy", "counts"),
    [
        pytest.param(On.PRE, FailurePolicy.FAIL, True, id="before anything was made"),
        pytest.param(On.EACH_STEP, FailurePolicy.FAIL, True, id="before a step"),
        pytest.param(On.EACH_STEP, FailurePolicy.IGNORE, False, id="ignored by its user"),
        pytest.param(On.POST, FailurePolicy.FAIL, False, id="after the promotion nothing is undone"),
        pytest.param(On.ROLLBACK, FailurePolicy.FAIL, False, id="after going back nothing is undone"),
    ],
)
def test_a_failure_counts_only_before_the_fact(on: On, policy: FailurePolicy, counts: bool) -> None:
    when = Moment(on, 1, 0 if on is On.EACH_STEP else None)
    hook = replace(FREEZE, on=on, failure_policy=policy)
    standing = hooks.check(situation(hook, moment=when), (run(state=FAILED, when=when),), b.NOON)
    assert (bool(standing.failure), standing.waits) == (counts, "")


def test_nobody_is_promised_that_a_hook_after_the_fact_fails_anything() -> None:
    assert {on: hooks.default_policy(on) for on in On} == {
        On.PRE: FailurePolicy.FAIL,
        On.EACH_STEP: FailurePolicy.FAIL,
        On.POST: FailurePolicy.IGNORE,
        On.ROLLBACK: FailurePolicy.IGNORE,
    }


def test_what_a_job_came_to_is_recorded() -> None:
    seen = situation(freeze=HookReport(DONE, "hooks answered 200: ok"))
    assert hooks.track(seen, (run(),), b.after(9)) == (run(state=DONE, message="hooks answered 200: ok"),)


def test_why_no_pod_could_start_outlives_the_pods_of_a_late_job() -> None:
    seen = situation(freeze=HookReport(FAILED, "Job was active longer than specified deadline"))
    (found,) = hooks.track(seen, (run(message='pod x: secret "keys" not found'),), b.after(61))
    text = 'Job was active longer than specified deadline; before that, pod x: secret "keys" not found'
    assert found == run(state=FAILED, message=text)


def test_how_a_run_ended_outlives_its_job() -> None:
    runs = (run(state=DONE, message="ok"),)
    assert hooks.track(situation(), runs, b.after(9)) == runs
    assert hooks.track(situation(freeze=HookReport(FAILED, "deleted")), runs, b.after(9)) == runs


def test_a_job_that_cannot_be_made_is_tried_again_and_says_why() -> None:
    seen = situation(freeze=HookReport(RUNNING, "there is no CronJob 'freeze'", made=False))
    runs = hooks.track(seen, (run(),), b.after(9))
    assert runs == (run(message="there is no CronJob 'freeze'"),)
    assert hooks.to_make(seen, runs) == RunHook(FREEZE, PRE, JOB, KEY)
    assert "there is no CronJob 'freeze'; it may take 0:01:00" in hooks.check(seen, runs, b.after(9)).waits


@pytest.mark.parametrize("seconds", [120, 119.9])
def test_a_run_gets_its_timeout_and_a_minute_for_its_pod(seconds: float) -> None:
    seen = situation(freeze=HookReport(RUNNING, "pod x: image not found"))
    assert hooks.track(seen, (run(),), b.after(seconds))[0].state is RUNNING


def test_a_run_that_takes_too_long_fails_with_what_kept_it_and_is_stopped() -> None:
    seen = situation(freeze=HookReport(RUNNING, "pod x: image not found"))
    runs = hooks.track(seen, (run(),), b.after(121))
    text = "it did not end within its timeout of 0:01:00 (pod x: image not found); it is stopped"
    assert runs == (run(state=FAILED, message=text),)
    assert hooks.to_stop(seen, runs) == (JOB,)


def test_a_run_is_stopped_and_never_made_again_once_the_migration_went_another_way() -> None:
    back = Moment(On.ROLLBACK, 1)
    seen = replace(situation(moment=back), reports={JOB: HookReport(RUNNING)})
    runs = hooks.track(seen, (run(),), b.after(9))
    assert runs == (run(state=FAILED, message="the migration went another way before it ended; it is stopped"),)
    assert (hooks.to_make(seen, runs), hooks.to_stop(seen, runs)) == (None, (JOB,))


def test_a_job_never_made_is_not_made_once_the_migration_went_another_way() -> None:
    assert hooks.to_make(situation(moment=Moment(On.ROLLBACK, 1)), (run(),)) is None


def test_a_job_that_ended_is_not_stopped() -> None:
    assert hooks.to_stop(situation(freeze=HookReport(FAILED, "no")), (run(state=FAILED),)) == ()


def test_a_hook_that_is_taken_out_of_the_spec_holds_nobody_up() -> None:
    seen = situation(WARM, freeze=HookReport(RUNNING))
    runs = hooks.track(seen, (run(),), b.after(9))
    assert runs == (run(state=FAILED, message="it was taken out of spec.hooks while it ran; it is stopped"),)
    assert hooks.check(seen, runs, b.after(9)).runs[-1].name == "warm"


def test_each_step_runs_its_hooks_anew_under_another_key() -> None:
    hook = replace(FREEZE, on=On.EACH_STEP)
    first, second = Moment(On.EACH_STEP, 1, 0), Moment(On.EACH_STEP, 1, 1)
    standing = hooks.check(situation(hook, moment=second), (run(state=DONE, when=first),), b.NOON)
    assert standing.runs == (run(state=DONE, when=first), run(when=second))
    assert job("freeze", first) != job("freeze", second)


@pytest.mark.parametrize(
    ("state", "step", "expected"),
    [
        (State.PREFLIGHT, 0, "2/Pre"),
        (State.EVALUATING, 0, "2/EachStep/0"),
        (State.CANARY, 1, "2/EachStep/2"),
        (State.PROMOTING, 2, "2/Post"),
        (State.ROLLING_BACK, 2, "2/Rollback"),
    ],
)
def test_a_state_has_the_moment_of_what_comes_next(state: State, step: int, expected: str) -> None:
    found = hooks.moment(state, 2, step)
    assert found is not None
    assert found.at == expected


@pytest.mark.parametrize(
    "state", [State.BACKFILLING, State.INDEXING, State.RETAINING, State.UNWINDING, State.SUCCEEDED, State.FAILED]
)
def test_no_hook_runs_in_any_other_state(state: State) -> None:
    seen = situation(moment=hooks.moment(state, 1, 0))
    assert hooks.check(seen, (), b.NOON) == Standing(())


def test_names_differ_by_migration_attempt_moment_and_hook_and_fit_a_label() -> None:
    moments = [Moment(On.PRE, 1), Moment(On.PRE, 2), Moment(On.POST, 1)]
    keys = [hooks.idempotency_key(uid, when, name) for uid in ("a", "b") for when in moments for name in ("x", "y")]
    found = {hooks.job_name("m" * 60, "h" * 40, key) for key in keys}
    assert (len(found), {len(name) for name in found}) == (12, {63})


def test_only_runs_that_ended_in_this_pass_are_told() -> None:
    before = (run(state=DONE), run("warm"))
    after = (run(state=DONE), run("warm", FAILED, "no"))
    assert hooks.ended(before, after) == (run("warm", FAILED, "no"),)


def test_the_runs_of_the_present_moment_are_never_dropped_from_the_record() -> None:
    many = tuple(replace(FREEZE, name=f"h{number}") for number in range(16))
    old = tuple(run(state=DONE, when=Moment(On.EACH_STEP, 1, step)) for step in range(64))
    runs = old
    for hook in many:
        runs = hooks.check(situation(*many), runs, b.NOON).runs
        runs = (*runs[:-1], run(hook.name, DONE))
    assert (len(runs), hooks.check(situation(*many), runs, b.NOON)) == (64, Standing(runs))
