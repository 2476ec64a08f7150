"""Canary gates that a user lists in `spec.gates`: what must be shown of the candidate before a step is left.

Each gate is judged on everything since its step began, by a confidence sequence (`core.sequences`): it may be looked at
on every pass and still keeps its promise. A gate that holds for certain lets traffic move; one that fails for certain
gives the queries back; in between it holds the step and says what would decide it. Alpha is divided by the number of
gates, so that listing more of them does not make a false alarm likelier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reembed.core.measures import Counts
from reembed.core.migration import Migration, Seen
from reembed.core.model import Arm, CanaryGate, GateKind, GateStanding
from reembed.core.sequences import (
    ALPHA,
    Bounds,
    Standing,
    Tally,
    at_least,
    at_most,
    mean_bounds,
    share_bounds,
)

# A p95 below a limit is a share of at most 5 % above it.
_SLOWER_THAN_P95 = 0.05


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known of one gate's value: its bounds, the limit, and whether that is an upper or a lower one."""

    what: str
    count: int
    mean: float | None
    bounds: Bounds
    limit: float
    upper: bool = True
    serving: Standing = Standing.UNDECIDED  # of the serving side by the same limit

    @property
    def standing(self) -> Standing:
        return (at_most if self.upper else at_least)(self.bounds, self.limit)


def standings(migration: Migration, seen: Seen) -> tuple[GateStanding, ...]:
    """Return where every listed gate stands, in their order."""
    gates = migration.spec.gates
    alpha = ALPHA / max(len(gates), 1)
    return tuple(_told(gate, _LOOKS[gate.kind](gate, migration, seen, alpha)) for gate in gates)


def _told(gate: CanaryGate, look: _Look | None) -> GateStanding:
    if look is None or look.mean is None:
        return GateStanding(gate.name, Standing.UNDECIDED.value, "nothing was measured since the step began")
    standing = look.standing
    if standing is Standing.FAILS and look.serving is Standing.FAILS:
        text = f"{_numbers(look)}; the serving side fails as well, so that it is nothing of the candidate's"
        return GateStanding(gate.name, Standing.UNDECIDED.value, text)
    text = _numbers(look)
    if standing is Standing.UNDECIDED:
        text += f"; {_remedy(look)}"
    return GateStanding(gate.name, standing.value, text)


def _numbers(look: _Look) -> str:
    low, high = look.bounds
    side = "at most" if look.upper else "at least"
    found = f"{look.what}: {look.mean:.4f} over {look.count} queries, between {low:.4f} and {high:.4f}"
    return f"{found}; {side} {look.limit:.4f} is asked"


def _remedy(look: _Look) -> str:
    """Say how many more observations would decide at what was seen so far; widths shrink with their root."""
    low, high = look.bounds
    distance = abs((look.mean or 0.0) - look.limit)
    if distance < 1e-6:
        return "what was seen lies on the limit, so that no number of queries would decide"
    more = math.ceil(look.count * (((high - low) / 2 / distance) ** 2 - 1))
    return f"about {max(more, 1)} more queries would decide"


def _errors(gate: CanaryGate, migration: Migration, seen: Seen, alpha: float) -> _Look | None:
    sides = _tallies(migration, seen, lambda counts: Tally(counts.ok + counts.errors, counts.errors))
    return _share(gate.share, "share of failed queries", sides, alpha)


def _latency(gate: CanaryGate, migration: Migration, seen: Seen, alpha: float) -> _Look | None:
    limit = _seconds(gate, migration)
    if limit is None:
        return None
    what = f"share of answers that took longer than {limit * 1000:.0f} ms"
    sides = _tallies(migration, seen, lambda counts: _slower(counts, limit))
    return _share(_SLOWER_THAN_P95, what, sides, alpha)


def _slower(counts: Counts, limit: float) -> Tally:
    """Count the answers above the largest bound that is not beyond the limit: at most too many, never too few."""
    within = max((count for bound, count in counts.buckets.items() if bound <= limit), default=0)
    answers = counts.buckets.get(math.inf, 0)
    return Tally(answers, answers - within)


def _tallies(migration: Migration, seen: Seen, events: Callable[[Counts], Tally]) -> tuple[Tally, Tally]:
    """Return the events of candidate and serving side since the step began."""
    sides = [_since(arm, seen) for arm in (migration.status.candidate, migration.status.serving)]
    candidate, serving = (events(one) if one is not None else Tally() for one in sides)
    return candidate, serving


def _share(limit: float | None, what: str, sides: tuple[Tally, Tally], alpha: float) -> _Look | None:
    candidate, serving = sides
    if limit is None or not candidate.count:
        return None
    bounds = share_bounds(candidate, alpha, about=limit)
    theirs = at_most(share_bounds(serving, alpha, about=limit), limit) if serving.count else Standing.UNDECIDED
    return _Look(what, candidate.count, candidate.share, bounds, limit, serving=theirs)


def _overlap(gate: CanaryGate, migration: Migration, seen: Seen, alpha: float) -> _Look | None:
    limit, sample = gate.share, seen.overlap
    if limit is None or sample is None:
        return None
    bounds = mean_bounds(sample, alpha, span=(0.0, 1.0))
    return _Look("share of results that both sides give", sample.count, sample.mean, bounds, limit, upper=False)


def _retrieval(gate: CanaryGate, migration: Migration, seen: Seen, alpha: float) -> _Look | None:
    limit, sample = gate.share, seen.found
    if limit is None or sample is None:
        return None
    return _Look("loss of MRR on labelled queries", sample.count, sample.mean, mean_bounds(sample, alpha), limit)


def _since(arm: Arm | None, seen: Seen) -> Counts | None:
    return seen.step.get(arm.collection) if arm is not None else None


def _seconds(gate: CanaryGate, migration: Migration) -> float | None:
    if gate.absolute is not None:
        return gate.absolute.total_seconds()
    baseline = migration.status.baseline
    return gate.factor * baseline.p95.total_seconds() if gate.factor and baseline is not None else None


_LOOKS: Mapping[GateKind, Callable[[CanaryGate, Migration, Seen, float], _Look | None]] = {
    GateKind.ERROR_RATE: _errors,
    GateKind.LATENCY: _latency,
    GateKind.SHADOW_OVERLAP: _overlap,
    GateKind.RETRIEVAL: _retrieval,
}
