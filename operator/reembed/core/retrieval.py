"""How well one query was answered: the metrics by which models are compared.

Relevance is yes or no. Each function takes what a model answered, best first, and what is relevant, and returns 0 to 1
for this one query; means and their uncertainty are `reembed.core.gates`' matter. Used by the offline evaluation and by
whoever puts labelled queries to a canary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scores:
    """What one answer is worth by each metric.

    MRR decides: what these indexes feed shows or reads the first answers, so the place of the first useful one is what
    users notice, and a query with one known answer (most labels are of that kind) has nothing else to measure. Recall
    and nDCG are reported beside it.
    """

    mrr: float
    recall: float
    ndcg: float


def scores(answer: Sequence[str], relevant: Collection[str], k: int) -> Scores:
    """Return all metrics of one query's first `k` answers."""
    return Scores(
        reciprocal_rank(answer, relevant, k), recall(answer, relevant, k), normalized_gain(answer, relevant, k)
    )


def reciprocal_rank(answer: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return 1 / the place of the first relevant document among the first `k`, 0 if there is none."""
    for place, document in enumerate(answer[:k], start=1):
        if document in relevant:
            return 1 / place
    return 0.0


def recall(answer: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return the share of the relevant documents among the first `k`, of as many as `k` has room for.

    With more than `k` relevant documents no model could reach 1 otherwise, and queries with many would count for less.
    """
    if not relevant:
        return 0.0
    return len(set(answer[:k]) & set(relevant)) / min(len(set(relevant)), k)


def normalized_gain(answer: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return nDCG@k: each relevant document counts 1 / log2(its place + 1), over the most that could be reached."""
    wanted = set(relevant)
    if not wanted:
        return 0.0
    gain = 0.0
    for place, document in enumerate(answer[:k], start=1):
        if document in wanted:
            wanted.discard(document)
            gain += 1 / math.log2(place + 1)
    return gain / sum(1 / math.log2(place + 1) for place in range(1, min(len(set(relevant)), k) + 1))
