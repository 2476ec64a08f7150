"""What each role looks at more closely: one more check, which it alone runs, and what it proposes by itself.

All are pure functions over the same evidence as everybody's. A role's check may stop a proposal only together with
others: one agent's rejection is one vote. The numbers are the mission's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reembed.core import leaks
from reembed.core.inspection import MIN_COSINE
from reembed.core.quorum import filling, measured, others
from reembed.core.quorum.asking import Check, objects_of
from reembed.core.quorum.drifts import drifts
from reembed.core.quorum.evidence import Evidence, Loading, Pods
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.core.triggers import Finding

# Share of probes, and of a pool's references, whose vector is nearest to its own.
ACCURACY = 0.999
# A pod whose memory is full before this is no place for more queries.
HORIZON = timedelta(minutes=30)
# Of pods of one pool: the standard deviation of their speeds by the mean.
MOST_VARIANCE = 0.20
# A model is fetched faster than this, unless memory bounds it, and the process beside it needs less than half as much.
LEAST_RATE = 10e6
MOST_FOOTPRINT = 0.5
OF_PROCESS = 96 << 20  # bytes that a pod needs without any model, which says nothing of a small one
# Vectors of the sample of who validates them; of a twentieth the cosine may be lower.
LEAST_VALIDATED = 50
# An outcome that is so many times worse than was predicted is understood by nobody.
UNFORESEEN = 3.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a role would propose: a kind, what changes by name, and why. The process makes a proposal of it."""

    kind: Kind
    change: tuple[tuple[str, str], ...]
    reason: str


def accurate(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Embedding specialist: each text is nearest to itself, by own probes and by the pool's references."""
    del now
    pods = _candidates(proposal, evidence)
    if pods is None or not pods.answers:
        return Finding("NotMeasured", "pods of the candidate: not measured")
    for pod, answers in pods.answers.items():
        if answers.nearest is None or answers.nearest <= ACCURACY:
            share = f"{answers.nearest:.2%}" if answers.nearest is not None else "an unknown share"
            return Finding("Inaccurate", f"pod {pod}: {share} of the probes are nearest to what they were before")
    for pod, loading in pods.loading.items():
        if loading.accuracy is not None and loading.accuracy < ACCURACY:
            return Finding(
                "Inaccurate", f"pod {pod} meets {loading.accuracy:.2%} of its references, below {ACCURACY:.1%}"
            )
        if loading.class_cosine is not None and loading.class_cosine < measured.MIN_COSINE:
            return Finding("OtherClass", f"pod {pod} is apart from the first of its model: {loading.class_cosine:.4f}")
    return None


def steady_memory(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Memory analyst: no pod of either side leaks, nor is it full within half an hour if it grows on as it does."""
    for side in (proposal.after.candidate, proposal.after.serving):
        pods = evidence.pods.get(side.pool) if side is not None else None
        if pods is None or measured.stale("pods", pods, now) is not None:
            continue  # everybody's checks say whether it has to be measured
        leak = leaks.worst(pods.load)
        if leak is not None:
            return Finding("MemoryLeak", leak.told())
        growth = leaks.growth(pods.load)
        if growth is not None and growth.left < HORIZON.total_seconds():
            return (
                Finding("MemoryForecast", f"a pod of {side.pool!r} is full in {growth.left / 60:.0f} min")
                if side
                else None
            )
    return None


def steady_speed(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Parallelism optimizer: no queue is longer than the pool's target, and its pods are about equally fast."""
    del now
    pods = _candidates(proposal, evidence)
    side = proposal.after.candidate or proposal.after.serving
    pool = objects_of(evidence).pools.get(side.pool) if side is not None else None
    if pods is None or pool is None:
        return None
    queues = [one.queue for one in pods.load.readings.values() if one.queue is not None]
    target = pool.spec.scaling.queue_target
    if queues and max(queues) > target:
        return Finding("QueueLong", f"{max(queues):.0f} tokens wait in a pod, above {target}")
    spread = variation(pods)
    if spread is not None and spread >= MOST_VARIANCE:
        return Finding("SpeedVaries", f"speeds of the pods vary by {spread:.0%}, not below {MOST_VARIANCE:.0%}")
    return None


def variation(pods: Pods) -> float | None:
    """Return how much the speeds of pods differ, None of fewer than two that were at work."""
    speeds = [speed for track in pods.load.tracks.values() if (speed := track.speed()) is not None]
    if len(speeds) < 2:
        return None
    mean = math.fsum(speeds) / len(speeds)
    return math.sqrt(math.fsum((one - mean) ** 2 for one in speeds) / len(speeds)) / mean if mean > 0 else None


def loaded(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Streaming loader: the model is here whole, its source is well, and loading costs no more than it may."""
    del now
    pods = _candidates(proposal, evidence)
    for pod, one in (pods.loading if pods is not None else {}).items():
        found = _badly_loaded(pod, one)
        if found is not None:
            return found
    return None


def _badly_loaded(pod: str, one: Loading) -> Finding | None:
    if one.breaker != "closed":
        return Finding("BreakerOpen", f"the circuit breaker of pod {pod}'s model source is {one.breaker}")
    if one.bytes_per_second is not None and one.bytes_per_second < LEAST_RATE:
        rate = f"{one.bytes_per_second / 1e6:.1f} MB/s, below {LEAST_RATE / 1e6:.0f}"
        return Finding("LoadingSlow", f"pod {pod} fetches its model at {rate}")
    if one.size > one.done:
        return Finding("ModelIncomplete", f"pod {pod} has {one.done:.0f} of {one.size:.0f} bytes of its model")
    held = max((one.transient or 0.0) - OF_PROCESS, 0.0)
    if one.size and held >= MOST_FOOTPRINT * one.size:
        share = f"{held / one.size:.0%} of its model in memory, not below {MOST_FOOTPRINT:.0%}"
        return Finding("FootprintLarge", f"pod {pod} held {share}")
    return None


def validated(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Embeddings validator: more stored vectors than others draw, and all but a twentieth are those of their texts."""
    del now
    sample, side = evidence.sample, proposal.after.candidate or proposal.after.serving
    held = evidence.stored.collection(side.collection) if evidence.stored is not None and side is not None else None
    least = min(LEAST_VALIDATED, held.written if held is not None else LEAST_VALIDATED)
    if sample is None or len(sample.cosines) < least:
        count = len(sample.cosines) if sample is not None else 0
        return Finding("SampleTooSmall", f"{count} stored vectors were embedded again, below {least}")
    low = sorted(sample.cosines)[len(sample.cosines) // 20]
    if low >= MIN_COSINE:
        return None
    return Finding("VectorsNotReproduced", f"a twentieth of the stored vectors are at most {low:.4f} near their texts'")


def undrifted(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Configuration manager: nothing differs from its specification."""
    del proposal
    return next((one.finding for one in drifts(evidence, now)), None)


def foreseen(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Pattern learner: what the last share did was about what had been predicted of it."""
    del proposal, now
    one = evidence.prediction
    if one is None or one.predicted_p95 is None or one.seen_p95 is None or one.predicted_p95 <= 0:
        return None  # the first share of all has nothing to be compared with
    times = one.seen_p95 / one.predicted_p95
    if times <= UNFORESEEN:
        return None
    text = f"p95 of texts is {one.seen_p95 * 1000:.0f} ms at {one.weight} %, {times:.1f} times what was predicted"
    return Finding("Unforeseen", text)


_OF_ROUTING: Mapping[Role, tuple[Check, ...]] = {
    Role.EMBEDDING_SPECIALIST: (accurate,),
    Role.MEMORY_ANALYST: (steady_memory,),
    Role.PARALLELISM_OPTIMIZER: (steady_speed,),
    Role.STREAMING_LOADER: (loaded,),
    Role.EMBEDDINGS_VALIDATOR: (validated,),
    Role.CONFIGURATION_MANAGER: (undrifted,),
    Role.PATTERN_LEARNER: (foreseen,),
    Role.BYZANTINE_COORDINATOR: (),
}


def deep(role: Role, kind: Kind) -> tuple[Check, ...]:
    """Return the role's own checks of proposals of a kind: of those that move queries."""
    return _OF_ROUTING[role] if kind in {Kind.TRAFFIC, Kind.COMPLETE} else ()


# What roles propose by themselves.


def _careful(evidence: Evidence, now: datetime) -> tuple[Wish, ...]:
    """Memory analyst: a pool that leaks, or is above its target, works with careful limits."""
    wishes = []
    for name, pods in evidence.pods.items():
        pool = objects_of(evidence).pools.get(name)
        if pool is None or measured.stale("pods", pods, now) is not None:
            continue
        used = max((one.memory for one in pods.answers.values() if one.memory is not None), default=0.0)
        leak, target = leaks.worst(pods.load), pool.spec.scaling.memory_target
        if leak is not None or used > target:
            why = leak.told() if leak is not None else f"pods use {used:.0%} of their memory, above {target:.0%}"
            wishes.append(Wish(Kind.MEMORY, (("pool", name), ("poolUid", pool.meta.uid)), why))
    return tuple(wishes)


def _correcting(evidence: Evidence, now: datetime) -> tuple[Wish, ...]:
    """Configuration manager: what drifted and is nobody's spec is made as specified, one thing at a time."""
    found = [one for one in drifts(evidence, now) if one.named]
    return tuple(Wish(Kind.CORRECT, one.change, one.message) for one in found[:1])


def _tuning(evidence: Evidence, now: datetime) -> tuple[Wish, ...]:
    """Parallelism optimizer: as many pods fill a collection as its pool can follow."""
    found = filling.wanted(evidence, now)
    return () if found is None else (Wish(Kind.TUNING, (("parallelism", str(found[0])),), found[1]),)


def _going_back(evidence: Evidence, now: datetime) -> tuple[Wish, ...]:
    """Embeddings validator: queries return from a candidate that is proven worse, for which no trigger looks."""
    found = others.grounds(evidence, now, ("RetrievalInferior", "VectorsNotReproduced"))
    return () if found is None else (Wish(Kind.ROLLBACK, (("reason", found[0]),), found[1].message),)


def _recovering(evidence: Evidence, now: datetime) -> tuple[Wish, ...]:
    """Byzantine coordinator: a pod that answers wrongly while others are well is replaced, one at a time."""
    for name, pods in sorted(evidence.pods.items()):
        pool = objects_of(evidence).pools.get(name)
        if pool is None or measured.stale("pods", pods, now) is not None:
            continue
        for pod, found in others.sick(pool, pods).items():
            return (Wish(Kind.RECOVER, (("pod", pod), ("pool", name), ("poolUid", pool.meta.uid)), found.message),)
    return ()


_WISHES: Mapping[Role, Callable[[Evidence, datetime], tuple[Wish, ...]]] = {
    Role.MEMORY_ANALYST: _careful,
    Role.CONFIGURATION_MANAGER: _correcting,
    Role.PARALLELISM_OPTIMIZER: _tuning,
    Role.BYZANTINE_COORDINATOR: _recovering,
    Role.EMBEDDINGS_VALIDATOR: _going_back,
}


def wishes(role: Role, evidence: Evidence, now: datetime) -> tuple[Wish, ...]:
    """Return what the role would propose now; nothing of an index whose objects were not read."""
    if evidence.objects is None or role not in _WISHES:
        return ()
    return _WISHES[role](evidence, now)


def _candidates(proposal: Proposal, evidence: Evidence) -> Pods | None:
    side = proposal.after.candidate or proposal.after.serving
    return evidence.pods.get(side.pool) if side is not None else None
