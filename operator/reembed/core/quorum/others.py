"""Checks of proposals that move no queries: what each needs of the agent's own evidence.

They are fewer than those of a raise, since gateways obey none of them: what is certified here costs work, at worst. A
soft rollback is the exception: it costs the candidate its queries, so it needs a reason that the agent measured itself.
`change` has the values that each kind is about, by these names:

    LoadModel   pool, poolUid, fingerprint      Memory      pool, poolUid
    Tuning      parallelism (`filling`)         Recover     pool, poolUid, pod
    Rollback    reason                          Membership  before, after
    Correct     drift, and what is corrected (`drifts`): pool, poolUid, pod; or pod; or collection, generation
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from reembed.core import leaks
from reembed.core.quorum import acting, measured, raising
from reembed.core.quorum.asking import Check, objects_of
from reembed.core.quorum.drifts import drifts
from reembed.core.quorum.evidence import Evidence, Pods, PoolObject
from reembed.core.quorum.membership import Membership, unsound
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.core.transitions import WITH_TRAFFIC
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
    named = _named(proposal, evidence, now)
    if isinstance(named, Finding):
        return named
    pool, pods = named
    used = max((one.memory for one in pods.answers.values() if one.memory is not None), default=None)
    if used is None:
        return Finding("MemoryNotMeasured", "no pod of the pool says what memory it uses")
    target = pool.spec.scaling.memory_target
    if used > target or leaks.worst(pods.load) is not None:
        return None
    return Finding("MemoryCalm", f"pods use {used:.0%} of their memory, not above {target:.0%}, and none leaks")


def unwell(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the pod which is to be replaced is well by the agent's own look, or is not there."""
    said = dict(proposal.change)
    if "reason" in said:
        text = "a migration that was taken back begins anew by its user's word alone: kubectl reembed retry"
        return Finding("NotRecoverable", text)
    named = _named(proposal, evidence, now)
    if isinstance(named, Finding):
        return named
    return _well(said.get("pod", ""), *named)


def _well(pod: str, pool: PoolObject, pods: Pods) -> Finding | None:
    if pod not in pool.ready:
        return Finding("PodMissing", f"pool {pool.meta.name!r} has no ready pod {pod!r}")
    if pod in sick(pool, pods):
        return None
    wrong = measured.wrong(pod, pods.answers.get(pod))
    if wrong is None:
        return Finding("PodWell", f"pod {pod} answers, and as before")
    if wrong.reason not in _SICK:
        return wrong
    why = "it is busy, or has another model, or no pod of its pool is well: another one would be no better"
    return Finding("NotThePod", f"{wrong.message}; {why}")


def sick(pool: PoolObject, pods: Pods) -> dict[str, Finding]:
    """Return the pods that seem ready and give wrong answers or none, while others of the pool are well.

    Where none is well the cause is not a pod's, but for one that is alone and gives other vectors than before: silence
    of the only pod may be load. One that is busy is no worse for that, and one with another model is for `drifts`.
    """
    looked = {pod: measured.wrong(pod, pods.answers.get(pod)) for pod in sorted(pool.ready)}
    found = {pod: one for pod, one in looked.items() if one is not None and one.reason in _SICK}
    if None not in looked.values():
        found = {pod: one for pod, one in found.items() if len(looked) == 1 and one.reason == "ProbesDiffer"}
    problems = {pod: answers.problem for pod, answers in pods.answers.items()}
    return {
        pod: one
        for pod, one in found.items()
        if not problems[pod].startswith("busy") and "fingerprint" not in problems[pod]
    }


_SICK = frozenset({"ProbesFail", "ProbesDiffer"})


def worse(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the agent measured nothing that speaks against the candidate for the reason that is given.

    Where something was not measured that is no reason to go back: triggers of the operator hold and fire by themselves.
    """
    objects = objects_of(evidence)
    migration = objects.migration
    moved = objects.index.status.routing.weight > 0
    if migration is None or migration.status.state not in WITH_TRAFFIC or not moved:
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
    """Find that the agent's own look found no such drift, or that nobody but a user could mend it."""
    named = dict(proposal.change).get("drift", "")
    found = [one for one in drifts(evidence, now) if one.reason == named]
    if not found:
        return Finding("NoDrift", f"{named!r} was not found by the agent's own look")
    if not any(one.named for one in found):
        return Finding("DriftOfSpec", f"{found[0].message}; whoever writes the spec can mend that alone")
    if proposal.change not in {one.change for one in found}:
        return Finding("DriftOther", f"{named!r} was found of something else: {found[0].message}")
    gateways = evidence.gateways
    if named == acting.GATEWAY and gateways is not None and len(gateways.reports) < 2:
        return Finding("GatewayAlone", "no other gateway answers, and callers would get no answer")
    return None


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


def grounds(evidence: Evidence, now: datetime, reasons: Iterable[str]) -> tuple[str, Finding] | None:
    """Return the first of these reasons to take the queries back that the agent's own measurements prove."""
    objects = objects_of(evidence)
    migration, meta = objects.migration, objects.index.meta
    if migration is None:
        return None
    here = raising.split(objects.index.status.routing, {name: one.meta.uid for name, one in objects.pools.items()})
    subject = Subject(meta.namespace, meta.name, meta.uid, migration.meta.name, migration.meta.uid)
    for reason in reasons:
        asked = Proposal(Kind.ROLLBACK, subject, 0, here, here, objects.terms, now, (("reason", reason),))
        if worse(asked, evidence, now) is None:
            found = GROUNDS[reason](asked, evidence, now)
            return (reason, found) if found is not None else None
    return None


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


def _named(proposal: Proposal, evidence: Evidence, now: datetime) -> tuple[PoolObject, Pods] | Finding:
    """Return the pool that a proposal names and what its pods answered lately, or what is wrong with either."""
    pool = objects_of(evidence).pools.get(dict(proposal.change).get("pool", ""))
    if pool is None:
        return Finding("PoolMissing", "the pool that it names is not there")
    name = pool.meta.name
    wrong = _other_pool(proposal, pool) or measured.stale(f"pods of {name!r}", evidence.pods.get(name), now)
    return (pool, evidence.pods[name]) if wrong is None else wrong


def _other_pool(proposal: Proposal, pool: PoolObject, **more: str) -> Finding | None:
    wanted = {"pool": pool.meta.name, "poolUid": pool.meta.uid, **more}
    said = dict(proposal.change)
    wrong = next((name for name, value in wanted.items() if said.get(name) != value), None)
    if wrong is None:
        return None
    return Finding("PoolOther", f"{wrong} is {said.get(wrong, 'missing')}, and the pool's is {wanted[wrong]}")
