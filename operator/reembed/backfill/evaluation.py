"""Runs an offline comparison: labelled queries through both models and both collections, as a gateway would.

Started by the worker as a task of its own once both collections answer; a restart runs it again from the start, since
nothing is written before the outcome. Each query is embedded as a query by the side's own pool and searched by the
store's own function, so the numbers are of what users would get: prefixes, truncation and the index's recall included.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from reembed.backfill.embedding import PASSING, Embedder
from reembed.backfill.label_lines import ReadKey, without_cluster
from reembed.backfill.retries import Retrying
from reembed.client import TextRefused
from reembed.core.gates import METRICS, Gate, Outcome, Values, judge
from reembed.core.model import Arm, EvaluationPlan, EvaluationReport, EvaluationSpec, IndexSpec, InputType
from reembed.core.retrieval import scores
from reembed.core.slices import SliceRule, told
from reembed.stores.label_lines import labelled
from reembed.stores.protocol import Keeping, Labels, StoreUnavailable

_BATCH = 16  # queries of one request
_AT_ONCE = 4  # requests; live queries have precedence, and the worker has as many connections

Ranks = NDArray[np.float64]
Embedders = Callable[[Arm], AbstractAsyncContextManager[Embedder]]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Compares two arms of one index."""

    store: Keeping
    embedders: Embedders
    retrying: Retrying
    config_map: ReadKey = without_cluster

    async def run(self, plan: EvaluationPlan, index: IndexSpec) -> EvaluationReport:
        """Compare, record the outcome and return what is recorded: another worker's, if that was faster."""
        labels = await self.labels(plan.spec, index)
        candidate = await self._values(plan.candidate, labels, plan.spec.k)
        serving = None if plan.serving is None else await self._values(plan.serving, labels, plan.spec.k)
        slices = [labels.slices.get(query, ()) for query in labels.relevant]
        # Seconds of arithmetic: in a thread, so that /status answers meanwhile.
        outcome = await asyncio.to_thread(judge, serving, candidate, slices, _gate(plan.spec), _rng(plan.id))
        report = _report(plan, outcome, labels.vanished)
        await self.store.record(report)
        return await self.store.evaluation(plan.id) or report

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        """Return the labelled queries, from wherever they are, with the documents that still exist."""
        if spec.config_map is None:
            return await self.store.labels(spec, index)
        found = labelled(await self.config_map(spec.config_map), spec.config_map)
        ids = {document for relevant in found.relevant.values() for document in relevant}
        return found.without(ids - await self.store.present(index, ids))

    async def ranks(self, arm: Arm, labels: Labels, k: int) -> Ranks:
        """Return the reciprocal rank of each query, in the order of `labels`."""
        return (await self._values(arm, labels, k))[:, 0]

    async def _values(self, arm: Arm, labels: Labels, k: int) -> Values:
        """Return what each query is worth by each metric, in the order of `labels`."""
        queries = list(labels.relevant)
        values = np.zeros((len(queries), len(METRICS)))
        room = asyncio.Semaphore(_AT_ONCE)

        async def batch(embedder: Embedder, start: int) -> None:
            async with room:
                texts = queries[start : start + _BATCH]
                found = await self._search(arm, embedder, texts, k)
                for place, (text, ids) in enumerate(zip(texts, found, strict=True), start):
                    values[place] = astuple(scores(ids, labels.relevant[text], k))

        async with self.embedders(arm) as embedder, asyncio.TaskGroup() as batches:
            for start in range(0, len(queries), _BATCH):
                batches.create_task(batch(embedder, start))
        return values

    async def _search(self, arm: Arm, embedder: Embedder, texts: Sequence[str], k: int) -> list[list[str]]:
        """Return the ids that each text finds."""
        found: list[list[str]] = []
        for vector in await self._embed(embedder, texts):
            if vector is None:
                found.append([])
                continue
            hits = await self.retrying(
                lambda vector=vector: self.store.search(arm.collection, arm.fingerprint, vector, k),  # type: ignore[misc]
                (StoreUnavailable,),
                "searching for a labelled query",
            )
            found.append([hit.id for hit in hits])
        return found

    async def _embed(self, embedder: Embedder, texts: Sequence[str]) -> Sequence[bytes | None]:
        """Return the texts' vectors; a query that the model refuses has none, and would find nothing in production."""
        try:
            answer = await self.retrying(
                lambda: embedder.embed(texts, InputType.QUERY, background=True), PASSING, "embedding labelled queries"
            )
        except TextRefused:
            if len(texts) == 1:
                return [None]
            return [vector for text in texts for vector in await self._embed(embedder, [text])]
        return answer.vectors


def _gate(spec: EvaluationSpec) -> Gate:
    return Gate(spec.k, spec.margin, spec.min_queries, SliceRule(spec.slice_margin, spec.slice_min_queries))


def _report(plan: EvaluationPlan, outcome: Outcome, vanished: int) -> EvaluationReport:
    message, (mrr, *_) = outcome.message, outcome.metrics
    if vanished:
        message += f"; {vanished} labels name documents that are not in the source and were left out"
    return EvaluationReport(
        id=plan.id,
        verdict=outcome.verdict.value,
        queries=outcome.queries,
        k=plan.spec.k,
        mrr_serving=mrr.serving,
        mrr_candidate=mrr.candidate,
        low=mrr.low,
        high=mrr.high,
        message=message,
        metrics=outcome.metrics,
        slices=told(outcome.slices),
    )


def _rng(evaluation_id: str) -> np.random.Generator:
    """Return the same chance for the same evaluation: a repetition comes to the same verdict."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(evaluation_id.encode()).digest()[:8], "big"))
