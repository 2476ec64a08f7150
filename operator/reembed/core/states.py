"""What each state of a migration waits for, one function a state; those before any query moves are in `preparing`.

`core.decide` calls the function of the present state once nothing more urgent was found. Each returns an `Outcome`:
stay (no event) or go, with a reason for programs and a message that says what is waited for or why it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.core import desired, outcomes, preparing, reasons, traffic, triggers
from reembed.core.migration import Migration, Seen, SeenIndex, Status
from reembed.core.model import Approval
from reembed.core.outcomes import Outcome
from reembed.core.quorum import queen
from reembed.core.sequences import Standing
from reembed.core.transitions import FINISHED, Event, State

# What cannot be reached for this long, a store or a gateway, does not keep a deleted migration from going.
_PATIENCE = timedelta(minutes=5)
# Longer than a silent gateway keeps the candidate's weight, by what its reading and ours may take.
_LEASE_OVER = traffic.LEASE + timedelta(seconds=15)


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
    hooked = outcomes.hooked(replace(migration, status=status), seen, now, Event.TRIGGERED)
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
        return outcomes.waits_for_store(migration, seen, "MovingPointer", "the store worker moves the pointer")
    voted = outcomes.voted(replace(migration, status=status), seen, queen.completing(migration, seen))
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
    waits = waits or outcomes.hooked(migration, seen, now, None)
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
        need = None if _taken(migration, seen) else queen.completing(migration, seen)
        voted = outcomes.voted(migration, seen, need)
        if voted is not None:
            return voted
        behind = traffic.behind(seen)
        text = behind.message if behind is not None else "gateways are told to take the new side as the only one"
        return Outcome(status, behind.reason if behind is not None else "WaitingForGateways", text)
    if not _points_to(seen, desired.own_name(migration)):
        return outcomes.waits_for_store(migration, seen, "MovingPointer", "the store worker moves the pointer")
    old = status.serving.collection if status.serving is not None else ""
    kept = {one.name: one.state for one in seen.store.collections} if seen.store is not None else {}
    if old in kept and (migration.spec.drop or kept[old] != "Withdrawn"):
        text = "the store worker releases the old collection"
        return outcomes.waits_for_store(migration, seen, "ReleasingCollection", text)
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
    hooked = outcomes.hooked(migration, seen, now, None) if not waits else None
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


StateCheck = Callable[[Migration, Seen, datetime], Outcome]

STATES: Mapping[State, StateCheck] = {
    State.PREFLIGHT: preparing.preflighting,
    State.BACKFILLING: preparing.backfilling,
    State.INDEXING: preparing.indexing,
    State.EVALUATING: preparing.evaluating,
    State.CANARY: _canary,
    State.RETAINING: _retaining,
    State.PROMOTING: _promoting,
    State.ROLLING_BACK: _rolling_back,
    State.UNWINDING: _rolling_back,
    **dict.fromkeys(FINISHED, _finished),
}
