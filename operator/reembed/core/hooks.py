"""Hooks of a migration: which Job is due at a moment of its life, what became of it, and what follows.

A hook runs as a Kubernetes Job, so that the operator calls no address of a user's and reads no Secret. The Job's name
follows from migration, attempt, moment and hook: whoever asks again, after a restart or in the next pass, asks for the
same Job, and what it calls finds the same idempotency key. A run is recorded before its Job is made, and how it ended
stays recorded whatever becomes of the Job.

`track` brings the records up to date on every pass, `check` is asked by the state that may not go on before its hooks
ran, `to_make` and `to_stop` are the effects. Hooks of a moment run one after another, in the order of the spec.
docs/hooks.md tells users the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from reembed.core import names
from reembed.core.transitions import State


class On(Enum):
    """When a hook runs."""

    PRE = "Pre"  # the last of what Preflight checks
    EACH_STEP = "EachStep"  # before a step of the canary raises the candidate's weight
    POST = "Post"  # the candidate is what serves; before success is declared
    ROLLBACK = "Rollback"  # no query goes to the candidate any more


class FailurePolicy(Enum):
    """What a failed hook means. What runs after the fact (Post, Rollback) knows Ignore alone."""

    FAIL = "Fail"  # Pre: the migration fails; EachStep: it rolls back
    IGNORE = "Ignore"  # it is recorded, and told in an event


# Hooks that can still stop what they are asked about.
_BEFORE_THE_FACT = frozenset({On.PRE, On.EACH_STEP})


def default_policy(on: On) -> FailurePolicy:
    """Return what a failure means where the user does not say."""
    return FailurePolicy.FAIL if on in _BEFORE_THE_FACT else FailurePolicy.IGNORE


class RunState(Enum):
    """How a run is."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class HttpHook:
    """A POST to a user's address, made by a pod of ours."""

    url: str
    retries: int = 3
    hmac_secret: tuple[str, str] | None = None  # name and key of the Secret that signs; nobody but the pod reads it


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook as its user wrote it; exactly one of `http` and `cron_job` is set."""

    name: str
    on: On
    timeout: timedelta
    failure_policy: FailurePolicy = FailurePolicy.FAIL
    http: HttpHook | None = None
    cron_job: str | None = None  # whose template the Job is made from


@dataclass(frozen=True, slots=True)
class HookRun:
    """What is recorded of a hook at one moment."""

    name: str
    at: str  # Moment.at
    job: str
    state: RunState
    started_at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class HookReport:
    """What one pass saw of a run's Job. `made` is False while it cannot be made; `message` then says why."""

    state: RunState
    message: str = ""
    made: bool = True


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of a migration's life at which hooks run; `step` is the one about to be entered, of EachStep alone."""

    on: On
    attempt: int
    step: int | None = None

    @property
    def at(self) -> str:
        step = f"/{self.step}" if self.step is not None else ""
        return f"{self.attempt}/{self.on.value}{step}"


@dataclass(frozen=True, slots=True)
class Situation:
    """A migration's hooks and what one pass saw of their Jobs, by the Job's name. No moment: none may run now."""

    migration: str
    uid: str
    moment: Moment | None
    hooks: tuple[Hook, ...]
    reports: Mapping[str, HookReport]


@dataclass(frozen=True, slots=True)
class Standing:
    """What `check` found: the runs to record, and what is waited for or has failed. Neither: the moment is over."""

    runs: tuple[HookRun, ...]
    waits: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class RunHook:
    """Effect: make the Job of a run. It is only ever created; that it exists already is as good."""

    hook: Hook
    moment: Moment
    job: str
    key: str  # idempotency key


# A pod needs some time to be scheduled, to pull its image and to end, before its own timeout counts.
GRACE = timedelta(minutes=1)
# The CRD's limit of hooks is below this, so that no run of the present moment is ever dropped.
_MOST_RUNS = 64
_LONGEST_MESSAGE = 1024
_LONGEST_NAME = 63
_HASH = 8

_ON = {State.PREFLIGHT: On.PRE, State.PROMOTING: On.POST, State.ROLLING_BACK: On.ROLLBACK}


def moment(state: State, attempt: int, step: int) -> Moment | None:
    """Return the moment whose hooks may run in a state, None if no hook may; `step` is the canary's present one."""
    if state is State.EVALUATING:
        return Moment(On.EACH_STEP, attempt, 0)
    if state is State.CANARY:
        return Moment(On.EACH_STEP, attempt, step + 1)
    return Moment(_ON[state], attempt) if state in _ON else None


def idempotency_key(uid: str, when: Moment, hook: str) -> str:
    """Return what names one run of one hook, whatever happens to pods and operators."""
    return f"{uid}/{when.at}/{hook}"


def job_name(migration: str, hook: str, key: str) -> str:
    """Return the name of a run's Job: for people to recognize, and different for every key."""
    readable = names.fit(f"reembed-hook-{migration}-{hook}")[: _LONGEST_NAME - _HASH - 1]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:_HASH]}"


def track(situation: Situation, runs: tuple[HookRun, ...], now: datetime) -> tuple[HookRun, ...]:
    """Return the runs as this pass sees them; what has ended stays as it was recorded."""
    return tuple(_tracked(situation, run, now) if run.state is RunState.RUNNING else run for run in runs)


def check(situation: Situation, runs: tuple[HookRun, ...], now: datetime) -> Standing:
    """Return whether the hooks of the present moment are over, and record the start of the next one if they are not."""
    when = situation.moment
    if when is None:
        return Standing(runs)
    for hook in situation.hooks:
        if hook.on is not when.on:
            continue
        run = next((one for one in runs if (one.name, one.at) == (hook.name, when.at)), None)
        if run is None:
            job = job_name(situation.migration, hook.name, idempotency_key(situation.uid, when, hook.name))
            run = HookRun(hook.name, when.at, job, RunState.RUNNING, now)
            return Standing((*runs, run)[-_MOST_RUNS:], waits=_waits(run, hook))
        if run.state is RunState.RUNNING:
            return Standing(runs, waits=_waits(run, hook))
        if run.state is RunState.FAILED and counts(hook):
            return Standing(runs, failure=failed(run))
    return Standing(runs)


def counts(hook: Hook) -> bool:
    """Return whether the migration may not go on if the hook fails: what is done already is not undone by a hook."""
    return hook.failure_policy is FailurePolicy.FAIL and hook.on in _BEFORE_THE_FACT


def to_make(situation: Situation, runs: tuple[HookRun, ...]) -> RunHook | None:
    """Return the Job that is due and not there."""
    when = situation.moment
    for run in runs:
        report, hook = situation.reports.get(run.job), _hook(situation, run)
        missing = run.state is RunState.RUNNING and (report is None or not report.made)
        if missing and when is not None and run.at == when.at and hook is not None:
            return RunHook(hook, when, run.job, idempotency_key(situation.uid, when, hook.name))
    return None


def to_stop(situation: Situation, runs: tuple[HookRun, ...]) -> tuple[str, ...]:
    """Return the Jobs that still run although their run is over: too late, or for a moment that has passed."""
    over = [run.job for run in runs if run.state is not RunState.RUNNING]
    return tuple(job for job in over if job in situation.reports and _still_runs(situation.reports[job]))


def ended(before: tuple[HookRun, ...], after: tuple[HookRun, ...]) -> tuple[HookRun, ...]:
    """Return the runs that ended in a pass, for its events."""
    known = {run.job for run in before if run.state is not RunState.RUNNING}
    return tuple(run for run in after if run.state is not RunState.RUNNING and run.job not in known)


def failed(run: HookRun) -> str:
    """Return what to tell people of a run that failed."""
    return f"hook {run.name!r} failed: {run.message or 'it says nothing about why'} (Job {run.job})"


def _tracked(situation: Situation, run: HookRun, now: datetime) -> HookRun:
    hook, report = _hook(situation, run), situation.reports.get(run.job)
    if report is not None and report.state is not RunState.RUNNING:
        return replace(run, state=report.state, message=_last_word(run, report)[:_LONGEST_MESSAGE])
    if hook is None:
        return _over(run, "it was taken out of spec.hooks while it ran; it is stopped")
    if situation.moment is None or situation.moment.at != run.at:
        return _over(run, "the migration went another way before it ended; it is stopped")
    message = report.message if report is not None else ""
    if now - run.started_at > hook.timeout + GRACE:
        why = f" ({message})" if message else ""
        return _over(run, f"it did not end within its timeout of {hook.timeout}{why}; it is stopped")
    return replace(run, message=message[:_LONGEST_MESSAGE])


def _last_word(run: HookRun, report: HookReport) -> str:
    """Return what a run came to; a Job that was late takes its pods along, and with them why none could start."""
    kept = report.state is RunState.FAILED and bool(run.message)
    return f"{report.message}; before that, {run.message}" if kept else report.message


def _over(run: HookRun, why: str) -> HookRun:
    return replace(run, state=RunState.FAILED, message=why[:_LONGEST_MESSAGE])


def _hook(situation: Situation, run: HookRun) -> Hook | None:
    return next((hook for hook in situation.hooks if hook.name == run.name), None)


def _still_runs(report: HookReport) -> bool:
    return report.made and report.state is RunState.RUNNING


def _waits(run: HookRun, hook: Hook) -> str:
    what = f"{run.message}; " if run.message else ""
    return f"waiting for hook {run.name!r} (Job {run.job}): {what}it may take {hook.timeout}"
