"""Checks of proposals that move no queries: what each needs of the agent's own evidence.

They are fewer than those of a raise, since gateways obey none of them: what is certified here costs work, at worst. A
soft rollback is the exception: it costs the candidate its queries, so it needs a reason that the agent measured itself.
`change` has the values that each kind is about, by these names:

    LoadModel   pool, poolUid, fingerprint      Memory      pool, poolUid
    Tuning      parallelism                     Recover     reason
    Rollback    reason                          Correct     drift
    Membership  before, after
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from reembed.core import leaks
from reembed.core.quorum import measured
from reembed.core.quorum.asking import Check, objects_of
from reembed.core.quorum.drifts import drifts
from reembed.core.quorum.evidence import Evidence, PoolObject
from reembed.core.quorum.membership import Membership, unsound
from reembed.core.quorum.proposals import Proposal, Side, Split
from reembed.core.transitions import WITH_TRAFFIC, State
from reembed.core.triggers import Finding


def moves_nothing(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    del evidence, now
    if proposal.before == proposal.after:
        return None
    return Finding("MovesQueries", f"a proposal of kind {proposal.kind.value} moves no queries, and this one would")


def loads_target(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that it is not the pool of the migration's target, with the model that the pool's spec names."""
    del now
    objects = objects_of(evidence)
    migration = objects.migration
    pool = objects.pools.get(migration.spec.pool) if migration is not None else None
    if pool is None:
        return Finding("PoolMissing", "the pool of the migration's target is not there")
    return _other_pool(proposal, pool, fingerprint=pool.fingerprint)


def needs_memory(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that no pod of the pool is short of memory by the agent's own look, or about to be."""
    pool = objects_of(evidence).pools.get(dict(proposal.change).get("pool", ""))
    if pool is None:
        return Finding("PoolMissing", "the pool that it names is not there")
    pods = evidence.pods.get(pool.meta.name)
    found = _other_pool(proposal, pool) or measured.stale(f"pods of {pool.meta.name!r}", pods, now)
    if found is not None or pods is None:
        return found
    used = max((one.memory for one in pods.answers.values() if one.memory is not None), default=None)
    if used is None:
        return Finding("MemoryNotMeasured", "no pod of the pool says what memory it uses")
    target = pool.spec.scaling.memory_target
    if used > target or leaks.worst(pods.load) is not None:
        return None
    return Finding("MemoryCalm", f"pods use {used:.0%} of their memory, not above {target:.0%}, and none leaks")


def tunes_backfill(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a number of shards side by side that makes no sense, or that would add work to pods short of memory."""
    migration = objects_of(evidence).migration
    if migration is None or migration.status.state is not State.BACKFILLING:
        return Finding("NotBackfilling", "the migration fills no collection now")
    text = dict(proposal.change).get("parallelism", "")
    if not text.isdecimal() or not 1 <= int(text) <= migration.spec.shards:
        return Finding("ParallelismInvalid", f"{text!r} shards side by side, of the {migration.spec.shards} there are")
    if int(text) <= migration.spec.parallelism:
        return None
    pods = evidence.pods.get(migration.spec.pool)
    late = measured.stale(f"pods of {migration.spec.pool!r}", pods, now)
    if late is not None or pods is None:
        return late
    share = migration.spec.limits.memory.share or 1.0
    used = [one.memory for one in pods.answers.values()]
    if any(one is None or one > share for one in used) or not used:
        return Finding("MemoryPressure", "pods are short of memory, or do not say what they use")
    return None


def over(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that what a migration was taken back for may not be over: its pods must answer, and the store."""
    migration = objects_of(evidence).migration
    if migration is None or migration.status.state not in {State.ROLLED_BACK, State.FAILED}:
        return Finding("NotTakenBack", "the migration was not taken back")
    if dict(proposal.change).get("reason") != migration.status.reason:
        return Finding("ReasonOther", f"the migration was taken back for {migration.status.reason}")
    late = measured.stale("the store", evidence.stored, now)
    if late is not None:
        return late
    pool = objects_of(evidence).pools.get(migration.spec.pool)
    pods = evidence.pods.get(migration.spec.pool)
    late = measured.stale(f"pods of {migration.spec.pool!r}", pods, now)
    if pool is None or pods is None or late is not None:
        return late or Finding("PoolMissing", "the pool of the migration's target is not there")
    return measured.unanswered(_side(pool), pods, evidence)


def worse(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the agent measured nothing that speaks against the candidate for the reason that is given.

    Where something was not measured that is no reason to go back: triggers of the operator hold and fire by themselves.
    """
    objects = objects_of(evidence)
    migration = objects.migration
    if migration is None or migration.status.state not in WITH_TRAFFIC:
        return Finding("NoTraffic", "the candidate has no queries that could return")
    reason = dict(proposal.change).get("reason", "")
    if reason not in GROUNDS:
        return Finding("ReasonUnknown", f"{reason!r} is none of {', '.join(GROUNDS)}")
    found = GROUNDS[reason](proposal, evidence, now)
    if found is not None and found.reason in REASONS[reason]:
        return None
    text = found.message if found is not None else "what was measured is within its limits"
    return Finding("NoGrounds", f"{reason}: {text}")


def drifted(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    named = dict(proposal.change).get("drift", "")
    if any(one.reason == named for one in drifts(evidence, now)):
        return None
    return Finding("NoDrift", f"{named!r} was not found by the agent's own look")


# What a soft rollback may be for, the check that looks at it, and what it finds then.
GROUNDS: Mapping[str, Check] = {
    "ProbesFail": measured.answered("candidate"),
    "Latency": measured.quick,
    "MemoryPressure": measured.light,
    "RetrievalInferior": measured.inferior,
    "VectorsNotReproduced": measured.reproduced,
}
REASONS: Mapping[str, frozenset[str]] = {
    "ProbesFail": frozenset({"ProbesFail", "ProbesDiffer"}),
    "Latency": frozenset({"Latency"}),
    "MemoryPressure": frozenset({"MemoryPressure"}),
    "RetrievalInferior": frozenset({"RetrievalInferior"}),
    "VectorsNotReproduced": frozenset({"VectorsNotReproduced"}),
}


# Of the panel itself.


def panel_seen(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    found = measured.stale("the Panel", evidence.panel, now)
    if found is not None or evidence.panel is None:
        return found
    if proposal.subject.uid != evidence.panel.meta.uid or proposal.before != Split() or proposal.after != Split():
        return Finding("PanelOther", "it is not about this Panel alone")
    return None


def members_wished(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that its members are not those that the Panel's user wishes for, after those that are in office."""
    del now
    if evidence.panel is None or not evidence.panel.chain:
        return Finding("PanelEmpty", "nobody is in office, and the first members are the index's word alone")
    active, wished = evidence.panel.chain[-1].membership, evidence.panel.wished
    after = Membership(active.version + 1, wished.faulty, wished.members)
    wrong = unsound(after)
    if wrong is not None:
        return Finding("MembersUnsound", wrong)
    if proposal.epoch != after.version:
        return Finding("EpochConsumed", f"epoch {proposal.epoch}, and version {after.version} comes next")
    if dict(proposal.change) != {"before": active.digest, "after": after.digest}:
        return Finding("MembersOther", "its members are not those of the Panel's spec, after those in office")
    return None


def few_change(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that more members change at once than may be faulty: the rest would no longer be a quorum of the honest.

    A member that leaves, comes, or has another key counts. More change in several votes, one after the other.
    """
    del proposal, now
    if evidence.panel is None:
        return Finding("NotMeasured", "the Panel: not measured")
    active = evidence.panel.chain[-1].membership
    before = {one.name: one.key for one in active.members}
    after = {one.name: one.key for one in evidence.panel.wished.members}
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if len(changed) <= active.faulty:
        return None
    text = (
        f"{len(changed)} members change at once, above the {active.faulty} that may be faulty; change fewer at a time"
    )
    return Finding("TooManyChange", text)


def _other_pool(proposal: Proposal, pool: PoolObject, **more: str) -> Finding | None:
    wanted = {"pool": pool.meta.name, "poolUid": pool.meta.uid, **more}
    said = dict(proposal.change)
    wrong = next((name for name, value in wanted.items() if said.get(name) != value), None)
    if wrong is None:
        return None
    return Finding("PoolOther", f"{wrong} is {said.get(wrong, 'missing')}, and the pool's is {wanted[wrong]}")


def _side(pool: PoolObject) -> Side:
    return Side(pool.meta.name, pool.meta.uid, "", pool.fingerprint)
