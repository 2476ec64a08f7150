"""Does the new model find the documents at least as well? One look at labelled queries, with its uncertainty.

The store worker calls `judge` once per evaluation with the reciprocal rank of every query under both models. The same
queries went to both, so their differences are resampled (paired bootstrap): what remains is the chance in the choice of
queries. Promotion needs proof of no harm, not absence of proof: what is neither better, nor worse, nor tight enough to
be called equal is Inconclusive, and says how many queries would decide it. `rng` is an argument; nothing here reads a
document.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.float64]

RESAMPLES = 10_000
# The percentile bootstrap is a little too generous: measured on docstring queries, a nominal 1 % lets a model at the
# margin pass in up to 2.3 % of trials. Half of that keeps the promise of 1 %.
LEVEL = 0.005
# Normal quantiles: of LEVEL, and of a chance of 80 % that the queries asked for will indeed decide.
_Z_LEVEL, _Z_POWER = 2.576, 0.842
# Resampled at once: 10,000 rows of 5,000 queries would take 400 MB of indexes.
_CHUNK = 4_000_000


class Verdict(Enum):
    """What labelled queries say about a candidate; the difference is candidate - serving."""

    BETTER = "Better"  # its lower bound is above zero
    NON_INFERIOR = "NonInferior"  # its lower bound is above -margin
    INFERIOR = "Inferior"  # its upper bound is below -margin
    INCONCLUSIVE = "Inconclusive"  # its bounds lie on both sides of -margin
    TOO_FEW_QUERIES = "TooFewQueries"  # fewer than were asked for; nothing was tested
    NO_BASELINE = "NoBaseline"  # nothing answers yet, so there is nothing to be worse than

    @property
    def passes(self) -> bool:
        """Return whether traffic may move without anybody's approval."""
        return self in {Verdict.BETTER, Verdict.NON_INFERIOR, Verdict.NO_BASELINE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with its numbers: mean reciprocal ranks, and the bounds of their difference."""

    verdict: Verdict
    queries: int
    k: int
    mrr_serving: float | None
    mrr_candidate: float
    low: float | None
    high: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked for: the first k answers count, `margin` of MRR@k may be lost, so many queries are needed."""

    k: int
    margin: float
    min_queries: int


def reciprocal_rank(answer: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Return 1 / the place of the first relevant document among the first `k`, 0 if there is none."""
    for place, document in enumerate(answer[:k], start=1):
        if document in relevant:
            return 1 / place
    return 0.0


def judge(serving: Ranks | None, candidate: Ranks, gate: Gate, rng: np.random.Generator) -> Outcome:
    """Compare reciprocal ranks of the same queries in the same order; `serving` is None if nothing answers yet."""
    queries, mrr = len(candidate), float(candidate.mean()) if len(candidate) else 0.0
    before = None if serving is None or not len(serving) else float(serving.mean())
    at = f"MRR@{gate.k}"
    if queries < gate.min_queries:
        message = f"{queries} labelled queries, below the {gate.min_queries} asked for; add queries or lower minQueries"
        return Outcome(Verdict.TOO_FEW_QUERIES, queries, gate.k, before, mrr, None, None, message)
    if serving is None or before is None:
        message = f"{at} {mrr:.3f} over {queries} queries; nothing answers yet that it could be compared with"
        return Outcome(Verdict.NO_BASELINE, queries, gate.k, None, mrr, None, None, message)
    differences = candidate - serving
    low, high = bounds(differences, rng)
    verdict = _verdict(low, high, gate.margin)
    message = (
        f"{at} {mrr:.3f} after {before:.3f} over {queries} queries: difference {mrr - before:+.3f}, "
        f"between {low:+.3f} and {high:+.3f}; margin {gate.margin:g}"
    )
    if verdict is Verdict.INCONCLUSIVE:
        message += f"; {_remedy(differences, gate.margin)}"
    return Outcome(verdict, queries, gate.k, before, mrr, low, high, message)


def bounds(differences: Ranks, rng: np.random.Generator) -> tuple[float, float]:
    """Return the bootstrap's bounds of the mean: it lies below, or above, with a chance of LEVEL each."""
    count = len(differences)
    means = np.empty(RESAMPLES)
    step = max(1, _CHUNK // count)
    for start in range(0, RESAMPLES, step):
        stop = min(start + step, RESAMPLES)
        chosen = rng.integers(0, count, size=(stop - start, count), dtype=np.int32)
        means[start:stop] = differences[chosen].mean(axis=1)
    low, high = np.quantile(means, [LEVEL, 1 - LEVEL])
    return float(low), float(high)


def queries_needed(differences: Ranks, margin: float) -> int | None:
    """Return about how many queries would decide at the difference seen, None if it lies on the margin itself."""
    distance = abs(float(differences.mean()) + margin)
    if distance < 1e-6:
        return None
    deviation = float(differences.std(ddof=1))
    return math.ceil(((_Z_LEVEL + _Z_POWER) * deviation / distance) ** 2)


def _verdict(low: float, high: float, margin: float) -> Verdict:
    if low > 0:
        return Verdict.BETTER
    if low > -margin:
        return Verdict.NON_INFERIOR
    return Verdict.INFERIOR if high < -margin else Verdict.INCONCLUSIVE


def _remedy(differences: Ranks, margin: float) -> str:
    needed = queries_needed(differences, margin)
    if needed is None:
        return "the difference lies on the margin, so no number of queries would decide; approve it or widen the margin"
    return f"about {max(needed, len(differences) + 1)} queries would decide at this difference; add some, or approve it"
