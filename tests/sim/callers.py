"""Callers' queries, how models answer them, and what a gateway counts of that by its real metrics' names."""

from __future__ import annotations

from dataclasses import dataclass, field

from reembed.controller.scrape import Sample
from reembed.core.measures import (
    ARM_REQUESTS,
    ARM_SECONDS,
    SHADOW,
    SHADOW_COMPARED,
    SHADOW_OVERLAP,
    SHADOW_OVERLAP_SQUARES,
)

PER_SECOND = 20.0
_BOUNDS = (0.05, 0.5, 5.0)
_INFINITE = "+Inf"


@dataclass
class Health:
    """How a pool's model answers, as long as a pod of it is ready."""

    errors: float = 0.0  # share of its queries
    seconds: float = 0.04
    memory: float = 0.5  # share of its pods' limit
    overlap: float = 0.9  # share of its results that the serving side gives as well


@dataclass
class Total:
    """What was asked of one collection, over all gateway processes that ever were."""

    answered: float = 0.0
    compared: float = 0.0


class Callers:
    """Who asks the gateways, and what became of it."""

    def __init__(self) -> None:
        self.per_second = PER_SECOND  # and gateway
        self._totals: dict[str, Total] = {}

    def of(self, collection: str) -> Total:
        return self._totals.setdefault(collection, Total())


@dataclass
class Counted:
    """What one gateway counted of one arm."""

    ok: float = 0.0
    errors: float = 0.0
    within: dict[str, float] = field(default_factory=dict)

    def add(self, queries: float, health: Health) -> None:
        self.ok += queries * (1 - health.errors)
        self.errors += queries * health.errors
        for bound in _BOUNDS:
            if health.seconds <= bound:
                self.within[str(bound)] = self.within.get(str(bound), 0.0) + queries
        self.within[_INFINITE] = self.within.get(_INFINITE, 0.0) + queries

    def samples(self, collection: str, probe: str) -> list[Sample]:
        labels = {"collection": collection, "probe": probe}
        found: list[Sample] = [(f"{ARM_REQUESTS}_total", {**labels, "outcome": "ok"}, float(int(self.ok)))]
        if self.errors >= 1:
            found.append((f"{ARM_REQUESTS}_total", {**labels, "outcome": "error"}, float(int(self.errors))))
        found += [
            (f"{ARM_SECONDS}_bucket", {**labels, "le": bound}, float(int(count)))
            for bound, count in self.within.items()
        ]
        return found


@dataclass
class Compared:
    """What one gateway counted of the queries that it put to both sides: whole ones, since their sums go with them."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    _owed: float = 0.0

    def add(self, queries: float, overlap: float) -> int:
        whole = int(self._owed + queries)
        self._owed += queries - whole
        self.count += whole
        self.total += whole * overlap
        self.squares += whole * overlap * overlap
        return whole

    def samples(self, candidate: str) -> list[Sample]:
        labels = {"candidate": candidate}
        return [
            (f"{SHADOW}_total", {**labels, "outcome": SHADOW_COMPARED}, float(self.count)),
            (f"{SHADOW_OVERLAP}_total", labels, self.total),
            (f"{SHADOW_OVERLAP_SQUARES}_total", labels, self.squares),
        ]
