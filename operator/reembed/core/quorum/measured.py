"""Checks of what the agent measured by itself: gateways, pods, store, labelled queries, stored vectors.

Each returns what it found against the proposal, or None; what was not measured, or too long ago, is a finding.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from reembed.core import inspection, traffic
from reembed.core.migration import Migration, Seen
from reembed.core.model import EvaluationSpec
from reembed.core.quorum import halves
from reembed.core.quorum.asking import Check, objects_of, seconds
from reembed.core.quorum.evidence import FRESH, FRESH_QUERIES, Evidence, PodAnswers, Pods, Retrieval, Stored
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.core.quorum.proposals import Side as ProposedSide
from reembed.core.readings import latency_threshold
from reembed.core.triggers import Finding

# Texts that each pod must have answered, and how near two vectors of one text must be: one model by two engines, or on
# two processors, comes to more.
LEAST_PROBES = 3
MIN_COSINE = 0.999
# Fewer stored vectors than this say nothing of a collection; a small collection has fewer.
LEAST_SAMPLE = 20


def followed(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that not every gateway serves what the proposal starts from."""
    del proposal
    late = stale("gateways", evidence.gateways, now)
    if late is not None or evidence.gateways is None:
        return late
    index = objects_of(evidence).index
    looked = Seen(index, None, None, None, evidence.gateways.reports, evidence.gateways.running)
    return traffic.behind(looked)


def answered(side: str) -> Check:
    """Return the check that every ready pod of a side answers, and always the same."""

    def check(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
        wanted = getattr(proposal.before, side) if side == "serving" else _candidate(proposal)
        if wanted is None:
            return None
        pods = evidence.pods.get(wanted.pool)
        late = stale(f"pods of {wanted.pool!r}", pods, now)
        if late is not None or pods is None:
            return late
        return unanswered(wanted, pods, evidence)

    return check


def unanswered(side: ProposedSide, pods: Pods, evidence: Evidence) -> Finding | None:
    pool = objects_of(evidence).pools.get(side.pool)
    ready = pool.ready if pool is not None else ()
    if not ready:
        return Finding("NoPods", f"no pod of pool {side.pool!r} is ready")
    for pod in ready:
        found = wrong(pod, pods.answers.get(pod))
        if found is not None:
            return found
    return None


def wrong(pod: str, answers: PodAnswers | None) -> Finding | None:
    """Find what is wrong with how a ready pod answered."""
    if answers is None or (not answers.problem and answers.texts < LEAST_PROBES):
        texts = answers.texts if answers is not None else 0
        return Finding("ProbesTooFew", f"pod {pod} answered {texts} probes, below {LEAST_PROBES}")
    if answers.problem:
        return Finding("ProbesFail", f"pod {pod}: {answers.problem}")
    if answers.cosine is None:
        return Finding(
            "ProbesTooFew", f"pod {pod} was asked once, so that nothing is known of whether it repeats itself"
        )
    if not answers.cosine >= MIN_COSINE:
        text = f"pod {pod} gives a text another vector than before: cosine {answers.cosine:.4f}, below {MIN_COSINE}"
        return Finding("ProbesDiffer", text)
    return None


def quick(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a candidate that takes longer for a text alone than its whole answers may."""
    del now
    migration, pods = _migration(evidence), _pods(proposal, evidence)
    if migration is None or migration.spec.limits.latency.dry_run or proposal.before.serving is None:
        return None
    limit = latency_threshold(migration)
    if limit is None:
        return Finding("LatencyNotMeasured", "the migration has no baseline that its limit could be a multiple of")
    slow = [one.seconds for one in pods.answers.values() if one.seconds is not None] if pods is not None else []
    if not slow:
        return Finding("LatencyNotMeasured", "no probe of the candidate was timed")
    if max(slow) <= limit:
        return None
    return Finding("Latency", f"a probe of the candidate takes {max(slow) * 1000:.0f} ms, above {limit * 1000:.0f} ms")


def light(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a pod of the candidate whose memory is above the trigger's limit."""
    del now
    migration, pods = _migration(evidence), _pods(proposal, evidence)
    limit = migration.spec.limits.memory if migration is not None else None
    if limit is None or limit.share is None or limit.dry_run:
        return None
    memory = [one.memory for one in pods.answers.values()] if pods is not None else []
    known = [one for one in memory if one is not None]
    if not memory or len(known) < len(memory):
        return Finding("MemoryNotMeasured", "a pod of the candidate does not say what memory it uses")
    if max(known) <= limit.share:
        return None
    return Finding(
        "MemoryPressure", f"a pod of the candidate uses {max(known):.0%} of its memory, above {limit.share:.0%}"
    )


def complete(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a candidate's collection that is not whole, or a pointer that is not where the queries go."""
    late = _late("the store", evidence.stored, evidence, now)
    if late is not None or evidence.stored is None:
        return late
    side = _candidate(proposal)
    if side is None:
        return Finding("CandidateMissing", "it names no candidate")
    return _incomplete(side, evidence.stored, _migration(evidence)) or _elsewhere(proposal, evidence.stored)


def _incomplete(side: ProposedSide, stored: Stored, migration: Migration | None) -> Finding | None:
    held = stored.collection(side.collection)
    if held is None:
        return Finding("CollectionMissing", f"the store has no collection {side.collection}")
    if held.fingerprint != side.fingerprint:
        return Finding("CollectionOther", f"collection {side.collection} holds vectors of {held.fingerprint}")
    if held.shards_done < held.shards:
        return Finding("CollectionFilling", f"{held.shards_done} of {held.shards} shards are filled")
    if held.state != "Indexed" or not held.valid:
        state = held.state if held.state != "Indexed" else "without a valid vector index"
        return Finding("IndexInvalid", f"collection {side.collection} is {state}")
    limit = migration.spec.rejected_share if migration is not None else 0.0
    share = held.rejected / max(held.rejected + held.written, 1)
    if share > limit:
        return Finding("Rejected", f"{share:.2%} of the documents have no vector, above {limit:.2%}")
    return None


def _elsewhere(proposal: Proposal, stored: Stored) -> Finding | None:
    serving, candidate = proposal.before.serving, _candidate(proposal)
    allowed = {side.collection for side in (serving,) if side is not None}
    if proposal.before.weight == 100 and candidate is not None:
        # It follows the queries once every gateway gives all of them to the candidate, and must have before the end.
        allowed = {candidate.collection} if proposal.kind is Kind.COMPLETE else allowed | {candidate.collection}
    found = stored.pointer.collection if stored.pointer is not None else None
    if found in allowed or (serving is None and found in {None, candidate.collection if candidate else None}):
        return None
    return Finding("PointerInconsistent", f"the store's pointer names {found or 'nothing'}, and queries go elsewhere")


def proven(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the agent's own half of the labelled queries does not prove that at most the margin is lost."""
    migration = _migration(evidence)
    spec = migration.spec.evaluation if migration is not None else None
    if spec is None or migration is None or proposal.before.serving is None:
        return None  # nobody asked for it, or there is nothing to compare with
    if proposal.kind is Kind.COMPLETE and not _ready(proposal.before.serving, evidence):
        return None  # each raise was proven; a dead old side must not keep its successor from being left alone
    found = evidence.retrieval
    late = _late("labelled queries", found, evidence, now, FRESH_QUERIES)
    if late is not None or found is None:
        return late
    return _unmeasured(found, migration, spec) or _unproven(found, spec)


def _unmeasured(found: Retrieval, migration: Migration, spec: EvaluationSpec) -> Finding | None:
    if found.arms != (migration.status.serving, migration.status.candidate):
        return Finding("RetrievalNotMeasured", "the labelled queries were put to other sides")
    if found.labelled < spec.min_queries:
        return Finding("RetrievalTooFewQueries", f"{found.labelled} labelled queries, below {spec.min_queries}")
    if len(found.differences) < found.asked:
        done = f"{len(found.differences)} of {found.asked} queries of the own half are measured"
        return Finding("RetrievalNotMeasured", done)
    return None


def _unproven(found: Retrieval, spec: EvaluationSpec) -> Finding | None:
    low = halves.lower_bound(found.differences)
    if low > -spec.margin:
        return None
    mean = math.fsum(found.differences) / len(found.differences)
    text = f"MRR@{spec.k} changes by {mean:+.4f} on {found.asked} queries, at least {low:+.4f} at {halves.LEVEL:.0%}"
    return Finding("RetrievalNotProven", f"{text}; the margin is {spec.margin:g}")


def inferior(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the agent's own half proves the contrary: more is lost than the margin."""
    found = proven(proposal, evidence, now)
    if found is None or found.reason != "RetrievalNotProven" or evidence.retrieval is None:
        return found
    migration = _migration(evidence)
    spec = migration.spec.evaluation if migration is not None else None
    high = -halves.lower_bound([-one for one in evidence.retrieval.differences])
    if spec is None or high >= -spec.margin:
        return found
    return Finding("RetrievalInferior", f"MRR@{spec.k} changes by {high:+.4f} at most; the margin is {spec.margin:g}")


def reproduced(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find stored vectors of the candidate that its pods do not make again of the same texts."""
    late = _late("stored vectors", evidence.sample, evidence, now, FRESH_QUERIES)
    if late is not None or evidence.sample is None:
        return late
    side, sample = _candidate(proposal), evidence.sample
    if side is None or sample.collection != side.collection:
        return Finding("SampleNotMeasured", f"vectors of {sample.collection} were sampled, not those of the candidate")
    held = evidence.stored.collection(side.collection) if evidence.stored is not None else None
    least = min(LEAST_SAMPLE, held.written if held is not None else LEAST_SAMPLE)
    if len(sample.cosines) < max(least, 1):
        return Finding("SampleTooSmall", f"{len(sample.cosines)} stored vectors were embedded again, below {least}")
    found = inspection.reproduction(sample.cosines)
    if found.median >= inspection.MIN_COSINE and found.share >= inspection.MIN_SHARE:
        return None
    text = f"{found.share:.0%} of {found.sample} stored vectors are those of their texts, median cosine {found.median}"
    return Finding("VectorsNotReproduced", text)


def stale(what: str, look: Any, now: datetime, limit: timedelta = FRESH) -> Finding | None:
    """Find that something was not measured, or too long ago."""
    if look is None:
        return Finding("NotMeasured", f"{what}: not measured")
    age = now - look.at
    return Finding("Stale", f"{what}: measured {seconds(age)} ago, above {seconds(limit)}") if age > limit else None


def _late(what: str, look: Any, evidence: Evidence, now: datetime, limit: timedelta = FRESH) -> Finding | None:
    """Find the same, and say why the agent could not measure it: somebody may have to give it a right."""
    found, why = stale(what, look, now, limit), evidence.failed.get(what)
    return found if found is None or why is None else Finding(found.reason, f"{found.message}: {why}")


def _ready(side: ProposedSide, evidence: Evidence) -> bool:
    pool = objects_of(evidence).pools.get(side.pool)
    return pool is not None and bool(pool.ready)


def _candidate(proposal: Proposal) -> ProposedSide | None:
    return proposal.after.serving if proposal.kind is Kind.COMPLETE else proposal.after.candidate


def _pods(proposal: Proposal, evidence: Evidence) -> Pods | None:
    side = _candidate(proposal)
    return evidence.pods.get(side.pool) if side is not None else None


def _migration(evidence: Evidence) -> Migration | None:
    return objects_of(evidence).migration
