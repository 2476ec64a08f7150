"""Watches retrieval while the candidate answers: a few labelled queries at a time, for as long as the plan says so.

The same path as the offline comparison, and so as a caller's query: what a pod, a variant or a changed document does
to retrieval shows here. Each batch is drawn anew from all queries, so that what is reported is a sample of the
labelled queries as they are answered now; its sums are enough for bounds that the operator may look at as often as it
likes (`core.sequences`). A restart begins a new sample, which asks for more queries and never for less certainty.
"""

from __future__ import annotations

import asyncio
import random

from reembed.backfill.evaluation import Evaluator
from reembed.core.model import EvaluationPlan, IndexSpec
from reembed.core.sequences import Sample
from reembed.stores.protocol import Keeping, Labels

_BATCH = 8
# Four queries a second and side at most: live queries have precedence, and the embedders may be small.
_REST_SECONDS = 2.0
# Labels and their documents change while a migration runs.
_BATCHES_PER_READING = 150


class LiveRetrieval:
    """The losses of one comparison at a time, serving - candidate, as sums."""

    def __init__(self, store: Keeping, evaluator: Evaluator, rng: random.Random) -> None:
        self._store = store
        self._evaluator = evaluator
        self._rng = rng
        self._id: str | None = None
        self._labels: Labels | None = None
        self._batches = 0
        self._sample = Sample()

    def sample(self, plan: EvaluationPlan) -> Sample | None:
        """Return what was seen of a plan, None if nothing of it was put to both sides yet."""
        return self._sample if self._id == plan.id and self._sample.count else None

    async def look(self, plan: EvaluationPlan, index: IndexSpec) -> None:
        """Put one batch of queries to both sides, and rest."""
        labels = await self._read(plan, index)
        if plan.serving is None or not labels.relevant:
            return
        drawn = self._drawn(labels)
        # Both sides at the same time: documents that change meanwhile then change for both.
        serving, candidate = await asyncio.gather(
            self._evaluator.ranks(plan.serving, drawn, plan.spec.k),
            self._evaluator.ranks(plan.candidate, drawn, plan.spec.k),
        )
        self._sample += Sample.of((serving - candidate).tolist())
        await asyncio.sleep(_REST_SECONDS)

    async def _read(self, plan: EvaluationPlan, index: IndexSpec) -> Labels:
        if self._id != plan.id:
            self._id, self._labels, self._sample = plan.id, None, Sample()
        if self._labels is None or self._batches >= _BATCHES_PER_READING:
            self._labels, self._batches = await self._evaluator.labels(plan.spec, index), 0
        self._batches += 1
        return self._labels

    def _drawn(self, labels: Labels) -> Labels:
        queries = sorted(labels.relevant)
        drawn = {query: labels.relevant[query] for query in self._rng.sample(queries, min(_BATCH, len(queries)))}
        return Labels(drawn, labels.vanished)
