"""Kubernetes events of a migration: what changed in a pass that a person wants to be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reembed.core import hooks
from reembed.core.elastic import SUFFERS
from reembed.core.hooks import RunState
from reembed.core.migration import Status
from reembed.core.model import Consumed
from reembed.core.quorum import acting
from reembed.core.quorum.counting import Standing
from reembed.core.reasons import ROLLBACK_NOT_READY
from reembed.core.transitions import WITH_TRAFFIC, State

_BAD = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.FAILED})


@dataclass(frozen=True, slots=True)
class Note:
    """A Kubernetes event."""

    reason: str
    message: str
    warning: bool = False


def notes(before: Status, after: Status, answered: tuple[Consumed, ...] = ()) -> tuple[Note, ...]:
    """Return the events of a pass that led from one status to the other and answered these commands."""
    told = (_moved, _emergency, _way_back, _lowered, _dry_run, _hooks, _panel, _executed)
    return (*_commands(answered), *(note for one in told for note in one(before, after)))


def _moved(before: Status, after: Status) -> Iterator[Note]:
    if before.timeline and (before.state, before.step, before.attempt) == (after.state, after.step, after.attempt):
        return
    where = f"{after.state.value} step {after.step + 1}" if after.state is State.CANARY else after.state.value
    yield Note(after.state.value, f"{where}: {after.reason}: {after.message}", warning=after.state in _BAD)


def _commands(answered: tuple[Consumed, ...]) -> Iterator[Note]:
    for one in answered:
        what = "Accepted" if one.accepted else "Refused"
        text = f"{one.verb.value} was {what.lower()}: {one.message}"
        yield Note(f"Command{what}", text, warning=not one.accepted)


def _emergency(before: Status, after: Status) -> Iterator[Note]:
    if before.emergency is None and after.emergency is not None:
        text = "backfill and shadow queries stop, and embedders work with conservative limits until it is over"
        yield Note("EmergencyBegan", f"{after.emergency.message}; {text}", warning=True)
    if before.emergency is not None and after.emergency is None:
        began = f"it began because {before.emergency.message}"
        if after.tolerated is not None and after.tolerated != before.tolerated:
            text = (
                f"memory stays at {after.tolerated} % although what can wait had stopped: pods keep what they once used"
            )
            yield Note("MemoryTolerated", f"{text}. Protection is lifted; {began}. More room is a higher memory limit")
        else:
            yield Note("EmergencyEnded", f"protection is lifted; {began}")


def _lowered(before: Status, after: Status) -> Iterator[Note]:
    if before.lowered is None and after.lowered is not None:
        text = f"every pod asks for as little as it can and {SUFFERS[after.lowered.by]} all the same"
        yield Note("BackfillLowered", f"{text}; {after.lowered.pods} may run until that is over", warning=True)
    if before.lowered is not None and after.lowered is None and before.state is after.state:
        yield Note("BackfillRaised", "nobody suffers any more; as many pods as the user allows may run")


def _way_back(before: Status, after: Status) -> Iterator[Note]:
    if after.no_way_back and not before.no_way_back:
        yield Note(ROLLBACK_NOT_READY, after.no_way_back, warning=True)
    if before.no_way_back and not after.no_way_back and after.state in WITH_TRAFFIC:
        yield Note("RollbackReady", "the application keeps the column fresh that queries would go back to")


def _hooks(before: Status, after: Status) -> Iterator[Note]:
    for run in hooks.ended(before.hooks, after.hooks):
        if run.state is RunState.FAILED:
            yield Note("HookFailed", hooks.failed(run), warning=True)
        else:
            yield Note("HookSucceeded", f"hook {run.name!r} succeeded (Job {run.job}): {run.message}".rstrip(": "))


def _panel(before: Status, after: Status) -> Iterator[Note]:
    asked, earlier = after.asked, before.asked
    if asked is None or asked.standing is Standing.OPEN:
        return
    if earlier is not None and (earlier.proposal, earlier.standing) == (asked.proposal, asked.standing):
        return
    what, votes = asked.proposal.kind.value, f"{len(asked.approved)} agents for it, {len(asked.refused)} against it"
    why = f"; {asked.reasons[0]}" if asked.reasons else ""
    silent = f"; no word of {', '.join(asked.missing)}" if asked.missing else ""
    text = f"{what} (epoch {asked.proposal.epoch}, Decision {asked.proposal.name}): {votes}{silent}{why}"
    yield Note(f"Panel{asked.standing.value}", text, warning=not asked.certified)


def _executed(before: Status, after: Status) -> Iterator[Note]:
    for act in acting.news(before.executed, after.executed):
        which = f"{act.kind.value} (Decision {act.decision}), on which a quorum of agents agreed"
        if act.problem:
            yield Note("PanelNotExecuted", f"{which}, is not carried out: {act.problem}", warning=True)
        else:
            yield Note(f"Panel{act.kind.value}", f"{acting.told(act)}: {which}")


def _dry_run(before: Status, after: Status) -> Iterator[Note]:
    for reason, state in after.triggers.items():
        earlier = before.triggers.get(reason)
        was_due = earlier is not None and earlier.held >= earlier.hold
        if state.dry_run and state.held >= state.hold and not was_due:
            text = f"{reason} is in dry run; else the queries would go back now: {state.value}, limit {state.threshold}"
            yield Note("DryRun", text, warning=True)
