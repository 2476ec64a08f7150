"""Rollback triggers: what must never stay true for long while a migration runs.

`track` and `first_due` are called on every pass of `decide`, in every state. Time held is observed time, kept in the
migration's status: a restart neither resets nor shortens it, and of a gap in which nobody looked only the look at its
end counts, so that passes that take long slow a trigger down and never stop it. When the
serving arm is beyond the limit as well, the cause is shared and going back would help nobody: the time held stands
still, whatever `noData` says, and traffic moves neither way (`shared_failure`). Both sides' measurements look back at
that time and seldom leave it in the same second, so until it is out of sight only what was measured of late counts. A
trigger in dry run is counted and told like any other and never acted upon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reembed.core import reasons
from reembed.core.migration import Migration, Seen
from reembed.core.model import NoData, TriggerState
from reembed.core.names import SCHEMA
from reembed.core.readings import Reading, readings
from reembed.core.transitions import WITH_TRAFFIC

# How often a pass looks while a migration is active.
INTERVAL = timedelta(seconds=2)
# A longer gap between two looks was not watched: what the second one saw counts for as long as a look is good for.
LONGEST_GAP = 2 * INTERVAL
# So far do measurements of an arm look back where callers are few (`measures.Window.judged`).
_LOOKS_BACK = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Finding:
    """Why traffic goes back, or why it waits: a reason for programs, a message for people."""

    reason: str
    message: str


def track(migration: Migration, seen: Seen, now: datetime) -> dict[str, TriggerState]:
    """Return how long each trigger has been exceeded, by reason; only those that are.

    Without data a trigger that was running stands still, and one that was not does not start, unless its `noData`
    counts as exceeded. That it may do only while the candidate answers queries: before, there is little to measure. Nor
    while both sides fail: what keeps answers from being measured is then the same that keeps them from being given.
    """
    states: dict[str, TriggerState] = {}
    shared = shared_failure(migration, seen) is not None
    for reading in readings(migration, seen):
        before = migration.status.triggers.get(reading.reason)
        if reading.shared:
            held = before.held if before is not None else timedelta(0)
            states[reading.reason] = replace(_told(reading, before, held, now), shared_at=now)
        elif _counts(reading, migration, shared=shared) and (reading.alone_lately or not _shared_lately(before, now)):
            states[reading.reason] = _told(reading, before, _held(before, now), now)
        elif before is not None and not reading.over:
            states[reading.reason] = _told(reading, before, before.held, now)
    return states


def first_due(migration: Migration, seen: Seen, states: Mapping[str, TriggerState]) -> Finding | None:
    """Return the first trigger that was exceeded for its whole time, as a finding."""
    for reading in readings(migration, seen):
        state = states.get(reading.reason)
        if state is not None and not reading.limit.dry_run and state.held >= reading.limit.hold:
            return Finding(reading.reason, _message(reading, state.held))
    return None


def first_running(states: Mapping[str, TriggerState]) -> str | None:
    """Return a trigger whose time runs, None if none does that counts."""
    return next((reason for reason, state in states.items() if not state.dry_run), None)


def first_missing(migration: Migration, seen: Seen) -> Finding | None:
    """Return the first trigger that has nothing to judge by: traffic does not move on while one has not."""
    for reading in readings(migration, seen):
        if not reading.known and not reading.limit.dry_run:
            return Finding("NoData", f"{reading.reason} has no measurements; the weight stays until it has")
    return None


def unreadable_source(seen: Seen) -> Finding | None:
    """Find a source that is not what the index says: its pods would fail one after the other, and use up their tries.

    A store that does not answer is another matter: pods wait for it by themselves, with what they have embedded.
    """
    problem = seen.store.problem if seen.store is not None else None
    if problem is None or problem.reason not in reasons.OF_SOURCE:
        return None
    return Finding(problem.reason, problem.message)


def crds_too_old(seen: Seen) -> Finding | None:
    """Find CRDs that lack fields of this operator's statuses: what it decides could not be written down.

    A weight is lowered before a status is written, and by fields of the first CRDs, so that the way back stays open.
    """
    if seen.schema is None or seen.schema >= SCHEMA:
        return None
    text = (
        f"the installed CRDs are of schema {seen.schema}, this operator needs {SCHEMA}; apply the CRDs of its version"
    )
    return Finding("CrdsTooOld", f"{text}. Until then nothing begins and no weight rises")


def shared_failure(migration: Migration, seen: Seen) -> Finding | None:
    """Find a limit that both sides exceed: neither way would the queries be better off."""
    for reading in readings(migration, seen):
        if reading.shared:
            reason = reading.reason
            text = f"{reason} is above its limit on both sides; traffic moves neither way until that is over"
            return Finding("SharedFailure", f"{text}. Look for what they share: store, network, nodes")
    return None


def _counts(reading: Reading, migration: Migration, *, shared: bool) -> bool:
    """Return whether the candidate alone exceeds the limit, or its missing measurement is to be taken so."""
    if not reading.known:
        alone = migration.status.state in WITH_TRAFFIC and not shared
        return reading.limit.no_data is NoData.ROLL_BACK and alone
    return reading.exceeded


def _shared_lately(before: TriggerState | None, now: datetime) -> bool:
    """Return whether the measurement may still be of a time in which both sides were beyond the limit."""
    shared_at = before.shared_at if before is not None else None
    return shared_at is not None and timedelta(0) <= now - shared_at <= _LOOKS_BACK


def _held(before: TriggerState | None, now: datetime) -> timedelta:
    if before is None:
        return timedelta(0)
    gap = now - before.last_seen
    watched = INTERVAL if gap > LONGEST_GAP else max(gap, timedelta(0))
    return before.held + watched


def _told(reading: Reading, before: TriggerState | None, held: timedelta, now: datetime) -> TriggerState:
    return TriggerState(
        since=before.since if before is not None else now,
        held=held,
        last_seen=now,
        hold=reading.limit.hold,
        value=reading.told(reading.value),
        threshold=reading.told(reading.threshold),
        dry_run=reading.limit.dry_run,
        shared_at=before.shared_at if before is not None else None,
    )


def _message(reading: Reading, held: timedelta) -> str:
    lasted = f"for {held.total_seconds():.0f} s"
    if not reading.known:
        return f"{reading.reason} has had no measurements {lasted}"
    text = reading.text.format(value=reading.told(reading.value), threshold=reading.told(reading.threshold))
    return f"{text} {lasted}"
