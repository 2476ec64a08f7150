"""What each state of a migration waits for, one function a state, in the order of a migration's life.

`core.decide` calls the function of the present state once nothing more urgent was found. Each returns an `Outcome`:
stay (no event) or go, with a reason for programs and a message that says what is waited for or why it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reembed.core import desired, elastic, hooks, preflight, reasons, traffic, triggers, vector_index
from reembed.core.migration import Baseline, Migration, Seen, SeenIndex, Status
from reembed.core.model import Approval, CollectionReport
from reembed.core.quorum import acting, queen
from reembed.core.quorum.queen import Need
from reembed.core.sequences import Standing
from reembed.core.transitions import FINISHED, Event, State

# What cannot be reached for this long, a store or a gateway, does not keep a deleted migration from going.
_PATIENCE = timedelta(minutes=5)
# Longer than a silent gateway keeps the candidate's weight, by what its reading and ours may take.
_LEASE_OVER = traffic.LEASE + timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a state says: stay (no event) or go, and why; `status` carries what was recorded on the way."""

    status: Status
    reason: str
    message: str
    event: Event | None = None
    needs: Need | None = None  # what it would go on to, if the panel agreed


def _preflight(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    obstacle = preflight.first_obstacle(preflight.BEFORE_THERE, migration, seen)
    if obstacle is None and preflight.target_serves(migration, seen):
        pool = migration.spec.pool
        return Outcome(status, "AlreadyThere", f"pool {pool!r} serves the index already", Event.ALREADY_THERE)
    obstacle = obstacle or preflight.first_obstacle(preflight.BEFORE_CLAIM, migration, seen)
    if obstacle is None and desired.holds(migration, seen.index):
        status = _recorded(migration, seen)
        obstacle = preflight.first_obstacle(preflight.AFTER_CLAIM, replace(migration, status=status), seen)
    elif obstacle is None:
        return Outcome(status, "ClaimingIndex", f"taking hold of index {migration.spec.index!r}")
    if obstacle is not None:
        event = Event.REFUSED if obstacle.permanent else None
        return Outcome(status, obstacle.reason, obstacle.message, event)
    hooked = _hooks(replace(migration, status=status), seen, now, Event.REFUSED)
    if hooked is not None:
        return hooked
    ready = replace(status, baseline=_baseline(status, seen, now))
    voted = _voted(replace(migration, status=ready), seen, queen.loading(migration, seen))
    if voted is not None:
        return voted
    return Outcome(
        ready, "Ready", f"everything the migration needs is there{preflight.room(migration, seen)}", Event.PASSED
    )


def _voted(migration: Migration, seen: Seen, need: Need | None) -> Outcome | None:
    """Return what waits for the panel's votes, None once they are there or where no panel decides."""
    if need is None or not queen.votes(seen.index) or queen.certificate(migration, need, seen) is not None:
        return None
    found = queen.waits(migration, seen)
    return Outcome(migration.status, found.reason, found.message, needs=need)


def _hooks(migration: Migration, seen: Seen, now: datetime, failing: Event | None) -> Outcome | None:
    """Return what the hooks of the moment hold up, None once they are over; `failing` is what a failed one means."""
    found = hooks.check(desired.hooking(migration, seen), migration.status.hooks, now)
    status = replace(migration.status, hooks=found.runs)
    if found.failure:
        return Outcome(status, "HookFailed", found.failure, failing)
    return Outcome(status, "WaitingForHook", found.waits) if found.waits else None


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
    text = f"embedding {report.total} documents with pool {migration.spec.pool!r}"
    return Outcome(status, "Embedding", f"{text}{_fewer_pods(migration)}")


def _fewer_pods(migration: Migration) -> str:
    lowered, most = migration.status.lowered, acting.most(migration)
    if desired.pods(migration) == migration.spec.parallelism:
        return ""
    why = "the panel agreed on that"
    if lowered is not None and lowered.pods < most:
        why = elastic.SUFFERS.get(lowered.by, f"{lowered.by} suffers")
    return f"; {desired.pods(migration)} of {migration.spec.parallelism} pods may run, since {why}"


def _backfill_waits(migration: Migration, seen: Seen) -> triggers.Finding | None:
    """Find what keeps documents from being embedded for now."""
    due = triggers.first_due(migration, seen, migration.status.triggers)
    if due is not None:
        return triggers.Finding(due.reason, f"{due.message}; the backfill pauses until it is over")
    unreadable = triggers.unreadable_source(seen)
    if unreadable is not None:
        return replace(unreadable, message=f"{unreadable.message}; the backfill pauses until that is mended")
    problem = seen.job.problem if seen.job is not None and seen.job.active else None
    hosted = seen.target.report.problem if seen.target is not None else None
    if hosted is not None and hosted.reason in reasons.OF_ENDPOINT:
        problem = hosted
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
        return Outcome(status, "BuildingIndex", vector_index.progress(report))
    low = vector_index.finds_too_little(migration, seen, report)
    if low is not None:
        return Outcome(status, low.reason, low.message)
    unverified = traffic.unverified(migration, seen)
    if unverified is not None:
        return Outcome(status, unverified.reason, unverified.message)
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
    obstacle = traffic.obstacle(replace(migration, status=status), seen)
    if obstacle is not None:
        return Outcome(status, obstacle.reason, obstacle.message)
    # Other triggers have little to judge by before the candidate answers callers; a query of the user's has.
    unknown = preflight.query_without_value(migration, seen)
    if unknown is not None:
        return Outcome(status, unknown.reason, unknown.message)
    hooked = _hooks(replace(migration, status=status), seen, now, Event.REFUSED)
    if hooked is not None:
        return hooked
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
    if report.verdict in {"Better", "NonInferior", "NoBaseline"} or status.promoted == status.at:
        return None
    return Outcome(judged, f"Retrieval{report.verdict}", f"{report.message}. To go on all the same, promote it")


def _canary(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status, step = migration.status, migration.spec.steps[migration.status.step]
    held = traffic.missing(seen) or traffic.withheld(seen)
    if status.acknowledged_at is not None and held is not None:
        # Nothing was learnt of the weight meanwhile: the step is held in one piece.
        text = f"{held.message}. The step is held anew when they follow"
        return Outcome(replace(status, acknowledged_at=None), held.reason, text)
    if status.acknowledged_at is None:
        waits = _told(migration, seen, step.weight)
        if waits is not None:
            return Outcome(status, waits.reason, waits.message)
        status = replace(status, acknowledged_at=now)
    until, promoted = (status.acknowledged_at or now) + step.hold, status.promoted == status.at
    holding = triggers.Finding("Holding", f"{step.weight} % until {until:%H:%M:%S} UTC")
    early = holding if now < until and not promoted else None
    stays = triggers.shared_failure(migration, seen) or early or _held_back(migration, seen, traffic.SIDES)
    if stays is None and step.approval is Approval.REQUIRED and not promoted:
        text = f"{step.weight} % was held and every gate holds; promote it to go on, or abort it"
        stays = triggers.Finding(reasons.AWAITING_APPROVAL, text)
    if stays is not None:
        return Outcome(status, stays.reason, stays.message)
    how = "promoted by command" if promoted else f"{step.weight} % held for {step.hold}"
    if status.step + 1 == len(migration.spec.steps):
        return Outcome(status, "AllSteps", f"all queries went to the new side; {how}", Event.PASSED)
    hooked = _hooks(replace(migration, status=status), seen, now, Event.TRIGGERED)
    return hooked or Outcome(status, "StepHeld", how, Event.NEXT_STEP)


def _told(migration: Migration, seen: Seen, weight: int) -> triggers.Finding | None:
    """Find why not every gateway serves `weight` yet."""
    told = migration.status.weight
    blocked = traffic.obstacle(migration, seen) if told < weight else None
    if blocked is not None:
        return blocked
    if told < weight and queen.votes(seen.index) and not queen.raised(migration, seen):
        return queen.waits(migration, seen)
    if told != weight:
        return triggers.Finding("WaitingForGateways", f"gateways are told to send {weight} % to the candidate")
    return traffic.behind(seen)


def _held_back(migration: Migration, seen: Seen, sides: tuple[str, ...]) -> triggers.Finding | None:
    """Find why what was held long enough is not left yet."""
    missing = traffic.obstacle(migration, seen, sides) or triggers.first_missing(migration, seen)
    return missing or _undecided(migration) or traffic.behind(seen)


def _undecided(migration: Migration) -> triggers.Finding | None:
    """Find the first listed gate that does not hold; its numbers move all the time, so that they are told apart."""
    for gate in migration.status.gates:
        if gate.standing != Standing.HOLDS.value:
            text = f"gate {gate.name!r} is {gate.standing.lower()}; status.gates says what would decide it"
            return triggers.Finding(f"Gate{gate.standing}", text)
    return None


def _retaining(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    if status.acknowledged_at is None:
        waits = _told(migration, seen, 100)
        if waits is not None:
            return Outcome(status, waits.reason, waits.message)
        status = replace(status, acknowledged_at=now)
    until = (status.acknowledged_at or now) + migration.spec.retention
    if now < until and status.promoted != status.at:
        return Outcome(
            status, "Retaining", f"the old side can take the queries back until {until:%Y-%m-%d %H:%M:%S} UTC"
        )
    # A candidate that alone is left must stand on its own; the old side need not live any more.
    held_back = _held_back(migration, seen, ("candidate",))
    if held_back is not None:
        return Outcome(status, held_back.reason, f"{held_back.message}. The old side is kept until then")
    if not _points_to(seen, desired.own_name(migration)):
        return _waits_for_store(migration, seen, "MovingPointer", "the store worker moves the pointer")
    voted = _voted(replace(migration, status=status), seen, queen.completing(migration, seen))
    if voted is not None:
        return voted
    return Outcome(
        status, "WindowEnded", "the retention window ended" if now >= until else "promoted by command", Event.PASSED
    )


def _promoting(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    if seen.index is None or seen.index.meta.deleting:
        return Outcome(status, "IndexGone", "the index was deleted; nothing is left to promote", Event.CONFIRMED)
    if migration.meta.deleting and queen.votes(seen.index) and not _taken(migration, seen):
        text = "it was deleted before the panel agreed that its side alone serves; what it made is taken back"
        return Outcome(status, "Deleted", text, Event.REFUSED)
    waits = _unpromoted(migration, seen)
    waits = waits or _hooks(migration, seen, now, None)
    if waits is None:
        return Outcome(status, "Promoted", f"pool {migration.spec.pool!r} serves the index", Event.CONFIRMED)
    if migration.meta.deleting and _impatient(status, now):
        text = f"deleted while it still waited: {waits.message}"
        return Outcome(waits.status, "PromotedUnconfirmed", text, Event.CONFIRMED)
    return waits


def _unpromoted(migration: Migration, seen: Seen) -> Outcome | None:
    """Return what promotion waits for, None if it is done."""
    status = migration.status
    if not desired.promoted(migration, seen):
        voted = _voted(migration, seen, queen.completing(migration, seen)) if not _taken(migration, seen) else None
        if voted is not None:
            return voted
        behind = traffic.behind(seen)
        text = behind.message if behind is not None else "gateways are told to take the new side as the only one"
        return Outcome(status, behind.reason if behind is not None else "WaitingForGateways", text)
    if not _points_to(seen, desired.own_name(migration)):
        return _waits_for_store(migration, seen, "MovingPointer", "the store worker moves the pointer")
    old = status.serving.collection if status.serving is not None else ""
    kept = {one.name: one.state for one in seen.store.collections} if seen.store is not None else {}
    if old in kept and (migration.spec.drop or kept[old] != "Withdrawn"):
        text = "the store worker releases the old collection"
        return _waits_for_store(migration, seen, "ReleasingCollection", text)
    return None


def _taken(migration: Migration, seen: Seen) -> bool:
    """Return whether the index says already that the candidate alone serves."""
    return seen.index is not None and seen.index.status.routing.serving == migration.status.candidate


def _rolling_back(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    """Also for unwinding: the same steps, but the collection is dropped instead of withdrawn."""
    status, index = migration.status, seen.index
    waits = ""
    if index is not None and not index.meta.deleting and status.candidate is not None:
        lease_over = status.state is State.ROLLING_BACK and _lease_over(status, index, seen, now)
        # Silent gateways serve the old side by now; the collection is withdrawn when they say so themselves.
        waits = "" if lease_over and seen.job is None else _taking_back(migration, index, seen)
    if waits and status.state is State.UNWINDING and _impatient(status, now):
        left = f"gave up after {_PATIENCE}: {waits}; collection {desired.own_name(migration)} may stay in the store"
        return Outcome(replace(status, waiting=""), "LeftBehind", left, Event.CONFIRMED)
    hooked = _hooks(migration, seen, now, None) if not waits else None
    if hooked is not None:
        status, waits = hooked.status, hooked.message
    return Outcome(replace(status, waiting=waits), status.reason, status.message, None if waits else Event.CONFIRMED)


def _taking_back(migration: Migration, index: SeenIndex, seen: Seen) -> str:
    """Return what is not taken back yet and who has to act, empty if all is."""
    own, plan = desired.own_name(migration), index.status.plan
    if not desired.let_go(migration, index, seen):
        behind = traffic.behind(seen)
        return behind.message if behind is not None else "gateways are told to send nothing to the candidate"
    if seen.job is not None:
        return f"Job {seen.job.name} is deleted; waiting until it and its pods are gone"
    if (plan.pointer is not None and plan.pointer.collection == own) or _points_to(seen, own):
        return _store_problem(seen) or "the store worker moves the pointer back"
    report = desired.own_collection(migration, seen)
    planned = any(entry.name == own for entry in plan.collections)
    if migration.status.state is State.UNWINDING:
        text = f"the store worker drops collection {own}"
        return (_store_problem(seen) or text) if planned or report is not None else ""
    if not planned or (report is not None and report.state == "Withdrawn"):
        return ""
    return _store_problem(seen) or f"the store worker withdraws collection {own}"


def _lease_over(status: Status, index: SeenIndex, seen: Seen, now: datetime) -> bool:
    """Return whether gateways that do not answer have given up the candidate's weight by themselves."""
    if index.status.routing.weight or any(report.weight for report in seen.gateways):
        return False
    return now - (status.entered_at or now) > _LEASE_OVER and bool(traffic.silent(seen))


def _impatient(status: Status, now: datetime) -> bool:
    return now - (status.entered_at or now) > _PATIENCE


def _points_to(seen: Seen, collection: str) -> bool:
    pointer = seen.store.pointer if seen.store is not None else None
    return pointer is not None and pointer.collection == collection


def _store_problem(seen: Seen) -> str:
    if seen.store is None:
        return "the store worker does not answer; see the log of its Deployment"
    return seen.store.problem.message if seen.store.problem is not None else ""


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
