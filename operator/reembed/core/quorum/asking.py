"""Checks of what a proposal says, against the objects that the agent read by itself from the API server.

Each returns what it found, or None; `judging` has them in order. `seen` stands before all that look at objects.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from reembed.core import names
from reembed.core.fingerprint import of_collection
from reembed.core.migration import Migration
from reembed.core.model import Approval, Arm, Routing, Verb
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import LONGEST_OPEN, SKEW
from reembed.core.quorum.evidence import FRESH, Evidence, Objects
from reembed.core.quorum.proposals import Kind, Proposal, Split
from reembed.core.triggers import Finding

# What a check finds against a proposal; the evidence is the agent's own, and so is the clock.
Check = Callable[[Proposal, Evidence, datetime], Finding | None]


# What any proposal must be.


def in_time(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a proposal whose time is over, or that asks for too much of it; two clocks differ by at most SKEW."""
    del evidence
    if now > proposal.expires + SKEW:
        return Finding("Expired", f"it was to be decided until {proposal.expires:%H:%M:%S} UTC")
    if proposal.expires > now + LONGEST_OPEN + SKEW:
        limit = f"above the {LONGEST_OPEN} that measurements are good for"
        return Finding("ExpiryTooFar", f"it is open until {proposal.expires:%Y-%m-%d %H:%M:%S} UTC, {limit}")
    return None


def alone(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    del now
    if evidence.other is None or evidence.other == proposal.digest:
        return None
    return Finding("SlotTaken", f"proposal {evidence.other[:12]} was seen in the same slot before")


def counted(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find an epoch far above those that agents count by their clocks: nothing could be proposed after it."""
    del evidence
    if proposal.epoch <= (now + LONGEST_OPEN).timestamp():
        return None
    return Finding("EpochTooFar", f"epoch {proposal.epoch} is more than {LONGEST_OPEN} ahead of the clock")


def seen(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the objects were not read of late."""
    del proposal
    if evidence.objects is None:
        return Finding("ObjectsNotRead", "the index was not read from the API server")
    age = now - evidence.objects.at
    if age > FRESH:
        return Finding("ObjectsOld", f"the objects were read {age.total_seconds():.0f} s ago, above {seconds(FRESH)}")
    return None


def same_subject(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that it is about other objects than those that are there, by their UIDs."""
    del now
    subject, objects = proposal.subject, objects_of(evidence)
    index, migration = objects.index, objects.migration
    if subject.uid != index.meta.uid:
        return Finding("IndexOther", f"it names index {subject.uid}, and {index.meta.name!r} is {index.meta.uid}")
    if migration is None:
        return Finding("MigrationMissing", f"there is no migration {subject.migration!r}")
    if subject.migration_uid != migration.meta.uid:
        text = f"it names migration {subject.migration_uid}, and {migration.meta.name!r} is {migration.meta.uid}"
        return Finding("MigrationOther", text)
    return None


def same_terms(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    del now
    if proposal.terms == objects_of(evidence).terms:
        return None
    return Finding("TermsOther", "its terms are not those of the migration's spec, which may have changed since")


def holds_index(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that another migration holds the index, or none."""
    del now
    holder = objects_of(evidence).index.status.active_migration
    if holder is not None and holder.uid == proposal.subject.migration_uid:
        return None
    return Finding("NotHolder", f"the index is held by {holder.name if holder is not None else 'nobody'}")


def from_here(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that what it starts from is not what the index says; pools of the same name may be others."""
    del now
    objects = objects_of(evidence)
    uids = {name: one.meta.uid for name, one in objects.pools.items()}
    here = raising.split(objects.index.status.routing, uids)
    if proposal.before != here:
        said = f"epoch {proposal.before.epoch} at {proposal.before.weight} %"
        text = f"it starts from {said}, and the index says epoch {here.epoch} at {here.weight} %, or other sides"
        return Finding("BeforeOther", text)
    return None


def nobody_stops_it(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find somebody's word against going on: a deletion, a pause, an abort, or all queries taken back by hand."""
    del proposal, now
    objects = objects_of(evidence)
    migration = objects.migration
    if objects.forced:
        return Finding("ForcedStable", "annotation reembed.dev/force-stable is on the index")
    if migration is None or migration.meta.deleting or objects.index.meta.deleting:
        return Finding("Deleting", "the index or its migration is being deleted")
    answered_ones = {one.nonce for one in migration.status.commands}
    waiting = {one.verb for one in migration.asked if one.nonce not in answered_ones and not one.problem}
    if Verb.ABORT in waiting:
        return Finding("Aborted", "somebody asks to abort the migration")
    if migration.paused or Verb.PAUSE in waiting:
        return Finding("Paused", "somebody paused the migration")
    return None


# What a proposal to move queries must be.


def newer_epoch(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    del now
    epoch = objects_of(evidence).index.status.routing.epoch
    if proposal.epoch > epoch and proposal.after.epoch == proposal.epoch:
        return None
    return Finding("EpochConsumed", f"epoch {proposal.epoch} is not above the index's epoch {epoch}")


def own_sides(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the migration's status names other sides than its user and the index do: who proposes writes both."""
    del proposal, now
    objects = objects_of(evidence)
    migration, serving = objects.migration, objects.index.status.routing.serving
    if migration is None or migration.status.candidate is None:
        return Finding("SidesUnknown", "the migration names no candidate yet")
    found, wanted = migration.status.candidate, _candidate(objects, migration)
    if found != wanted:
        asked = f"pool {migration.spec.pool!r} and the attempt's collection, as the migration's spec asks"
        return Finding("CandidateOther", f"the status names {found.collection} of pool {found.pool!r}, and not {asked}")
    if migration.status.serving != serving:
        return Finding("SidesOther", "what serves is another in the migration's status than in the index's")
    return None


def next_step(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that it is not the one step that comes next in the migration's steps, to the migration's own sides."""
    del now
    objects = objects_of(evidence)
    wanted = coming(objects)
    if wanted is None:
        return Finding("SidesUnknown", "the migration names no candidate yet")
    kind, after = wanted
    if (proposal.kind, proposal.after.weight) != (kind, after.weight):
        asked = f"{proposal.kind.value} to {proposal.after.weight} %"
        return Finding("NotNextStep", f"it asks for {asked}, and {kind.value} to {after.weight} % comes next")
    if (proposal.after.serving, proposal.after.candidate) != (after.serving, after.candidate):
        return Finding("SidesOther", "its sides are not those of the migration, by collection, fingerprint or pool UID")
    return None


def held(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find that the share of now was not held for as long as the migration's user asked.

    By the agent's own looks; one that began after the share was given believes the certificate's expiry, before which
    it was given. Who may approve may cut a hold short, by the annotation that names the step.
    """
    objects = objects_of(evidence)
    hold = _hold(objects)
    if not hold:
        return None
    own = evidence.gateways.followed_since if evidence.gateways is not None else None
    if own is None:
        return Finding("HoldNotSeen", "not every gateway was seen to serve the share of now")
    since = min(own, objects.certified_by) if objects.certified_by is not None else own
    if now - since >= hold:
        return None
    weight = objects.index.status.routing.weight
    return Finding("Holding", f"{weight} % was held for {seconds(now - since)} of {seconds(hold)}")


def approved(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a step that must not be left without somebody's word."""
    del proposal, now
    objects = objects_of(evidence)
    step = _step(objects)
    steps = objects.migration.spec.steps if objects.migration is not None else ()
    if step is None or steps[step].approval is not Approval.REQUIRED or _promoted(objects, step):
        return None
    return Finding("NotApproved", f"step {step + 1} at {steps[step].weight} % is left by somebody's word alone")


def coming(objects: Objects) -> tuple[Kind, Split] | None:
    """Return what comes next: kind and split, whose epoch says nothing."""
    migration, routing = objects.migration, objects.index.status.routing
    if migration is None or migration.status.candidate is None:
        return None
    candidate = migration.status.candidate
    # Another attempt's candidate may still be named, without weight.
    weight = routing.weight if routing.candidate == candidate else 0
    uids = {name: one.meta.uid for name, one in objects.pools.items()}
    if weight == 100 or routing.serving is None:
        return Kind.COMPLETE, raising.split(Routing(serving=candidate), uids)
    more = next((step.weight for step in migration.spec.steps if step.weight > weight), 100)
    return Kind.TRAFFIC, raising.split(Routing(serving=routing.serving, candidate=candidate, weight=more), uids)


def _candidate(objects: Objects, migration: Migration) -> Arm | None:
    """Return the side that the migration makes, by its spec and its pool's; only the attempt is the operator's word."""
    pool = objects.pools.get(migration.spec.pool)
    if pool is None:
        return None
    made = names.collection(migration.meta.uid, migration.status.attempt)
    return Arm(pool.meta.name, made, of_collection(pool.fingerprint, migration.spec.chunking))


def _step(objects: Objects) -> int | None:
    """Return the step that would be left, None before the first."""
    migration, routing = objects.migration, objects.index.status.routing
    if migration is None or routing.candidate is None or routing.candidate != migration.status.candidate:
        return None
    return next((at for at, step in enumerate(migration.spec.steps) if step.weight == routing.weight), None)


def _hold(objects: Objects) -> timedelta:
    """Return how long the share of now must be held, without what somebody cut short who may."""
    step = _step(objects)
    if step is None or objects.migration is None:
        return timedelta(0)
    spec = objects.migration.spec
    hold = timedelta(0) if _promoted(objects, step) else spec.steps[step].hold
    if spec.steps[step].weight < 100:
        return hold
    # After the last step the old side is kept for a while; all queries are the candidate's in both.
    return timedelta(0) if _asked(objects, "Retaining") else hold + spec.retention


def _promoted(objects: Objects, step: int) -> bool:
    """Return whether somebody who may approve wants a step left; who ends what follows the last one, wants that too."""
    migration = objects.migration
    last = migration is not None and migration.spec.steps[step].weight == 100
    return _asked(objects, f"Canary/{step}") or (last and _asked(objects, "Retaining"))


def _asked(objects: Objects, point: str) -> bool:
    """Return whether somebody promotes a point of this attempt, by the annotation: a status is the operator's word."""
    migration = objects.migration
    return migration is not None and any(
        one.verb is Verb.PROMOTE
        and one.uid == migration.meta.uid
        and one.at == f"{migration.status.attempt}/{point}"
        and not one.problem
        for one in migration.asked
    )


def objects_of(evidence: Evidence) -> Objects:
    if evidence.objects is None:  # `seen` stands before all that ask; said for the type checker
        raise ValueError("no objects")
    return evidence.objects


def seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.0f} s"
