"""Which answers were wrong: what answers said of themselves against what the index said at that epoch. Pure.

`demo.follow` records every version of the index; `demo.load` counts answers by (epoch, arm, collection, fingerprint).
An answer is right if its collection and fingerprint are those of its arm in that epoch, and if that arm had a share of
the queries then. An epoch that no version showed (a watch may have been away) still has to name a pair that the index
knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Who was to answer in one epoch."""

    serving: Pair | None
    candidate: Pair | None
    weight: int


@dataclass(slots=True)
class Truth:
    """Everything that an index said while it was watched."""

    epochs: dict[int, Epoch] = field(default_factory=dict)
    pairs: set[Pair] = field(default_factory=set)

    def record(self, index: Mapping[str, Any]) -> None:
        routing = index.get("status", {}).get("routing")
        if routing is None:
            return
        epoch = Epoch(_pair(routing.get("serving")), _pair(routing.get("candidate")), int(routing.get("weight", 0)))
        self.epochs[int(routing["epoch"])] = epoch
        self.pairs.update(pair for pair in (epoch.serving, epoch.candidate) if pair is not None)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How many answers were wrong, the first reasons, and how well each collection answered live queries."""

    wrong: int
    reasons: tuple[str, ...]
    fell_back: int
    mrr: Mapping[str, float]  # by collection


def seconds_until_zero(
    migration: Mapping[str, Any], truth: Truth, sources: Iterable[Mapping[str, Any]]
) -> float | None:
    """Return how long after the decision to go back a gateway still routed by an epoch with a weight.

    That is until the last answer of such an epoch, whichever side gave it; None if the migration never went back.
    """
    visits = {visit["state"]: visit["enteredAt"] for visit in migration["status"]["timeline"]}
    if "RollingBack" not in visits:
        return None
    decided = datetime.fromisoformat(visits["RollingBack"]).timestamp()
    routed = [one["lastAnswered"] for one in sources if _weight(truth, one["epoch"])]
    return max(max(routed, default=decided) - decided, 0.0)


def _weight(truth: Truth, epoch: int) -> int:
    known = truth.epochs.get(epoch)
    return known.weight if known is not None else 0


def judge(truth: Truth, sources: Iterable[Mapping[str, Any]]) -> Judgement:
    """Judge the answers of a tally."""
    wrong, fell_back, reasons = 0, 0, []
    answers: dict[str, int] = {}
    ranks: dict[str, float] = {}
    for source in sources:
        collection, count = source["collection"], source["answers"]
        answers[collection] = answers.get(collection, 0) + count
        ranks[collection] = ranks.get(collection, 0.0) + source["reciprocalRanks"]
        fell_back += count if source["fellBack"] else 0
        reason = _fault(truth, source)
        if reason is not None:
            wrong += count
            reasons.append(f"{count} answers of epoch {source['epoch']}: {reason}")
    mrr = {collection: ranks[collection] / answers[collection] for collection in answers}
    return Judgement(wrong, tuple(reasons), fell_back, mrr)


def _fault(truth: Truth, source: Mapping[str, Any]) -> str | None:
    pair, arm = (source["collection"], source["fingerprint"]), source["arm"]
    if pair not in truth.pairs:
        return f"collection {pair[0]} with model {pair[1]} was never a pair of this index"
    epoch = truth.epochs.get(source["epoch"])
    if epoch is None:
        return None
    expected = epoch.serving if arm == "serving" else epoch.candidate
    if pair != expected:
        return f"the {arm} side was {expected}, the answer came from {pair}"
    if arm == "candidate" and (epoch.weight == 0 or source["fellBack"]):
        return f"the candidate answered at weight {epoch.weight} %{' after a fall-back' * source['fellBack']}"
    return None


def _pair(arm: Mapping[str, str] | None) -> Pair | None:
    return (arm["collection"], arm["fingerprint"]) if arm else None
