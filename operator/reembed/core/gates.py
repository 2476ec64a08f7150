"""Does the new model find the documents at least as well? One look at labelled queries, with its uncertainty.

The store worker calls `judge` once per evaluation with what every query was worth under both models. The same queries
went to both, so their differences are resampled (paired bootstrap): what remains is the chance in the choice of
queries. Promotion needs proof of no harm, not absence of proof: what is neither better, nor worse, nor tight enough to
be called equal is Inconclusive, and says how many queries are likely to decide it. MRR decides (`core.retrieval` says
why), recall and nDCG are reported beside it.

Slices (`core.slices`) follow another rule, since small ones prove little: a slice stops a model only by evidence
against it. `rng` is an argument; nothing here reads a document. Whatever is looked at again and again is
`core.sequences`' matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from reembed.core.model import MetricReport, SliceReport
from reembed.core.slices import SliceRule, judge_slices, stopping

# One row a query, one column a metric in the order of METRICS.
Values = NDArray[np.float64]

METRICS = ("MRR", "Recall", "nDCG")
RESAMPLES = 10_000
# The chance of a wrong bound. The bootstrap's quantiles are a little too generous: on docstring queries nominal 1 % was
# 1.0 to 1.8 %, 0.5 % was 0.6 to 1.1 %. A studentized bootstrap was no better (up to 2.3 and 1.6 %).
LEVEL = 0.005
# So many imagined queries are won outright by each model. A loss that strikes one query in fifty is often not among a
# hundred of them, and no resampling finds what was not drawn: a model at the margin by such losses passed in 13 % of
# trials (100 queries) and 1.1 % (1,000). With three it passes in less than 0.9 % at every number, and at 1,000
# queries the bounds are 5 % wider.
IMAGINED = 3
# Numbers of queries are told for this chance that they will decide.
_POWER = 0.8
# Drawn at once: what fits in a processor's cache takes a third of the time of what does not.
_CHUNK = 250_000
# Nobody plans by a number that is so many times larger than what there is.
_BEYOND = 20

_NORMAL = NormalDist()
_Z_LEVEL, _Z_POWER = _NORMAL.inv_cdf(1 - LEVEL), _NORMAL.inv_cdf(_POWER)


class Verdict(Enum):
    """What labelled queries say about a candidate; the difference is candidate - serving."""

    BETTER = "Better"  # its lower bound is above zero
    NON_INFERIOR = "NonInferior"  # its lower bound is above -margin
    INFERIOR = "Inferior"  # its upper bound is below -margin, or that of a slice below the slices' margin
    INCONCLUSIVE = "Inconclusive"  # its bounds lie on both sides of -margin, or a slice leaves a doubt
    TOO_FEW_QUERIES = "TooFewQueries"  # fewer than were asked for; nothing was tested
    NO_BASELINE = "NoBaseline"  # nothing answers yet, so there is nothing to be worse than

    @property
    def passes(self) -> bool:
        """Return whether traffic may move without anybody's approval."""
        return self in {Verdict.BETTER, Verdict.NON_INFERIOR, Verdict.NO_BASELINE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with its numbers."""

    verdict: Verdict
    queries: int
    message: str
    metrics: tuple[MetricReport, ...]
    slices: tuple[SliceReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked for: the first k answers count, `margin` of MRR@k may be lost, so many queries are needed."""

    k: int
    margin: float
    min_queries: int
    slices: SliceRule = field(default_factory=SliceRule)


@dataclass(frozen=True, slots=True)
class Needed:
    """How many more queries are likely to decide: the middle, and between which numbers it lies in 8 of 10 cases."""

    more: int | None  # None: too many to plan by
    least: int
    most: int | None


def judge(
    serving: Values | None, candidate: Values, slices: Sequence[Collection[str]], gate: Gate, rng: np.random.Generator
) -> Outcome:
    """Compare what the same queries, in the same order, were worth; `serving` is None if nothing answers yet.

    `slices` names the slices of each query, mostly one or none.
    """
    queries, told = len(candidate), _told(serving, candidate, gate.k)
    if queries < gate.min_queries:
        message = f"{queries} labelled queries, below the {gate.min_queries} asked for; add queries or lower minQueries"
        return Outcome(Verdict.TOO_FEW_QUERIES, queries, message, told)
    if serving is None:
        message = (
            f"{told[0].name} {told[0].candidate:.3f} over {queries} queries; nothing answers yet that it could be "
            "compared with"
        )
        return Outcome(Verdict.NO_BASELINE, queries, message, told)
    low, high = bounds(candidate - serving, rng)
    told = tuple(
        MetricReport(one.name, one.serving, one.candidate, float(low[place]), float(high[place]))
        for place, one in enumerate(told)
    )
    found = judge_slices(serving[:, 0], candidate[:, 0], slices, gate.slices)
    verdict = _verdict(told[0], gate.margin)
    message = _message(told[0], queries, gate.margin)
    if verdict is Verdict.INCONCLUSIVE:
        message += f"; {_remedy((candidate - serving)[:, 0], gate.margin)}"
    return _with_slices(Outcome(verdict, queries, message, told, found))


def bounds(differences: Values, rng: np.random.Generator, level: float = LEVEL) -> tuple[Values, Values]:
    """Return the bootstrap's bounds of each column's mean: it lies below, or above, with a chance of `level` each."""
    values = np.concatenate([differences, np.ones((IMAGINED, differences.shape[1]))])
    values = np.concatenate([values, -np.ones((IMAGINED, differences.shape[1]))])
    count = len(values)
    means = np.empty((RESAMPLES, values.shape[1]))
    step = max(1, _CHUNK // count)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = rng.integers(0, count, size=(rows, count), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * count
        # How often each query was drawn, so that one multiplication serves all metrics.
        often = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        means[start : start + rows] = often @ values / count
    low, high = np.quantile(means, [level, 1 - level], axis=0)
    return low, high


def queries_needed(differences: NDArray[np.float64], margin: float) -> Needed:
    """Return how many queries more than these are likely to decide what these do not.

    The difference seen is nearer to the margin than the true one in most of the cases that these queries leave open
    (were it further away, they would have decided), so taking it as it is would ask for far too many just before the
    decision. Instead the difference is taken that, among undecided samples, would be seen below and above this
    one equally often. Then the number is right at the median; it cannot be right each time, which is why it has a
    range.
    """
    count = len(differences) + 2 * IMAGINED
    spread = float(differences.var()) * len(differences) / count
    error = math.sqrt((spread + 2 * IMAGINED / count) / count)
    distance = abs(float(differences.sum()) / count + margin) / error

    def more(chance: float) -> int | None:
        likely = _distance(min(distance, _Z_LEVEL - 1e-9), chance) * error
        if likely <= 0:
            return None
        wanted = (_Z_LEVEL + _Z_POWER) ** 2
        root = math.sqrt((wanted * spread) ** 2 + 8 * IMAGINED * wanted * likely**2)
        needed = (wanted * spread + root) / (2 * likely**2)
        left = max(needed - len(differences), 0.1 * len(differences))
        return _rounded(left) if left <= _BEYOND * len(differences) else None

    return Needed(more(0.5), more(0.1) or _BEYOND * len(differences), more(0.9))


def _distance(seen: float, chance: float) -> float:
    """Return the true distance from the margin at which an undecided sample shows at most `seen` with this chance.

    Both are in standard errors; an undecided sample shows less than _Z_LEVEL on either side.
    """
    low, high = -_Z_LEVEL - _Z_POWER, _Z_LEVEL + _Z_POWER
    for _ in range(40):
        middle = (low + high) / 2
        below = _NORMAL.cdf(-_Z_LEVEL - middle)
        share = (_NORMAL.cdf(seen - middle) - below) / (_NORMAL.cdf(_Z_LEVEL - middle) - below)
        if share > chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _rounded(count: float) -> int:
    """Return two digits of a count: more would claim to know it better than anybody can."""
    unit = int(10 ** max(0, math.floor(math.log10(count)) - 1))
    return math.ceil(count / unit) * unit


def _told(serving: Values | None, candidate: Values, k: int) -> tuple[MetricReport, ...]:
    after = candidate.mean(axis=0) if len(candidate) else np.zeros(len(METRICS))
    before = None if serving is None or not len(serving) else serving.mean(axis=0)
    return tuple(
        MetricReport(f"{name}@{k}", None if before is None else float(before[place]), float(after[place]))
        for place, name in enumerate(METRICS)
    )


def _verdict(told: MetricReport, margin: float) -> Verdict:
    if told.low is None or told.high is None:
        return Verdict.INCONCLUSIVE
    if told.low > 0:
        return Verdict.BETTER
    if told.low > -margin:
        return Verdict.NON_INFERIOR
    return Verdict.INFERIOR if told.high < -margin else Verdict.INCONCLUSIVE


def _message(told: MetricReport, queries: int, margin: float) -> str:
    before = told.serving or 0.0
    return (
        f"{told.name} {told.candidate:.3f} after {before:.3f} over {queries} queries: difference "
        f"{told.candidate - before:+.3f}, between {told.low:+.3f} and {told.high:+.3f}; margin {margin:g}"
    )


def _remedy(differences: NDArray[np.float64], margin: float) -> str:
    needed = queries_needed(differences, margin)
    if needed.more is None:
        return (
            f"the difference is too near to the margin for a forecast ({needed.least:,} more queries or many times as "
            "many would decide); approve it, or widen the margin"
        )
    span = f"to {needed.most:,}" if needed.most is not None else "or many more"
    return (
        f"about {needed.more:,} more queries are likely to decide ({needed.least:,} {span} in 8 of 10 such cases); "
        "add some, or approve it"
    )


def _with_slices(outcome: Outcome) -> Outcome:
    """Let the slices have their say: evidence against one outweighs whatever all queries together show."""
    worse, message = stopping(outcome.slices)
    if message is None:
        return outcome
    verdict = outcome.verdict
    if worse:
        verdict = Verdict.INFERIOR
    elif verdict.passes:
        verdict = Verdict.INCONCLUSIVE
    return Outcome(verdict, outcome.queries, f"{outcome.message}; {message}", outcome.metrics, outcome.slices)
