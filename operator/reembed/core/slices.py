"""Finds the tenant, language or kind of query for which a new model is worse, though it is better on average.

`core.gates` asks once per evaluation, with a label on each query. A slice need not prove that it was not harmed: ten
slices of fifty queries could never do that, and every good model would be held. It stops a model by evidence against
it, with a margin of its own, wider than that of all queries:

* Inferior: shown to be worse than the margin. The verdict is Inferior, and no approval helps.
* Suspect: likely to be worse, not shown. The verdict is Inconclusive: somebody should look, and may approve.
* TooFewQueries: fewer than were asked for, so nothing would be seen. Inconclusive too: who asks for slices wants to
  know, and can add queries, approve, or lower `minQueries` for slices that stay small.
* NoHarmSeen: none of these, together with the loss that would have been seen.

Chance finds a bad slice among many, so the chances of error are divided by the number of slices judged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from reembed.core.model import SliceReport

# The chance that any slice at its margin is called Inferior, and that any is called Suspect.
SHOWN, SUSPECTED = 0.005, 0.10
# What would have been seen is told for this chance of seeing it.
_POWER = 0.8
# Imagined queries that each model wins outright: what few queries did not show may still be there.
_IMAGINED = 1
_TOLD = 20  # slices in a report; what stops a model comes first
_NAMED = 3  # slices in a message
_LONGEST = 200  # characters of a slice's name in a report; names are the user's data

_NORMAL = NormalDist()
_Reals = NDArray[np.float64]


class SliceVerdict(Enum):
    """What a slice's queries say about a candidate, in the order of their weight."""

    INFERIOR = "Inferior"
    SUSPECT = "Suspect"
    TOO_FEW_QUERIES = "TooFewQueries"
    NO_HARM_SEEN = "NoHarmSeen"


_WEIGHT = {verdict.value: place for place, verdict in enumerate(SliceVerdict)}


@dataclass(frozen=True, slots=True)
class SliceRule:
    """What is asked of each slice: how much of MRR@k it may lose, and how many queries it needs to be judged."""

    margin: float = 0.05
    min_queries: int = 30


def judge_slices(
    serving: _Reals, candidate: _Reals, slices: Sequence[Collection[str]], rule: SliceRule
) -> tuple[SliceReport, ...]:
    """Return what each slice says by its reciprocal ranks, the worst first; `slices` names those of each query."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, names in enumerate(slices):
        for name in names:
            members[name].append(place)
    judged = sum(len(places) >= rule.min_queries for places in members.values())
    reports = [
        _judge(name[:_LONGEST], serving[places], candidate[places], rule, judged)
        if len(places) >= rule.min_queries
        else _too_few(name[:_LONGEST], serving[places], candidate[places], rule)
        for name, places in members.items()
    ]
    return tuple(sorted(reports, key=lambda one: (_WEIGHT[one.verdict], one.candidate - one.serving, one.name)))


def stopping(slices: Sequence[SliceReport]) -> tuple[bool, str | None]:
    """Return whether a slice is shown to be worse, and what slices stop the model, None if none does."""
    for verdict in (SliceVerdict.INFERIOR, SliceVerdict.SUSPECT, SliceVerdict.TOO_FEW_QUERIES):
        found = [one for one in slices if one.verdict == verdict.value]
        if found:
            more = f" (and {len(found) - _NAMED} more slices)" if len(found) > _NAMED else ""
            named = "; ".join(f"slice '{one.name}': {one.message}" for one in found[:_NAMED])
            return verdict is SliceVerdict.INFERIOR, named + more
    return False, None


def told(slices: Sequence[SliceReport]) -> tuple[SliceReport, ...]:
    """Return as many as a status has room for."""
    return tuple(slices[:_TOLD])


def _judge(name: str, serving: _Reals, candidate: _Reals, rule: SliceRule, judged: int) -> SliceReport:
    differences = candidate - serving
    count = len(differences) + 2 * _IMAGINED
    mean = float(differences.sum()) / count
    error = math.sqrt((float((differences**2).sum() + 2 * _IMAGINED) / count - mean * mean) / count)
    shown, suspected = (_NORMAL.inv_cdf(1 - chance / judged) for chance in (SHOWN, SUSPECTED))
    low, high = mean - shown * error, mean + shown * error
    text = (
        f"MRR {candidate.mean():.3f} after {serving.mean():.3f} over {len(differences)} queries, a difference between "
        f"{low:+.3f} and {high:+.3f}, with a margin of {rule.margin:g}"
    )
    if high < -rule.margin:
        verdict, text = SliceVerdict.INFERIOR, f"{text}: worse"
    elif mean + suspected * error < -rule.margin:
        verdict, text = (
            SliceVerdict.SUSPECT,
            f"{text}: likely to be worse; look at its queries, add some, or approve it",
        )
    else:
        seen = rule.margin + (suspected + _NORMAL.inv_cdf(_POWER)) * error
        verdict, text = SliceVerdict.NO_HARM_SEEN, f"{text}: no harm seen, where a loss of {seen:.2f} would have been"
    return SliceReport(
        name, verdict.value, len(differences), float(serving.mean()), float(candidate.mean()), low, high, text
    )


def _too_few(name: str, serving: _Reals, candidate: _Reals, rule: SliceRule) -> SliceReport:
    count = len(candidate)
    text = (
        f"{count} queries, below the {rule.min_queries} asked for; add {rule.min_queries - count}, lower "
        "slices.minQueries, or approve it"
    )
    return SliceReport(
        name,
        SliceVerdict.TOO_FEW_QUERIES.value,
        count,
        float(serving.mean()),
        float(candidate.mean()),
        None,
        None,
        text,
    )
