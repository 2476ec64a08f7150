"""The worker's report from what the store holds: pure, apart from the rates that it remembers from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from reembed.backfill.follower import Lag
from reembed.core import elastic
from reembed.core.model import BuildReport, CollectionPlan, CollectionReport, Desired, Kept, Problem
from reembed.core.pages import Pace, bottleneck
from reembed.stores.protocol import Held

# Long enough to be calm, short enough to show within a minute that an embedder was added.
_WINDOW = timedelta(seconds=30)

_MADE = frozenset({Desired.PRESENT, Desired.INDEXED})


class Paces:
    """Documents per second of each collection that is being filled."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def read(self, held: Sequence[Held], now: float) -> Mapping[str, float]:
        """Take a reading of all collections; those that are gone or full are forgotten."""
        filling = {one.name: one.written + one.rejected for one in held if one.shards_done < one.shards}
        self._paces = {name: self._paces.get(name) or Pace(_WINDOW) for name in filling}
        return {name: round(self._paces[name].read(now, count), 1) for name, count in filling.items()}


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of collections by their name besides what the store says they are."""

    rates: Mapping[str, float] = field(default_factory=dict)  # documents per second
    lags: Mapping[str, Lag] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes on disk
    building: Mapping[str, BuildReport] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)  # by their applications


def collection_reports(
    held: Sequence[Held], plans: Sequence[CollectionPlan], problems: Mapping[str, Problem], measured: Measured
) -> tuple[CollectionReport, ...]:
    """Return a report of each collection there is, and of each that could not be made."""
    there = {one.name for one in held}
    missing = [plan for plan in plans if plan.name not in there and plan.name in problems and plan.desired in _MADE]
    return (
        *[_report(one, problems.get(one.name), measured) for one in held],
        *[
            CollectionReport(plan.name, plan.fingerprint, plan.dimensions, "Filling", plan.shards, 0, 0, 0, 0, 0.0,
                             problem=problems[plan.name])
            for plan in missing
        ],
    )  # fmt: skip


def dropped(held: Sequence[Held], plans: Sequence[CollectionPlan], works_on: Callable[[str], bool]) -> frozenset[str]:
    """Return what was to be dropped, is not there, and comes no more."""
    there = {one.name for one in held}
    gone = (one.name for one in plans if one.desired is Desired.DROPPED and one.name not in there)
    return frozenset(name for name in gone if not works_on(name))


def _report(one: Held, problem: Problem | None, measured: Measured) -> CollectionReport:
    lag = measured.lags.get(one.name)
    requests, yields_to = elastic.measured(one.stages)
    return CollectionReport(
        name=one.name,
        fingerprint=one.fingerprint,
        dimensions=one.dimensions,
        state=_state(one),
        shards=one.shards,
        shards_done=one.shards_done,
        written=one.written,
        rejected=one.rejected,
        total=one.total,
        documents_per_second=measured.rates.get(one.name, 0.0),
        bottleneck=bottleneck(one.stages),
        problem=problem,
        owed=lag.documents if lag is not None else None,
        lag=timedelta(seconds=lag.seconds) if lag is not None else None,
        verified=one.verified,
        size=measured.sizes.get(one.name),
        building=measured.building.get(one.name),
        recall=one.recall,
        requests=requests,
        yields_to=yields_to,
        kept=measured.kept.get(one.name),
    )


def _state(one: Held) -> str:
    return "Filled" if one.state == "Filling" and one.shards_done == one.shards else one.state
