"""What each state of a migration waits for, one function a state, in the order of a migration's life.

`core.decide` calls the function of the present state once nothing more urgent was found. Each returns an `Outcome`:
stay (no event) or go, with a reason for programs and a message that says what is waited for or why it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reembed.core import desired, preflight, triggers
from reembed.core.migration import Baseline, Migration, Seen, Status
from reembed.core.model import CollectionReport
from reembed.core.transitions import FINISHED, Event, State

# A candidate gets traffic only after this many of the gateways' own queries, none of which failed.
_MIN_PROBES = 3
# A store that cannot be reached for this long does not keep a deleted migration from going.
_STORE_PATIENCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a state says: stay (no event) or go, and why; `status` carries what was recorded on the way."""

    status: Status
    reason: str
    message: str
    event: Event | None = None


def _preflight(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    obstacle = preflight.first_obstacle(preflight.BEFORE_CLAIM[:-2], migration, seen)
    if obstacle is None and preflight.target_serves(migration, seen):
        pool = migration.spec.pool
        return Outcome(status, "AlreadyThere", f"pool {pool!r} serves the index already", Event.ALREADY_THERE)
    obstacle = obstacle or preflight.first_obstacle(preflight.BEFORE_CLAIM[-2:], migration, seen)
    if obstacle is None and desired.holds(migration, seen.index):
        status = _recorded(migration, seen)
        obstacle = preflight.first_obstacle(preflight.AFTER_CLAIM, replace(migration, status=status), seen)
    elif obstacle is None:
        return Outcome(status, "ClaimingIndex", f"taking hold of index {migration.spec.index!r}")
    if obstacle is not None:
        event = Event.REFUSED if obstacle.permanent else None
        return Outcome(status, obstacle.reason, obstacle.message, event)
    ready = replace(status, baseline=_baseline(status, seen, now))
    return Outcome(ready, "Ready", "everything the migration needs is there", Event.PASSED)


def _recorded(migration: Migration, seen: Seen) -> Status:
    """Record both sides of the migration, once the index is held and nobody else can change what serves."""
    status = migration.status
    if status.candidate is not None or seen.index is None or seen.target is None:
        return status
    return replace(
        status,
        serving=seen.index.status.routing.serving,
        candidate=desired.candidate_arm(migration, seen.target),
        backfill_image=seen.backfill_image,
    )


def _baseline(status: Status, seen: Seen, now: datetime) -> Baseline | None:
    measure = seen.arms.get(status.serving.collection) if status.serving is not None else None
    if measure is None or measure.p95 is None:
        return None
    return Baseline(p95=measure.p95, requests=measure.requests, at=now)


def _backfilling(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status, report = migration.status, desired.own_collection(migration, seen)
    if report is None:
        return _waits_for_store(migration, seen, "CreatingCollection", "the store worker creates the collection")
    hopeless = _backfill_refused(migration, seen, report)
    if hopeless is not None:
        return Outcome(status, hopeless.reason, hopeless.message, Event.REFUSED)
    if report.problem is not None:
        return Outcome(status, report.problem.reason, report.problem.message)
    if report.shards_done == report.shards:
        return Outcome(status, "Filled", f"{report.written} documents have a vector", Event.PASSED)
    waits = _backfill_waits(migration, seen)
    if waits is not None:
        return Outcome(status, waits.reason, waits.message)
    return Outcome(status, "Embedding", f"embedding {report.total} documents with pool {migration.spec.pool!r}")


def _backfill_waits(migration: Migration, seen: Seen) -> triggers.Finding | None:
    """Find what keeps documents from being embedded for now."""
    due = triggers.first_due(migration, seen, migration.status.triggers)
    if due is not None:
        return triggers.Finding(due.reason, f"{due.message}; the backfill pauses until it is over")
    problem = seen.job.problem if seen.job is not None and seen.job.active else None
    return triggers.Finding(problem.reason, f"{problem.message}; the backfill waits for it") if problem else None


def _backfill_refused(migration: Migration, seen: Seen, report: CollectionReport) -> triggers.Finding | None:
    """Find what no further waiting would fill."""
    if report.rejected > migration.spec.rejected_share * max(report.total, 1):
        limit = f"{migration.spec.rejected_share:.1%} of {report.total}"
        text = f"{report.rejected} documents cannot be embedded, above {limit}; table reembed.rejected lists them"
        return triggers.Finding("TooManyRejected", text)
    if seen.job is not None and seen.job.exhausted and report.shards_done < report.shards:
        return triggers.Finding("BackfillFailed", f"Job {seen.job.name} gave up: {seen.job.message}")
    return None


def _indexing(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status, report = migration.status, desired.own_collection(migration, seen)
    if report is None:
        return _waits_for_store(migration, seen, "CollectionMissing", "the store worker reports the collection")
    if report.problem is not None:
        return Outcome(status, report.problem.reason, report.problem.message)
    if report.state != "Indexed":
        return Outcome(status, "BuildingIndex", f"building the vector index over {report.written} documents")
    return Outcome(status, "Indexed", "the vector index is valid", Event.PASSED)


def _evaluating(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    if migration.spec.evaluation is not None:
        waiting = _evaluation(migration, seen)
        if waiting is not None:
            return waiting
    report = seen.store.evaluation if seen.store is not None and migration.spec.evaluation is not None else None
    status = replace(migration.status, evaluation=report)
    if status.serving is None:
        return Outcome(status, "NothingServed", "nothing answered before: no canary is needed", Event.NOTHING_SERVES)
    obstacle = _raise_obstacle(replace(migration, status=status), seen)
    if obstacle is not None:
        return Outcome(status, obstacle.reason, obstacle.message)
    why = report.message if report is not None else "no evaluation is asked for"
    return Outcome(status, "Evaluated", why, Event.PASSED)


def _evaluation(migration: Migration, seen: Seen) -> Outcome | None:
    """Return why the offline gate does not let the migration pass, None if it does."""
    status = migration.status
    report = seen.store.evaluation if seen.store is not None else None
    if seen.store is not None and seen.store.problem is not None:
        return Outcome(status, seen.store.problem.reason, seen.store.problem.message)
    if report is None or report.id != desired.evaluation_id(migration):
        return Outcome(status, "Evaluating", "putting the labelled queries to both models")
    judged = replace(status, evaluation=report)
    if report.verdict == "Inferior":
        return Outcome(judged, "RetrievalInferior", report.message, Event.REFUSED)
    if report.verdict in {"Better", "NonInferior", "NoBaseline"}:
        return None
    return Outcome(judged, f"Retrieval{report.verdict}", report.message)


def _raise_obstacle(migration: Migration, seen: Seen) -> preflight.Obstacle | None:
    """Find what keeps traffic from moving further: capacity comes first, and both sides must pass their own probes."""
    for side, pool in (("candidate", seen.target), ("serving", seen.source)):
        if pool is None or pool.report.ready_replicas < max(pool.report.desired_replicas, 1):
            ready = f"{pool.report.ready_replicas} of {pool.report.desired_replicas}" if pool is not None else "no"
            return preflight.Obstacle("CapacityNotReady", f"{ready} pods of the {side} pool are ready; waiting for all")
    for side, arm in (("candidate", migration.status.candidate), ("serving", migration.status.serving)):
        probe = seen.probes.get(arm.collection) if arm is not None else None
        if probe is None or probe.requests < _MIN_PROBES:
            return preflight.Obstacle("Probing", f"gateways send their own queries to the {side} model first")
        if probe.errors:
            failed = f"{probe.errors} of {probe.requests} probes of the {side} model failed in the last minute"
            return preflight.Obstacle("ProbesFail", f"{failed}; traffic moves when none does")
    return None


def _canary(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status, step = migration.status, migration.spec.steps[migration.status.step]
    if status.acknowledged_at is None:
        if not (status.weight == step.weight and desired.acknowledged(seen)):
            return Outcome(status, "WaitingForGateways", f"gateways are told to send {step.weight} % to the candidate")
        status = replace(status, acknowledged_at=now)
    until = (status.acknowledged_at or now) + step.hold
    if now < until:
        return Outcome(status, "Holding", f"{step.weight} % until {until:%H:%M:%S} UTC")
    held_back = _held_back(migration, seen)
    if held_back is not None:
        return Outcome(status, held_back.reason, held_back.message)
    if status.step + 1 == len(migration.spec.steps):
        return Outcome(status, "AllSteps", f"all queries were answered well for {step.hold}", Event.PASSED)
    return Outcome(status, "StepHeld", f"{step.weight} % held for {step.hold}", Event.NEXT_STEP)


def _held_back(migration: Migration, seen: Seen) -> triggers.Finding | preflight.Obstacle | None:
    """Find why a step that was held long enough is not left yet."""
    running = next(iter(migration.status.triggers), None)
    if running is not None:
        return triggers.Finding(running, f"{running} is above its limit; the weight stays until it is not")
    return triggers.first_missing(migration, seen) or _raise_obstacle(migration, seen)


def _retaining(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    if status.acknowledged_at is None:
        if not (status.weight == 100 and desired.acknowledged(seen)):
            return Outcome(status, "WaitingForGateways", "gateways are told to send all queries to the candidate")
        status = replace(status, acknowledged_at=now)
    until = (status.acknowledged_at or now) + migration.spec.retention
    if now < until:
        return Outcome(
            status, "Retaining", f"the old side can take the queries back until {until:%Y-%m-%d %H:%M:%S} UTC"
        )
    running = next(iter(status.triggers), None)
    if running is not None:
        return Outcome(status, running, f"{running} is above its limit; the old side is kept until it is not")
    if seen.store is None or seen.store.pointer is None or seen.store.pointer.collection != desired.own_name(migration):
        return _waits_for_store(migration, seen, "MovingPointer", "the store worker moves the pointer")
    return Outcome(status, "WindowEnded", "the retention window ended", Event.PASSED)


def _promoting(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    if not desired.promoted(migration, seen):
        return Outcome(status, "WaitingForGateways", "gateways take the new side as the only one")
    if seen.store is None or seen.store.pointer is None or seen.store.pointer.collection != desired.own_name(migration):
        return _waits_for_store(migration, seen, "MovingPointer", "the store worker moves the pointer")
    if status.serving is not None:
        old = next((one for one in seen.store.collections if one.name == status.serving.collection), None)
        if old is not None and (migration.spec.drop or old.state != "Withdrawn"):
            return _waits_for_store(
                migration, seen, "ReleasingCollection", "the store worker releases the old collection"
            )
    return Outcome(status, "Promoted", f"pool {migration.spec.pool!r} serves the index", Event.CONFIRMED)


def _rolling_back(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    """Also for unwinding: the same steps, but the collection is dropped instead of withdrawn."""
    status = migration.status
    done = Outcome(status, status.reason, status.message, Event.CONFIRMED)
    wait = replace(done, event=None)
    if seen.index is None or seen.index.meta.deleting or status.candidate is None:
        return done
    if not desired.let_go(migration, seen.index, seen) or seen.job is not None:
        return wait
    plan, own = seen.index.status.plan, desired.own_name(migration)
    if plan.pointer is not None and plan.pointer.collection == own:
        return wait
    if not any(entry.name == own for entry in plan.collections):
        return done
    if status.state is State.UNWINDING:
        # A dropped collection leaves the plan; a store that is gone must not keep the object for ever.
        blind = seen.store is None or seen.store.problem is not None
        return done if blind and now - (status.entered_at or now) > _STORE_PATIENCE else wait
    report = desired.own_collection(migration, seen)
    return done if report is not None and report.state == "Withdrawn" else wait


def _finished(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    return Outcome(migration.status, migration.status.reason, migration.status.message)


def _waits_for_store(migration: Migration, seen: Seen, reason: str, message: str) -> Outcome:
    """Wait for the store worker; if it has a problem of its own, that is the reason."""
    problem = seen.store.problem if seen.store is not None else None
    if problem is not None:
        return Outcome(migration.status, problem.reason, problem.message)
    return Outcome(migration.status, reason, f"waiting until {message}")


StateCheck = Callable[[Migration, Seen, datetime], Outcome]

STATES: Mapping[State, StateCheck] = {
    State.PREFLIGHT: _preflight,
    State.BACKFILLING: _backfilling,
    State.INDEXING: _indexing,
    State.EVALUATING: _evaluating,
    State.CANARY: _canary,
    State.RETAINING: _retaining,
    State.PROMOTING: _promoting,
    State.ROLLING_BACK: _rolling_back,
    State.UNWINDING: _rolling_back,
    **dict.fromkeys(FINISHED, _finished),
}
