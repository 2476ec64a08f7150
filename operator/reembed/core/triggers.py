"""Rollback triggers: what must never stay true for long while a migration runs.

`track` and `first_due` are called on every pass of `decide`, in every state. Time held is observed time, kept in the
migration's status: a restart neither resets nor shortens it, and a gap in which nobody looked does not count. A
measurement is of one arm before any fall-back, else a dead candidate would show no errors. When the serving arm is
beyond the limit as well, the cause is shared and going back would help nobody: the time held stands still, whatever
`noData` says, and traffic moves neither way (`shared_failure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reembed.core.migration import Migration, Seen
from reembed.core.model import ArmMeasure, Limit, Limits, NoData, TriggerState
from reembed.core.transitions import WITH_TRAFFIC

# How often a pass looks while a migration is active.
INTERVAL = timedelta(seconds=2)
# A longer gap between two looks was not watched, so it is not counted as held.
LONGEST_GAP = 2 * INTERVAL
# Fewer answers than this say nothing about a share of errors.
_MIN_REQUESTS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Why traffic goes back, or why it waits: a reason for programs, a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """One thing that must not last: what is measured, its limit, and how it is told."""

    reason: str
    limit: Callable[[Limits], Limit]
    value: Callable[[Migration, Seen], float | None]  # a share, or seconds
    threshold: Callable[[Migration], float | None]  # in the unit of value; None if it cannot be told yet
    serving: Callable[[Migration, Seen], float | None]  # the same of the serving side; None if not to be compared
    text: Callable[[float, float], str]  # value, threshold


def _share(pick: Callable[[Limits], Limit]) -> Callable[[Migration], float | None]:
    return lambda migration: pick(migration.spec.limits).share


def _memory(migration: Migration, seen: Seen) -> float | None:
    return seen.target.report.memory if seen.target is not None else None


def _error_share(measure: ArmMeasure | None) -> float | None:
    if measure is None or measure.requests < _MIN_REQUESTS:
        return None
    return measure.errors / measure.requests


def _candidate(migration: Migration, seen: Seen) -> ArmMeasure | None:
    arm = migration.status.candidate
    return seen.arms.get(arm.collection) if arm is not None else None


def _serving(migration: Migration, seen: Seen) -> ArmMeasure | None:
    arm = migration.status.serving
    return seen.arms.get(arm.collection) if arm is not None else None


def _p95(measure: ArmMeasure | None) -> float | None:
    return measure.p95.total_seconds() if measure is not None and measure.p95 is not None else None


def _latency_threshold(migration: Migration) -> float | None:
    limit, baseline = migration.spec.limits.latency, migration.status.baseline
    if limit.absolute is not None:
        return limit.absolute.total_seconds()
    return limit.factor * baseline.p95.total_seconds() if limit.factor is not None and baseline is not None else None


# In the order in which they are reported when several are due: cause before symptom.
TRIGGERS: tuple[Trigger, ...] = (
    Trigger(
        reason="MemoryPressure",
        limit=lambda limits: limits.memory,
        value=_memory,
        threshold=_share(lambda limits: limits.memory),
        serving=lambda migration, seen: None,  # a pool's memory is its own
        text=lambda value, limit: f"the candidate's memory is at {value:.0%} of its limit, above {limit:.0%}",
    ),
    Trigger(
        reason="ErrorRate",
        limit=lambda limits: limits.error_rate,
        value=lambda migration, seen: _error_share(_candidate(migration, seen)),
        threshold=_share(lambda limits: limits.error_rate),
        serving=lambda migration, seen: _error_share(_serving(migration, seen)),
        text=lambda value, limit: f"{value:.1%} of the candidate's queries failed, above {limit:.0%}",
    ),
    Trigger(
        reason="Latency",
        limit=lambda limits: limits.latency,
        value=lambda migration, seen: _p95(_candidate(migration, seen)),
        threshold=_latency_threshold,
        serving=lambda migration, seen: _p95(_serving(migration, seen)),
        text=lambda value, limit: f"the candidate's p95 is {value * 1000:.0f} ms, above {limit * 1000:.0f} ms",
    ),
)


def track(migration: Migration, seen: Seen, now: datetime) -> dict[str, TriggerState]:
    """Return how long each trigger has been exceeded, by reason; only those that are.

    Without data a trigger that was running stands still, and one that was not does not start, unless its `noData`
    counts as exceeded. That it may do only while the candidate answers queries: before, there is little to measure.
    """
    states: dict[str, TriggerState] = {}
    for trigger in TRIGGERS:
        before = migration.status.triggers.get(trigger.reason)
        exceeded = _exceeded(trigger, migration, seen)
        if exceeded is None:
            if before is not None:
                states[trigger.reason] = TriggerState(before.since, before.held, now)
        elif exceeded:
            states[trigger.reason] = _held_longer(before, now)
    return states


def first_due(migration: Migration, seen: Seen, states: Mapping[str, TriggerState]) -> Finding | None:
    """Return the first trigger that was exceeded for its whole time, as a finding."""
    for trigger in TRIGGERS:
        state = states.get(trigger.reason)
        if state is not None and state.held >= trigger.limit(migration.spec.limits).hold:
            return Finding(trigger.reason, _message(trigger, migration, seen, state.held))
    return None


def first_missing(migration: Migration, seen: Seen) -> Finding | None:
    """Return the first trigger that has nothing to judge by: traffic does not move on while one has not."""
    for trigger in TRIGGERS:
        if trigger.value(migration, seen) is None or trigger.threshold(migration) is None:
            return Finding("NoData", f"{trigger.reason} has no measurements; the weight stays until it has")
    return None


def shared_failure(migration: Migration, seen: Seen) -> Finding | None:
    """Find a limit that both sides exceed: neither way would the queries be better off."""
    for trigger in TRIGGERS:
        if _shared(trigger, migration, seen):
            text = f"{trigger.reason} is above its limit on both sides; traffic moves neither way until that is over"
            return Finding("SharedFailure", f"{text}. Look for what they share: store, network, nodes")
    return None


def _exceeded(trigger: Trigger, migration: Migration, seen: Seen) -> bool | None:
    """Return whether the limit is exceeded by the candidate alone, None without data that would tell."""
    value, threshold = trigger.value(migration, seen), trigger.threshold(migration)
    if value is None or threshold is None:
        counts = trigger.limit(migration.spec.limits).no_data is NoData.ROLL_BACK
        return True if counts and migration.status.state in WITH_TRAFFIC else None
    return None if _shared(trigger, migration, seen) else value > threshold


def _shared(trigger: Trigger, migration: Migration, seen: Seen) -> bool:
    sides = (trigger.value(migration, seen), trigger.serving(migration, seen))
    threshold = trigger.threshold(migration)
    return threshold is not None and all(side is not None and side > threshold for side in sides)


def _held_longer(before: TriggerState | None, now: datetime) -> TriggerState:
    if before is None:
        return TriggerState(since=now, held=timedelta(0), last_seen=now)
    gap = now - before.last_seen
    counted = gap if timedelta(0) < gap <= LONGEST_GAP else timedelta(0)
    return TriggerState(before.since, before.held + counted, now)


def _message(trigger: Trigger, migration: Migration, seen: Seen, held: timedelta) -> str:
    value, threshold = trigger.value(migration, seen), trigger.threshold(migration)
    lasted = f"for {held.total_seconds():.0f} s"
    if value is None or threshold is None:
        return f"{trigger.reason} has had no measurements {lasted}"
    return f"{trigger.text(value, threshold)} {lasted}"
