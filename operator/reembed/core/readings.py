"""What each rollback trigger measures, in the order in which findings are told: cause before symptom.

A reading is one look at one trigger: a value, its limit, and, where both sides can be measured alike, the serving
side's value. A trigger that does not apply (no panel votes, no follower runs) has no reading at all; one that applies
and could not be measured has a reading without a value, which is never taken for health. A measurement is of one arm
before any fall-back, else a dead candidate would show no errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from reembed.core.migration import Migration, Seen
from reembed.core.model import Arm, ArmMeasure, Limit, Operator, PointerPlan
from reembed.core.sequences import mean_bounds
from reembed.core.transitions import WITH_TRAFFIC

# Fewer answers than this say nothing about a share of errors.
_MIN_REQUESTS = 10

# For triggers that apply only where something can be measured; the mission's numbers.
_AGENTS = Limit(hold=timedelta(minutes=2))
_CONSENSUS = Limit(hold=timedelta(0))
_FOLLOWER_LAG = Limit(hold=timedelta(minutes=5), absolute=timedelta(minutes=5))
# Its bound is valid however often it is looked at, so that nothing is won by waiting.
_RETRIEVAL = Limit(hold=timedelta(0))


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one trigger; value, threshold and serving are in the same unit, told by `unit`."""

    reason: str
    limit: Limit
    value: float | None
    threshold: float | None
    text: str  # with places for {value} and {threshold}
    unit: Callable[[float], str]
    serving: float | None = None  # None if it is not to be compared
    lately: tuple[float | None, float | None] = (None, None)  # both sides, of the last part of what is looked back at
    below: bool = False  # exceeded when the value is below the threshold

    @property
    def known(self) -> bool:
        return self.value is not None and self.threshold is not None

    @property
    def exceeded(self) -> bool:
        return self._beyond(self.value, self.threshold)

    @property
    def shared(self) -> bool:
        """Return whether both sides exceed the limit."""
        return self.exceeded and self._beyond(self.serving, self.threshold)

    @property
    def alone_lately(self) -> bool:
        """Return whether of late the value was beyond the limit, and the serving side's was measured and was not."""
        value, serving = self.lately
        return self._beyond(value, self.threshold) and serving is not None and not self._beyond(serving, self.threshold)

    @property
    def over(self) -> bool:
        """Return whether the value is so far back from the limit that what was exceeded has ended."""
        if self.value is None or self.threshold is None:
            return False
        room = self.limit.hysteresis * abs(self.threshold)
        return self.value >= self.threshold + room if self.below else self.value <= self.threshold - room

    def told(self, value: float | None) -> str:
        return self.unit(value) if value is not None else ""

    def _beyond(self, value: float | None, threshold: float | None) -> bool:
        if value is None or threshold is None:
            return False
        return value < threshold if self.below else value > threshold


def readings(migration: Migration, seen: Seen) -> tuple[Reading, ...]:
    """Return a reading of every trigger that applies."""
    found = (read(migration, seen) for read in _READ)
    return (*(one for one in found if one is not None), *_prometheus(migration, seen))


def _memory(migration: Migration, seen: Seen) -> Reading:
    limit = migration.spec.limits.memory
    value = seen.target.report.memory if seen.target is not None else None
    text = "the candidate's memory is at {value} of its limit, above {threshold}"
    return Reading("MemoryPressure", limit, value, limit.share, text, _percent)


def _pointer(migration: Migration, seen: Seen) -> Reading | None:
    """Whoever follows the store's pointer must find what the index's plan says."""
    planned = seen.index.status.plan.pointer if seen.index is not None else None
    if migration.status.state not in WITH_TRAFFIC or planned is None:
        return None
    found = seen.store.pointer if seen.store is not None else None
    known = seen.store is not None and seen.store.problem is None
    value = float(not _follows(found, planned, migration)) if known else None
    name = found.collection if found is not None else "nothing"
    text = f"the store's pointer names {name}, the index's plan {planned.collection}"
    return Reading("PointerInconsistent", migration.spec.limits.pointer, value, 0.0, text, _whether)


def _follows(found: PointerPlan | None, planned: PointerPlan, migration: Migration) -> bool:
    """Return whether the pointer is where it was planned, or about to be moved there."""
    if found is None or found == planned:
        return found == planned
    sides = {arm.collection for arm in (migration.status.serving, migration.status.candidate) if arm is not None}
    return found.generation == planned.generation - 1 and found.collection in sides


def _errors(migration: Migration, seen: Seen) -> Reading:
    limit, status = migration.spec.limits.error_rate, migration.status
    sides = [_measure(arm, seen) for arm in (status.candidate, status.serving)]
    value, serving = map(_error_share, sides)
    text = "{value} of the candidate's queries failed, above {threshold}"
    lately = _lately(_error_share, *sides)
    return Reading("ErrorRate", limit, value, limit.share, text, _percent, serving, lately)


def _latency(migration: Migration, seen: Seen) -> Reading:
    limit, status = migration.spec.limits.latency, migration.status
    sides = [_measure(arm, seen) for arm in (status.candidate, status.serving)]
    value, serving = map(_p95, sides)
    text = "the candidate's p95 is {value}, above {threshold}"
    threshold = latency_threshold(migration)
    return Reading("Latency", limit, value, threshold, text, _milliseconds, serving, _lately(_p95, *sides))


def _retrieval(migration: Migration, seen: Seen) -> Reading | None:
    """How much of MRR@k the candidate loses for certain on labelled queries, answered as live ones are."""
    evaluation = migration.spec.evaluation
    if evaluation is None or migration.status.state not in WITH_TRAFFIC:
        return None
    sample = seen.store.retrieval if seen.store is not None else None
    value = mean_bounds(sample)[0] if sample is not None else None
    limit = migration.spec.limits.retrieval or _RETRIEVAL
    threshold = limit.number if limit.number is not None else evaluation.margin
    text = f"the candidate loses at least {{value}} of MRR@{evaluation.k} on labelled queries, above {{threshold}}"
    return Reading("RetrievalRegression", limit, value, threshold, text, _number)


def _agents(migration: Migration, seen: Seen) -> Reading | None:
    """More agents than may be faulty are gone, while their word is needed: a roll-out of the panel is no failure."""
    panel = seen.panel
    if panel is None:
        return None
    gone = panel.gone if panel.vote_due and not panel.rolling else 0
    text = f"{{value}} of {panel.members} agents are unreachable, above the {{threshold}} that may be faulty"
    limit = migration.spec.limits.agents or _AGENTS
    return Reading("AgentsUnreachable", limit, float(gone), float(panel.faulty), text, _number)


def _consensus(migration: Migration, seen: Seen) -> Reading | None:
    panel = seen.panel
    if panel is None:
        return None
    missing = panel.vote_due and not panel.quorum and not panel.rolling
    limit = migration.spec.limits.consensus or _CONSENSUS
    return Reading("NoQuorum", limit, float(missing), 0.0, "the proposal that is due found no quorum", _whether)


def _follower_lag(migration: Migration, seen: Seen) -> Reading | None:
    if seen.store is None or seen.store.lag is None:
        return None
    limit = migration.spec.limits.follower_lag or _FOLLOWER_LAG
    threshold = limit.absolute.total_seconds() if limit.absolute is not None else None
    text = "live writes are {value} behind, above {threshold}"
    lags = {one.name: one.lag.total_seconds() for one in seen.store.collections if one.lag is not None}
    # Each collection is late by itself: a dead old endpoint is no fault of the candidate.
    value, serving = [_of_arm(lags, arm) for arm in (migration.status.candidate, migration.status.serving)]
    value = seen.store.lag.total_seconds() if value is None else value
    return Reading("FollowerLag", limit, value, threshold, text, _seconds, serving=serving)


def _of_arm(lags: Mapping[str, float], arm: Arm | None) -> float | None:
    return lags.get(arm.collection) if arm is not None else None


def _prometheus(migration: Migration, seen: Seen) -> Iterator[Reading]:
    for one in migration.spec.limits.prometheus:
        value = (seen.queries or {}).get(one.name)
        below = one.operator is Operator.BELOW
        side = "below" if below else "above"
        text = f"the query of trigger {one.name!r} gives {{value}}, {side} {{threshold}}"
        yield Reading(f"Prometheus_{one.name}", one.limit, value, one.limit.number, text, _number, below=below)


_READ: tuple[Callable[[Migration, Seen], Reading | None], ...] = (
    _memory,
    _pointer,
    _errors,
    _latency,
    _retrieval,
    _follower_lag,
    _agents,
    _consensus,
)


def _measure(arm: Arm | None, seen: Seen) -> ArmMeasure | None:
    return seen.arms.get(arm.collection) if arm is not None else None


def _lately(
    value: Callable[[ArmMeasure | None], float | None], candidate: ArmMeasure | None, serving: ArmMeasure | None
) -> tuple[float | None, float | None]:
    return (
        value(candidate.lately if candidate is not None else None),
        value(serving.lately if serving is not None else None),
    )


def _error_share(measure: ArmMeasure | None) -> float | None:
    if measure is None or measure.requests < _MIN_REQUESTS:
        return None
    return measure.errors / measure.requests


def _p95(measure: ArmMeasure | None) -> float | None:
    return measure.p95.total_seconds() if measure is not None and measure.p95 is not None else None


def latency_threshold(migration: Migration) -> float | None:
    limit, baseline = migration.spec.limits.latency, migration.status.baseline
    if limit.absolute is not None:
        return limit.absolute.total_seconds()
    return limit.factor * baseline.p95.total_seconds() if limit.factor is not None and baseline is not None else None


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _whether(value: float) -> str:
    return "yes" if value else "no"
