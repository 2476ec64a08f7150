"""One pass of a migration: what is seen and what is known become a new status, effects and events.

`decide` is called by the migration's loop on every change and every `look_again`; it is the only place where a
migration moves. A pass does, in this order: deletion, commands, rollback triggers (in every state, pauses and approvals
included), the deadlines, and what the state itself waits for; then `core.desired` says what the world should look like
in the new state, and the difference becomes effects.

`before` holds effects that come before the status is written, `after` those that come after it. Traffic is taken from
the candidate first of all: if the operator dies between the two, the queries are safe and the next pass finds the same
trigger again. Everything that gives or makes comes after the status: a status that could not be written (somebody else
wrote first) must not be followed by its effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reembed.core import canary, commands, desired, elastic, emergency, hooks, keeping, reasons, traffic, triggers
from reembed.core.effects import Effect, SetFinalizer, effects
from reembed.core.migration import Backfill, Migration, Seen, Status, Visit
from reembed.core.model import Consumed, Excused
from reembed.core.names import FINALIZER
from reembed.core.notes import Note, notes
from reembed.core.outcomes import Outcome
from reembed.core.quorum import acting, queen
from reembed.core.quorum.asked import Asked
from reembed.core.quorum.proposals import Kind
from reembed.core.sequences import Standing
from reembed.core.states import STATES
from reembed.core.transitions import FINISHED, TRANSITIONS, WITH_TRAFFIC, Event, State, move

Check = Callable[[Migration, Seen, datetime], Outcome | None]

_MAX_VISITS = 64
_TAKES_BACK = frozenset({State.ROLLING_BACK, State.UNWINDING})
# A rolled back migration still waits for the word of a gateway that was silent.
_UNSETTLED_LOOK = timedelta(seconds=30)
_PROGRESS_EVERY = timedelta(seconds=3)
_GATES_EVERY = timedelta(seconds=30)
# A store worker may say any number; this is thirty years, in seconds.
_LONGEST_ETA = 10**9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pass decided. `look_again` is None when only a change can matter."""

    status: Status
    before: tuple[Effect, ...] = ()
    after: tuple[Effect, ...] = ()
    notes: tuple[Note, ...] = ()
    look_again: timedelta | None = None


def decide(migration: Migration, seen: Seen, now: datetime) -> Verdict:
    """Return what follows from what was seen. Same input, same output."""
    succeeded = migration.status.state is State.SUCCEEDED
    if FINALIZER not in migration.meta.finalizers and not migration.meta.deleting and not succeeded:
        # First of all: what follows must be undone if the object is deleted.
        return Verdict(migration.status, after=(SetFinalizer(present=True),), look_again=timedelta(0))
    looked = replace(migration, status=_look(migration, seen, now))
    outcome, answered = _found(looked, seen, now)
    status = _entered(migration, outcome, now)
    status = replace(status, asked=_asked(replace(migration, status=status), outcome, seen, now))
    following = replace(migration, status=status)
    before, after = effects(following, seen)
    moved = (status.state, status.step) != (migration.status.state, migration.status.step)
    return Verdict(
        status=status,
        before=before,
        after=after,
        notes=notes(migration.status, status, answered),
        look_again=_look_again(following, seen, moved=moved),
    )


def at_rest(migration: Migration, seen: Seen) -> bool:
    """Return whether a migration that has ended has nothing left to do, whatever pods say: only a change matters."""
    status, index = migration.status, seen.index
    if status.state not in FINISHED or migration.meta.deleting:
        return False
    if FINALIZER not in migration.meta.finalizers and status.state is not State.SUCCEEDED:
        return False
    if index is not None and (desired.holds(migration, index) or not desired.settled(migration, index)):
        return False
    answered = {(one.verb, one.nonce) for one in status.commands}
    return all((one.verb, one.nonce) in answered for one in migration.asked) and effects(migration, seen) == ((), ())


def _found(migration: Migration, seen: Seen, now: datetime) -> tuple[Outcome, tuple[Consumed, ...]]:
    """Return what a pass comes to, and the commands that it answered."""
    outcome = _first((_deleted, _index_lost), migration, seen, now)
    if outcome is not None:
        return outcome, ()
    answered = commands.answer(migration, seen, now)
    asked = replace(migration, status=answered.status)
    outcome = _commanded(asked, answered.event) or _first((_traffic_back, _late), asked, seen, now)
    return outcome or _unless_paused(asked, STATES[asked.status.state](asked, seen, now)), answered.new


def _asked(migration: Migration, outcome: Outcome, seen: Seen, now: datetime) -> Asked | None:
    """Return what should be before the panel: what a state would go on to, or the raise that is to be written."""
    index, need = seen.index, outcome.needs
    if index is None or not queen.votes(index):
        return migration.status.asked
    if need is None and desired.holds(migration, index):
        need = queen.routed(index, desired.index_status(migration, index, seen), seen)
    return queen.ask(migration, need, seen, now)


def _first(checks: tuple[Check, ...], migration: Migration, seen: Seen, now: datetime) -> Outcome | None:
    found = (check(migration, seen, now) for check in checks)
    return next((outcome for outcome in found if outcome is not None), None)


def _commanded(migration: Migration, event: Event | None) -> Outcome | None:
    """Return where an accepted command leads."""
    if event is Event.ABORTED:
        return Outcome(migration.status, "Aborted", "somebody commanded to abort; what was made is taken back", event)
    if event is Event.RETRIED:
        number = migration.status.attempt + 1
        return Outcome(migration.status, "Retried", f"somebody commanded to retry; attempt {number} begins", event)
    return None


def _unless_paused(migration: Migration, outcome: Outcome) -> Outcome:
    """Hold up what would go on, for as long as somebody wants it so; what goes back or is already decided goes on."""
    status = migration.status
    if not migration.paused or status.state not in desired.PAUSABLE or outcome.reason in reasons.ALARMS:
        return outcome
    if outcome.event not in {None, Event.PASSED, Event.NEXT_STEP, Event.NOTHING_SERVES, Event.ALREADY_THERE}:
        return outcome
    how = "spec.paused is true" if migration.spec.paused else "by command; resume lets it go on"
    # A hook that runs is let run; none is started.
    kept = replace(outcome.status, hooks=status.hooks)
    return Outcome(kept, reasons.PAUSED, f"paused: {how}. Where it stands: {outcome.message}")


def worth_writing(before: Status, after: Status, since: timedelta) -> bool:
    """Return whether a status says more than the one written last, `since` ago.

    The backfill's progress is written every few seconds, a trigger's held time at each tenth of its hold: a restart
    then loses at most that. What a pass writes wakes the next one, so that progress would else be written without end.
    """
    if _settled(before) != _settled(after) or before.triggers.keys() != after.triggers.keys():
        return True
    if before.backfill != after.backfill and since >= _PROGRESS_EVERY:
        return True
    if before.gates != after.gates and since >= _GATES_EVERY:
        return True
    return any(state.held - before.triggers[name].held >= state.hold / 10 for name, state in after.triggers.items())


def _settled(status: Status) -> Status:
    """Return a status without what moves all the time."""
    gates = tuple(replace(gate, message="") for gate in status.gates)
    return replace(status, triggers={}, backfill=None, gates=gates)


def _look(migration: Migration, seen: Seen, now: datetime) -> Status:
    """Record what a pass saw, whatever follows from it."""
    status = migration.status
    if status.state in FINISHED:
        return status
    weights = [report.weight for report in seen.gateways]
    routing = seen.index.status.routing if seen.index is not None and desired.holds(migration, seen.index) else None
    # What is taken back already has nothing left to trigger, and what was withdrawn fails its last probes.
    held = triggers.track(migration, seen, now) if status.state not in desired.TAKING_BACK else {}
    danger, tolerated = emergency.track(migration, seen, held, now)
    return replace(
        status,
        observed_generation=migration.meta.generation,
        triggers=held,
        emergency=danger,
        tolerated=tolerated,
        no_way_back=_no_way_back(migration, seen),
        hooks=hooks.track(desired.hooking(migration, seen), status.hooks, now),
        asked=queen.heard(migration, seen, now),
        executed=acting.track(migration, seen, now),
        gates=canary.standings(migration, seen) if status.state is State.CANARY else status.gates,
        weight=routing.weight if routing is not None else 0,
        weight_acknowledged=max(weights, default=None) if routing is not None else None,
        backfill=_progress(migration, seen) or status.backfill,
        lowered=elastic.track(migration, seen, now),
    )


def _no_way_back(migration: Migration, seen: Seen) -> str:
    """Return why what served is no way back; what was known last while nothing is heard."""
    if migration.status.state not in WITH_TRAFFIC:
        return ""
    if seen.index is None or seen.store is None or seen.store.problem is not None:
        return migration.status.no_way_back
    return keeping.fault(migration, seen.index, seen.store)


def _progress(migration: Migration, seen: Seen) -> Backfill | None:
    report = desired.own_collection(migration, seen)
    if report is None or migration.status.state is not State.BACKFILLING:
        return None
    left = max(report.total - report.written - report.rejected, 0)
    rate = round(report.documents_per_second, 1)
    return Backfill(
        documents=report.written,
        total=report.total,
        rejected=report.rejected,
        documents_per_second=rate,
        eta=timedelta(seconds=min(round(left / rate), _LONGEST_ETA)) if rate > 0 else None,
        bottleneck=report.bottleneck,
        job=seen.job.name if seen.job is not None else "",
    )


def _deleted(migration: Migration, seen: Seen, now: datetime) -> Outcome | None:
    if not migration.meta.deleting or Event.DELETED not in TRANSITIONS[migration.status.state]:
        return None
    text = "the migration was deleted; what it made is taken back"
    return Outcome(migration.status, "Deleted", text, Event.DELETED)


def _traffic_back(migration: Migration, seen: Seen, now: datetime) -> Outcome | None:
    if migration.status.state not in WITH_TRAFFIC:
        return None
    lowered = _lowered(migration, seen)
    if lowered is not None:
        return _back(migration, lowered, Event.TRIGGERED)
    due = triggers.first_due(migration, seen, migration.status.triggers) or _failed_gate(migration)
    due = due or _panel_s_word(seen)
    if due is not None and due.reason in reasons.OF_PANEL and not _has_traffic(seen):
        # Nothing is to be taken back: what was filled is not thrown away for agents that are gone.
        due = None
    return _back_if_possible(migration, seen, due, Event.TRIGGERED) if due is not None else None


def _panel_s_word(seen: Seen) -> triggers.Finding | None:
    """Find that a quorum of agents wants the queries back, for a reason that no trigger is about."""
    proposal = queen.agreed(seen, Kind.ROLLBACK)
    if proposal is None or not _has_traffic(seen):
        return None
    why = dict(proposal.change).get("reason", "no reason is given")
    return triggers.Finding("PanelRollback", f"the panel takes the queries back: {why} (Decision {proposal.name})")


def _has_traffic(seen: Seen) -> bool:
    return seen.index is not None and seen.index.status.routing.weight > 0


def _failed_gate(migration: Migration) -> triggers.Finding | None:
    """Find a gate of which it is certain that it will not hold."""
    if migration.status.state is not State.CANARY:
        return None
    failed = next((gate for gate in migration.status.gates if gate.standing == Standing.FAILS.value), None)
    return triggers.Finding("GateFails", f"gate {failed.name!r} fails: {failed.message}") if failed else None


def _late(migration: Migration, seen: Seen, now: datetime) -> Outcome | None:
    """Find that a state, or the whole attempt, takes longer than its user allows."""
    status, spec = migration.status, migration.spec
    if Event.DEADLINE not in TRANSITIONS[status.state] or status.entered_at is None or status.attempted_at is None:
        return None
    waited = f"it waited for: {status.message}"
    in_state = now - status.entered_at - _excused(status.excused.in_state, status.excused, now)
    in_all = now - status.attempted_at - _excused(status.excused.total, status.excused, now)
    if in_state > spec.progress_deadline + _hold(migration):
        text = f"{status.state.value} took longer than progressDeadline ({spec.progress_deadline}); {waited}"
    elif spec.deadline is not None and in_all > spec.deadline:
        text = f"the migration took longer than its deadline ({spec.deadline}), in {status.state.value}; {waited}"
    else:
        return None
    late = triggers.Finding("DeadlineExceeded", text)
    if status.state in WITH_TRAFFIC:
        return _back_if_possible(migration, seen, late, Event.DEADLINE)
    return Outcome(status, late.reason, late.message, Event.DEADLINE)


def _excused(so_far: timedelta, excused: Excused, now: datetime) -> timedelta:
    return so_far + (now - excused.since if excused.since is not None else timedelta(0))


def _back(migration: Migration, finding: triggers.Finding, event: Event) -> Outcome:
    status = migration.status
    old = status.serving.pool if status.serving is not None else "nothing"
    return Outcome(status, finding.reason, f"{finding.message}; queries return to {old!r}", event)


def _back_if_possible(migration: Migration, seen: Seen, finding: triggers.Finding, event: Event) -> Outcome:
    """Give the queries back, unless they would go from a side that limps to one that is dead."""
    dead = traffic.nowhere_to_go(migration, seen)
    if dead is None:
        return _back(migration, finding, event)
    text = f"{finding.message}, but {dead.message}; the weight stays until the serving side answers"
    return Outcome(migration.status, dead.reason, text)


def _index_lost(migration: Migration, seen: Seen, now: datetime) -> Outcome | None:
    """Find that the migration does not hold its index any more: by somebody's edit, or by a status that was emptied."""
    status, index = migration.status, seen.index
    under_way = status.state not in FINISHED | _TAKES_BACK | {State.PREFLIGHT}
    if not under_way or index is None or index.meta.deleting or desired.holds(migration, index):
        return None
    name = index.meta.name
    if desired.begins_anew(migration, index, seen):
        return Outcome(status, "ClaimingIndex", f"the status of index {name!r} was emptied; taking hold of it again")
    if desired.lost(index):
        return Outcome(status, "StatusLost", f"the status of index {name!r} was emptied; it is rebuilt from the store")
    if desired.reclaims(migration, index):
        return Outcome(status, "ClaimingIndex", f"taking hold of index {name!r} again")
    holder = index.status.active_migration
    found = f"EmbeddingMigration {holder.name!r} holds it" if holder is not None else "another pool serves it"
    if status.state is State.PROMOTING and desired.candidate_answers(migration, index):
        text = f"{found}, while its queries go to this migration's candidate; waiting until it is free"
        return Outcome(status, "IndexLost", text)
    text = f"index {name!r} is not this migration's any more: {found}; what this one made is taken back"
    event = Event.TRIGGERED if status.state in WITH_TRAFFIC else Event.REFUSED
    return Outcome(status, "IndexLost", text, event)


def _hold(migration: Migration) -> timedelta:
    """Return how long the present state is meant to last."""
    if migration.status.state is State.CANARY:
        return migration.spec.steps[migration.status.step].hold
    return timedelta(0)


def _lowered(migration: Migration, seen: Seen) -> triggers.Finding | None:
    """Find a weight that somebody took back after it was acknowledged: it is not raised again by itself."""
    told = seen.index.status.routing.weight if seen.index is not None else 0
    wanted = desired.step_weight(migration)
    if migration.status.acknowledged_at is None or told >= wanted:
        return None
    return triggers.Finding("WeightLowered", f"the candidate's weight was lowered from {wanted} % to {told} %")


def _entered(migration: Migration, outcome: Outcome, now: datetime) -> Status:
    """Return the status after an outcome, with the new state's visit if it moved."""
    status = replace(outcome.status, reason=outcome.reason, message=outcome.message)
    status = replace(status, excused=_clock(status, now))
    if not status.timeline:
        status = replace(status, timeline=(Visit(status.state, now),))
    if outcome.event is None:
        return status
    state = move(status.state, outcome.event)
    step = status.step + 1 if outcome.event is Event.NEXT_STEP else 0 if state is State.CANARY else status.step
    visit = Visit(state, now, step if state is State.CANARY else None)
    timeline = (*status.timeline, visit)[-_MAX_VISITS:]
    if outcome.event is Event.RETRIED:
        return _anew(status, timeline)
    return replace(
        status,
        state=state,
        step=step,
        acknowledged_at=None,
        waiting="",
        excused=Excused(status.excused.total),
        emergency=None if state in FINISHED else status.emergency,
        tolerated=None if state in FINISHED else status.tolerated,
        no_way_back=status.no_way_back if state in WITH_TRAFFIC else "",
        gates=(),
        lowered=None,
        triggers=status.triggers if state in WITH_TRAFFIC else {},
        timeline=timeline,
    )


def _anew(status: Status, timeline: tuple[Visit, ...]) -> Status:
    """Return the status of a new attempt: of the last one only its history is left."""
    return Status(
        reason=status.reason,
        message=status.message,
        attempt=status.attempt + 1,
        commands=status.commands,
        hooks=status.hooks,
        executed=status.executed,
        timeline=timeline,
        observed_generation=status.observed_generation,
    )


def _clock(status: Status, now: datetime) -> Excused:
    """Return the time that no deadline counts, after a pass that came to the status's reason."""
    excused = status.excused
    if status.reason in reasons.EXCUSED and status.state not in FINISHED:
        return excused if excused.since is not None else replace(excused, since=now)
    if excused.since is None:
        return excused
    passed = now - excused.since
    return Excused(excused.total + passed, excused.in_state + passed)


def _look_again(migration: Migration, seen: Seen, *, moved: bool) -> timedelta | None:
    if migration.status.state not in FINISHED:
        return timedelta(0) if moved else triggers.INTERVAL
    settled = seen.index is None or desired.settled(migration, seen.index)
    return None if settled else _UNSETTLED_LOOK
