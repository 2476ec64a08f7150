"""What gateways and the store worker counted since a migration's present step began, for its gates; kept in memory.

A step begins when every gateway follows its weight, and another step, attempt or migration begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reembed.controller.scrape import Sample as Scraped
from reembed.core.measures import Compared, Comparisons, Counters, Counts, Since, overlaps
from reembed.core.migration import Migration
from reembed.core.sequences import Sample


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what callers saw of each collection, how alike both sides' results were, and what was found."""

    at: str
    arms: Mapping[str, Since] = field(default_factory=dict)
    compared: Compared | None = None  # None without a candidate
    labelled: Compared | None = None  # losses of reciprocal rank; None until the store worker told some

    @property
    def counts(self) -> dict[str, Counts]:
        return {arm: since.counts for arm, since in self.arms.items()}

    @property
    def overlap(self) -> Sample | None:
        return self.compared.sample if self.compared is not None else None

    @property
    def found(self) -> Sample | None:
        return self.labelled.sample if self.labelled is not None else None


class Steps:
    """The present step of each migration, by its UID: another one that waits for the same index looks as well."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def look(
        self,
        migration: Migration,
        metrics: Mapping[str, list[Scraped]],
        counters: Mapping[str, Mapping[str, Counters]],
        retrieval: Sample | None,
    ) -> None:
        """Add one more scrape by pod, and the store worker's sample so far, to the present step, if one has begun."""
        if migration.status.acknowledged_at is None:
            self.forget(migration.meta.uid)
            return
        before = self.present(migration)
        self._steps[migration.meta.uid] = Step(
            _at(migration),
            _arms(before, counters),
            _compared(before, migration, metrics),
            _labelled(before, retrieval),
        )

    def present(self, migration: Migration) -> Step:
        """Return what is known of the step that a migration is at; an empty one while none has begun."""
        known = self._steps.get(migration.meta.uid)
        if known is None or migration.status.acknowledged_at is None or known.at != _at(migration):
            return Step(_at(migration))
        return known

    def forget(self, uid: str) -> None:
        self._steps.pop(uid, None)


def _at(migration: Migration) -> str:
    return migration.status.at


def _arms(before: Step, counters: Mapping[str, Mapping[str, Counters]]) -> dict[str, Since]:
    arms = {name for by_arm in counters.values() for name in by_arm} | before.arms.keys()
    scraped = {arm: {pod: one[arm] for pod, one in counters.items() if arm in one} for arm in arms}
    return {arm: before.arms.get(arm, Since()).add(found) for arm, found in scraped.items()}


def _compared(before: Step, migration: Migration, metrics: Mapping[str, list[Scraped]]) -> Compared | None:
    candidate = migration.status.candidate
    if candidate is None:
        return None
    scraped = {pod: found for pod, one in metrics.items() if (found := overlaps(one).get(candidate.collection))}
    return (before.compared or Compared()).add(scraped)


def _labelled(before: Step, retrieval: Sample | None) -> Compared | None:
    """Return the step's share of a sample that the store worker adds to for as long as the canary lasts."""
    if retrieval is None:
        return before.labelled
    return (before.labelled or Compared()).add({"store worker": Comparisons(retrieval)})
