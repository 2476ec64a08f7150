"""An agent's own half of the labelled queries, embedded by both pools and searched in both collections by itself.

All of it once when the sides are new, a few queries at a time so that live ones have precedence; then the oldest again
and again, so that what a vote stands on is never older than half an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from reembed.client import EmbedderBusy, EmbedderClient, TextRefused
from reembed.core.migration import Migration
from reembed.core.model import Arm, IndexSpec, InputType
from reembed.core.quorum.evidence import FRESH_QUERIES, Retrieval
from reembed.core.quorum.halves import digest, digest_of_labels, own_half
from reembed.core.retrieval import reciprocal_rank
from reembed.panel.stored import AgentStore
from reembed.stores.protocol import Labels

BATCH = 16
# Queries of one look: a half of a thousand is there after some ten looks.
AT_ONCE = 96
_LABELS_AGE = timedelta(minutes=10)
# Measured again before they are too old, with room for looks that fail.
_RENEWED = FRESH_QUERIES / 2


@dataclass
class Half:
    """One index's half, for one pair of sides."""

    arms: tuple[Arm | None, Arm]
    labels: Labels
    read_at: datetime
    queries: tuple[str, ...]
    measured: dict[str, tuple[datetime, float]] = field(default_factory=dict)

    def told(self) -> Retrieval:
        at = min((when for when, _ in self.measured.values()), default=self.read_at)
        differences = tuple(self.measured[one][1] for one in self.queries if one in self.measured)
        counts = len(self.labels.relevant), len(self.queries)
        return Retrieval(at, self.arms, *counts, self._half, differences, self._labels)

    @cached_property
    def _half(self) -> str:
        return digest(self.queries)

    @cached_property
    def _labels(self) -> str:
        return digest_of_labels(self.labels.relevant)

    def due(self, now: datetime) -> list[str]:
        """Return the queries to measure next: those that never were, else the oldest."""
        unknown = [one for one in self.queries if one not in self.measured]
        if unknown:
            return unknown
        old = [(when, one) for one, (when, _) in self.measured.items() if now - when > _RENEWED]
        return [one for _, one in sorted(old)]


class Halves:
    """Measures one index's half."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._half: Half | None = None

    @property
    def told(self) -> Retrieval | None:
        return self._half.told() if self._half is not None else None

    @property
    def whole(self) -> bool:
        """Whether every query was measured, however long ago."""
        return self._half is not None and set(self._half.queries) <= self._half.measured.keys()

    async def step(
        self, store: AgentStore, index: IndexSpec, migration: Migration, embedders: Mapping[str, EmbedderClient]
    ) -> bool:
        """Measure a few more queries, and return whether more are due; nothing if nobody asks for an evaluation.

        `embedders` are clients of ready pods by their pool.
        """
        spec, candidate = migration.spec.evaluation, migration.status.candidate
        if spec is None or candidate is None or migration.status.serving is None:
            return False
        half = await self._current(store, index, migration)
        now = datetime.now(UTC)
        due = half.due(now)
        for start in range(0, min(len(due), AT_ONCE), BATCH):
            texts = due[start : start + BATCH]
            values = await asyncio.gather(
                *(_values(arm, store, embedders, half, texts, spec.k) for arm in half.arms if arm)
            )
            serving, found = values
            at = datetime.now(UTC)
            half.measured |= {text: (at, found[n] - serving[n]) for n, text in enumerate(texts)}
        return len(due) > AT_ONCE

    async def _current(self, store: AgentStore, index: IndexSpec, migration: Migration) -> Half:
        """Return the half of now; labels are read again from time to time, and what was measured of them is kept."""
        spec, candidate = migration.spec.evaluation, migration.status.candidate
        if spec is None or candidate is None:  # `step` asked; said for the type checker
            raise ValueError("nothing to evaluate")
        arms, now, before = (migration.status.serving, candidate), datetime.now(UTC), self._half
        if before is not None and before.arms == arms and now - before.read_at < _LABELS_AGE:
            return before
        labels = await store.labels(spec, index)
        queries = own_half(list(labels.relevant), self._seed, candidate.collection)
        kept = before.measured if before is not None and before.arms == arms else {}
        same = {one: kept[one] for one in queries if one in kept and _alike(before, labels, one)}
        self._half = Half(arms, labels, now, queries, same)
        return self._half


def _alike(before: Half | None, labels: Labels, query: str) -> bool:
    return before is not None and before.labels.relevant.get(query) == labels.relevant[query]


async def _values(
    arm: Arm, store: AgentStore, embedders: Mapping[str, EmbedderClient], half: Half, texts: Sequence[str], k: int
) -> list[float]:
    """Return what each query is worth on one side: the reciprocal rank of its first relevant document."""
    vectors = await _embedded(embedders[arm.pool], texts)
    found = []
    for text, vector in zip(texts, vectors, strict=True):
        # A query that the model refuses finds nothing in production either.
        ids = await store.search(arm, vector, k) if vector is not None else []
        found.append(reciprocal_rank(ids, half.labels.relevant[text], k))
    return found


async def _embedded(client: EmbedderClient, texts: Sequence[str]) -> Sequence[bytes | None]:
    try:
        return (await client.embed(texts, InputType.QUERY, background=True)).vectors
    except EmbedderBusy as error:
        await asyncio.sleep(min(error.retry_after, 2.0))
        return (await client.embed(texts, InputType.QUERY)).vectors
    except TextRefused:
        if len(texts) == 1:
            return [None]
        return [vector for text in texts for vector in await _embedded(client, [text])]
