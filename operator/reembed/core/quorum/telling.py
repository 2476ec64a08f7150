"""The evidence that stands in a ballot: small JSON of what was measured, whose digest is signed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from reembed.core.quorum import halves
from reembed.core.quorum.evidence import Evidence, Pods, Retrieval, Sample, Stored
from reembed.core.quorum.proposals import Kind, Proposal


def told(proposal: Proposal, evidence: Evidence, now: datetime) -> dict[str, Any]:
    """Return what was measured for a proposal; what was not is left out."""
    parts: dict[str, Any] = {"at": now.isoformat(timespec="seconds")}
    if evidence.objects is not None:
        routing = evidence.objects.index.status.routing
        parts["index"] = {"epoch": routing.epoch, "weight": routing.weight, "age": _age(evidence.objects.at, now)}
    if evidence.gateways is not None:
        one = evidence.gateways
        parts["gateways"] = {"running": len(one.running), "answered": len(one.reports), "age": _age(one.at, now)}
        if one.followed_since is not None:
            parts["gateways"]["followedSeconds"] = _age(one.followed_since, now)
    sides = [one for one in (proposal.before.serving, proposal.after.candidate, proposal.after.serving) if one]
    named = {one.pool for one in sides} | _asked(proposal, evidence)
    pools = {pool: _pods(evidence.pods[pool], now) for pool in sorted(named) if pool in evidence.pods}
    if pools:
        parts["pools"] = pools
    if evidence.stored is not None:
        parts["store"] = _stored(evidence.stored, {one.collection for one in sides}, now)
    if evidence.retrieval is not None:
        parts["retrieval"] = _retrieval(evidence.retrieval, now)
    if evidence.sample is not None and evidence.sample.cosines:
        parts["sample"] = _sample(evidence.sample, now)
    if evidence.prediction is not None:
        parts["prediction"] = _prediction(evidence)
    return parts


def _asked(proposal: Proposal, evidence: Evidence) -> set[str]:
    """Return the pools of which a proposal speaks that moves no queries."""
    migration = evidence.objects.migration if evidence.objects is not None else None
    target = {migration.spec.pool} if migration is not None and proposal.kind is Kind.TUNING else set()
    return target | {value for name, value in proposal.change if name == "pool"}


def _pods(pods: Pods, now: datetime) -> dict[str, Any]:
    answers = pods.answers.values()
    return {
        "pods": len(pods.answers),
        "texts": sum(one.texts for one in answers),
        "age": _age(pods.at, now),
        **_known("cosine", min, (one.cosine for one in answers), 6),
        **_known("seconds", max, (one.seconds for one in answers), 4),
        **_known("memory", max, (one.memory for one in answers), 3),
        **_known("queue", max, (one.queue for one in pods.load.readings.values()), 0),
    }


def _known(name: str, which: Any, values: Iterable[float | None], digits: int) -> dict[str, float]:
    found = [one for one in values if one is not None and math.isfinite(one)]
    return {name: round(which(found), digits)} if found else {}


def _stored(stored: Stored, named: set[str], now: datetime) -> dict[str, Any]:
    pointer = stored.pointer.collection if stored.pointer is not None else ""
    found = [one for one in stored.collections if one.name in named]
    held = {one.name: {"state": one.state, "written": one.written, "valid": one.valid} for one in found}
    return {"pointer": pointer, "collections": held, "age": _age(stored.at, now)}


def _retrieval(found: Retrieval, now: datetime) -> dict[str, Any]:
    told: dict[str, Any] = {"labelled": found.labelled, "asked": found.asked, "half": found.half}
    told |= {"age": _age(found.at, now), **({"labels": found.labels} if found.labels else {})}
    if not found.differences:
        return told
    mean = math.fsum(found.differences) / len(found.differences)
    low = halves.lower_bound(found.differences)
    return told | {"measured": len(found.differences), "difference": round(mean, 5), "atLeast": round(low, 5)}


def _sample(sample: Sample, now: datetime) -> dict[str, Any]:
    lowest = round(min(sample.cosines), 4)
    return {"vectors": len(sample.cosines), "lowestCosine": lowest, "age": _age(sample.at, now)}


def _prediction(evidence: Evidence) -> dict[str, Any]:
    one = evidence.prediction
    if one is None:
        return {}
    values = {
        "predictedP95": one.predicted_p95,
        "seenP95": one.seen_p95,
        "predictedRate": one.predicted_rate,
        "seenRate": one.seen_rate,
    }
    return {"weight": one.weight} | {
        name: round(value, 4) for name, value in values.items() if value is not None and math.isfinite(value)
    }


def _age(at: datetime, now: datetime) -> int:
    return round((now - at).total_seconds())
