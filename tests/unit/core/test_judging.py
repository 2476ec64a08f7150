"""Each check stops what it is for, in the order in which they are asked; what was not measured is no approval."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reembed.core import names
from reembed.core.migration import Migration
from reembed.core.model import Approval, Arm, Command, Consumed, Holder, Limit, Limits, Routing, Step, Verb
from reembed.core.quorum import canonical, raising
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.evidence import Evidence, PoolObject, Prediction
from reembed.core.quorum.judging import CHECKS, judge
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.core.transitions import State
from tests import builders
from tests.builders import NEW, NOON, OLD
from tests.evidence import (
    DIFFERENCES,
    STEPS,
    at,
    collection,
    evidence,
    migration,
    objects,
    pods,
    proposal,
    retrieval,
    routing,
    standing,
    stored,
)


def reason(asked: Proposal, known: Evidence, seconds: float = 0) -> str:
    found = judge(asked, known, at(seconds))
    assert found.choice is (Choice.APPROVE if found.reasons[0].startswith("Measured:") else Choice.REJECT)
    return found.reasons[0].partition(":")[0]


def of(known: Evidence, **changes: Any) -> Evidence:
    """Return evidence with other objects."""
    assert known.objects is not None
    return replace(known, objects=replace(known.objects, **changes))


def with_migration(found: Migration, weight: int = 10) -> Evidence:
    return of(evidence(weight), migration=found)


def command(verb: Verb, point: str = "1/Canary/0") -> Command:
    return Command(verb, "uid-move", point, "n1")


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 10), (10, 50), (50, 100), (100, 0)],
    ids=["the first step", "a step", "the last step", "completion"],
)
def test_a_step_whose_every_measurement_is_good_is_approved(before: int, after: int) -> None:
    found = judge(proposal(before, after), evidence(before), NOON)
    assert found.choice is Choice.APPROVE
    assert found.reasons == ("Measured: every check holds",)


def test_a_first_fill_has_nothing_to_be_compared_with() -> None:
    """Its candidate serves at once; nothing is lost by it, since nothing answers."""
    first = Routing(7, None, NEW, 0)
    known = of(
        evidence(0, retrieval=None, stored=stored(None)),
        index=replace(objects().index, status=replace(objects().index.status, routing=first)),
        migration=migration(State.PROMOTING, serving=None),
    )
    assert known.gateways is not None
    reports = tuple(replace(one, epoch=7, serving=None, candidate=NEW, weight=0) for one in known.gateways.reports)
    known = replace(known, gateways=replace(known.gateways, reports=reports))
    done = proposal(100)
    assert reason(replace(done, before=replace(done.before, weight=0, serving=None)), known) == "Measured"


MIGRATIONS = {
    "deleted": (replace(migration(), meta=builders.meta("move", deleting=True)), "Deleting"),
    "paused by its spec": (migration(spec={"paused": True}), "Paused"),
    "paused by command": (migration(paused=True), "Paused"),
    "a pause that nobody answered yet": (replace(migration(), asked=(command(Verb.PAUSE),)), "Paused"),
    "an abort that nobody answered yet": (replace(migration(), asked=(command(Verb.ABORT),)), "Aborted"),
    "a pause that was answered and ended": (
        replace(
            migration(commands=(Consumed(Verb.PAUSE, "n1", "", NOON, True, ""),)),
            asked=(command(Verb.PAUSE),),
        ),
        "Measured",
    ),
    "an approval that is missing": (
        migration(spec={"steps": (Step(10, timedelta(0), Approval.REQUIRED), *STEPS[1:])}),
        "NotApproved",
    ),
    "an approval that is there": (
        replace(
            migration(spec={"steps": (Step(10, timedelta(0), Approval.REQUIRED), *STEPS[1:])}),
            asked=(command(Verb.PROMOTE),),
        ),
        "Measured",
    ),
    "an approval of another step": (
        replace(
            migration(spec={"steps": (Step(10, timedelta(0), Approval.REQUIRED), *STEPS[1:])}),
            asked=(command(Verb.PROMOTE, "1/Canary/1"),),
        ),
        "NotApproved",
    ),
    "no candidate": (migration(candidate=None), "SidesUnknown"),
    "a baseline that is missing": (migration(baseline=None), "LatencyNotMeasured"),
    "a limit of latency that is below the probes": (
        migration(spec={"limits": Limits(latency=Limit(timedelta(0), absolute=timedelta(milliseconds=5)))}),
        "Latency",
    ),
    "a limit of memory that is below the pods": (
        migration(spec={"limits": Limits(memory=Limit(timedelta(0), share=0.4))}),
        "MemoryPressure",
    ),
    "an evaluation that nobody asked for": (migration(spec={"evaluation": None}), "Measured"),
}


@pytest.mark.parametrize(("found", "expected"), MIGRATIONS.values(), ids=MIGRATIONS.keys())
def test_what_the_migration_says_decides(found: Migration, expected: str) -> None:
    assert reason(proposal(), with_migration(found)) == expected


PROPOSALS = {
    "its time is over": (proposal(expires=at(-31)), "Expired"),
    "its time ended within the skew of two clocks": (proposal(expires=at(-29)), "Measured"),
    "it is open for too long": (proposal(expires=at(631)), "ExpiryTooFar"),
    "of another index": (proposal(subject=replace(proposal().subject, uid="uid-other")), "IndexOther"),
    "of another migration": (proposal(subject=replace(proposal().subject, migration_uid="uid-x")), "MigrationOther"),
    "of other terms": (proposal(terms="u" * 64), "TermsOther"),
    "from another share": (replace(proposal(), before=replace(proposal().before, weight=9)), "BeforeOther"),
    "from another epoch": (replace(proposal(), before=replace(proposal().before, epoch=6)), "BeforeOther"),
    "with an epoch that was consumed": (
        replace(proposal(), epoch=7, after=replace(proposal().after, epoch=7)),
        "EpochConsumed",
    ),
    "whose after has another epoch": (replace(proposal(), after=replace(proposal().after, epoch=9)), "EpochConsumed"),
    "over a step": (proposal(10, 100), "NotNextStep"),
    "to no step": (proposal(10, 60), "NotNextStep"),
    "down": (proposal(10, 5), "NotNextStep"),
    "to the end at once": (replace(proposal(100), before=proposal(10).before), "NotNextStep"),
    "to a collection of another attempt": (
        replace(
            proposal(), after=replace(proposal().after, candidate=replace(proposal().after.candidate, collection="c_x"))
        ),
        "SidesOther",
    ),
    "to a pool of the same name": (
        replace(
            proposal(), after=replace(proposal().after, candidate=replace(proposal().after.candidate, pool_uid="uid-x"))
        ),
        "SidesOther",
    ),
    "to another model": (
        replace(
            proposal(),
            after=replace(proposal().after, candidate=replace(proposal().after.candidate, fingerprint="fp-x")),
        ),
        "SidesOther",
    ),
}


@pytest.mark.parametrize(("asked", "expected"), PROPOSALS.values(), ids=PROPOSALS.keys())
def test_a_proposal_is_the_one_step_that_comes_next_from_what_is_there(asked: Proposal, expected: str) -> None:
    assert reason(asked, evidence()) == expected


EVIL = Arm("evil", "c_evil", builders.fingerprint(builders.model("evil")))


def forged(asked: Proposal, found: Migration, now: Routing, after: Routing) -> tuple[Proposal, Evidence]:
    """Return what who has the operator's account proposes, and what agents find, of a pool `evil` that is well.

    A status is the operator's to write; specs and pools are not.
    """
    pool = builders.pool("evil")
    pools = {**objects().pools, "evil": PoolObject(pool.meta, pool.spec, pool.report.fingerprint, ("evil-1",))}
    uids = {name: one.meta.uid for name, one in pools.items()}
    changed = replace(asked, before=raising.split(now, uids), after=raising.split(replace(after, epoch=8), uids))
    known = evidence(retrieval=retrieval(arms=(found.status.serving, found.status.candidate)))
    assert known.gateways is not None
    assert known.stored is not None
    assert known.sample is not None
    reports = [replace(one, serving=now.serving, candidate=now.candidate) for one in known.gateways.reports]
    candidate = found.status.candidate or NEW
    seen = replace(
        known,
        gateways=replace(known.gateways, reports=tuple(reports)),
        pods={**known.pods, "evil": pods("evil")},
        stored=replace(known.stored, collections=(*known.stored.collections, collection(EVIL), collection(candidate))),
        sample=replace(known.sample, collection=candidate.collection),
    )
    status = replace(objects().index.status, routing=now)
    return changed, of(seen, index=replace(objects().index, status=status), migration=found, pools=pools)


NEWER = replace(NEW, collection=names.collection("uid-move", 2))
FORGED = {
    "what serves is another in the migration's status": (
        forged(proposal(), migration(serving=EVIL), routing(10), routing(50, serving=EVIL)),
        "SidesOther",
    ),
    "the candidate is a pool that nobody asked for": (
        forged(proposal(), migration(candidate=EVIL), routing(10, EVIL), routing(50, EVIL)),
        "CandidateOther",
    ),
    "the candidate is another model by the name of the pool": (
        forged(proposal(), migration(candidate=replace(EVIL, pool="new")), routing(10), routing(50)),
        "CandidateOther",
    ),
    "the candidate is of another attempt": (
        forged(proposal(), migration(candidate=NEWER), routing(10, NEWER), routing(50, NEWER)),
        "CandidateOther",
    ),
    "nothing serves in the migration's status": (
        forged(
            replace(proposal(), kind=Kind.COMPLETE),
            migration(serving=None, spec={"evaluation": None}),
            routing(10),
            Routing(8, NEW),
        ),
        "SidesOther",
    ),
}


@pytest.mark.parametrize(("found", "expected"), FORGED.values(), ids=FORGED.keys())
def test_what_a_status_says_of_the_sides_is_compared_with_the_users_word_and_with_what_serves(
    found: tuple[Proposal, Evidence], expected: str
) -> None:
    assert reason(*found) == expected


def held_by(holder: Holder | None) -> Evidence:
    index = objects().index
    return of(evidence(), index=replace(index, status=replace(index.status, active_migration=holder)))


def gateways(**changes: Any) -> Evidence:
    known = evidence()
    assert known.gateways is not None
    return replace(known, gateways=replace(known.gateways, **changes))


REPORTS = evidence().gateways.reports  # type: ignore[union-attr]
WITHOUT = {
    "objects": (evidence(objects=None), "ObjectsNotRead"),
    "objects of now": (of(evidence(), at=at(-31)), "ObjectsOld"),
    "a migration": (of(evidence(), migration=None), "MigrationMissing"),
    "the index in the migration's hands": (held_by(None), "NotHolder"),
    "the index in its own hands": (held_by(Holder("other", "uid-other")), "NotHolder"),
    "the slot to itself": (evidence(other="d" * 64), "SlotTaken"),
    "somebody's consent": (of(evidence(), forced=True), "ForcedStable"),
    "a look at gateways": (evidence(gateways=None), "NotMeasured"),
    "a fresh look at gateways": (gateways(at=at(-31)), "Stale"),
    "gateways": (gateways(running=(), reports=()), "GatewayMissing"),
    "a gateway's word": (gateways(running=("a", "b", "c")), "GatewaysSilent"),
    "a gateway at the share of now": (
        gateways(reports=(REPORTS[0], replace(REPORTS[1], epoch=6, weight=0))),
        "WaitingForGateways",
    ),
    "a gateway that gives what it was told": (
        gateways(reports=(REPORTS[0], replace(REPORTS[1], weight=0))),
        "GatewaysWithhold",
    ),
    "a hold that was seen": (gateways(followed_since=None), "HoldNotSeen"),
    "a hold that is over": (gateways(followed_since=at(-299)), "Holding"),
    "probes of the candidate": (evidence(pods={"old": pods("old")}), "NotMeasured"),
    "probes of the serving side": (evidence(pods={"new": pods("new")}), "NotMeasured"),
    "fresh probes": (evidence(pods={"old": pods("old"), "new": replace(pods("new"), at=at(-31))}), "Stale"),
    "an answer of every pod": (evidence(pods={"old": pods("old"), "new": replace(pods("new"), answers={})}),
                               "ProbesTooFew"),
    "enough texts": (evidence(pods={"old": pods("old"), "new": pods("new", texts=2)}), "ProbesTooFew"),
    "a second answer": (evidence(pods={"old": pods("old"), "new": pods("new", cosine=None)}), "ProbesTooFew"),
    "an answer that is one": (evidence(pods={"old": pods("old"), "new": pods("new", problem="silent")}), "ProbesFail"),
    "a serving side that answers": (evidence(pods={"old": pods("old", problem="x"), "new": pods("new")}), "ProbesFail"),
    "one vector a text": (evidence(pods={"old": pods("old"), "new": pods("new", cosine=0.998)}), "ProbesDiffer"),
    "a cosine that is a number": (
        evidence(pods={"old": pods("old"), "new": pods("new", cosine=math.nan)}), "ProbesDiffer",
    ),
    "a time": (evidence(pods={"old": pods("old"), "new": pods("new", seconds=None)}), "LatencyNotMeasured"),
    "a quick answer": (evidence(pods={"old": pods("old"), "new": pods("new", seconds=0.5)}), "Latency"),
    "a word on memory": (evidence(pods={"old": pods("old"), "new": pods("new", memory=None)}), "MemoryNotMeasured"),
    "memory to spare": (evidence(pods={"old": pods("old"), "new": pods("new", memory=0.91)}), "MemoryPressure"),
    "a ready pod": (
        of(evidence(), pools={name: replace(one, ready=() if name == "new" else one.ready)
                              for name, one in objects().pools.items()}),
        "NoPods",
    ),
    "the store": (evidence(stored=None), "NotMeasured"),
    "a fresh look at the store": (evidence(stored=replace(stored(), at=at(-31))), "Stale"),
    "the collection": (evidence(stored=replace(stored(), collections=())), "CollectionMissing"),
    "a collection of the model": (evidence(stored=stored(fingerprint="fp-x")), "CollectionOther"),
    "a filled collection": (evidence(stored=stored(shards_done=7)), "CollectionFilling"),
    "an indexed collection": (evidence(stored=stored(state="Withdrawn")), "IndexInvalid"),
    "a valid index": (evidence(stored=stored(valid=False)), "IndexInvalid"),
    "vectors of most documents": (evidence(stored=stored(rejected=20)), "Rejected"),
    "a pointer at what serves": (evidence(stored=stored(NEW)), "PointerInconsistent"),
    "any pointer": (evidence(stored=stored(None)), "PointerInconsistent"),
    "its half of the queries": (evidence(retrieval=None), "NotMeasured"),
    "a half of late": (evidence(retrieval=retrieval(at=at(-1801))), "Stale"),
    "a half in these sides": (evidence(retrieval=retrieval(arms=(NEW, OLD))), "RetrievalNotMeasured"),
    "the whole half": (evidence(retrieval=retrieval(asked=501)), "RetrievalNotMeasured"),
    "enough queries": (evidence(retrieval=retrieval(labelled=99)), "RetrievalTooFewQueries"),
    "proof that little is lost": (evidence(retrieval=retrieval((-0.3, 0.25) * 250)), "RetrievalNotProven"),
    "stored vectors": (evidence(sample=None), "NotMeasured"),
    "enough stored vectors": (evidence(sample=replace(evidence().sample, cosines=(1.0,) * 19)), "SampleTooSmall"),
    "vectors of these texts": (
        evidence(sample=replace(evidence().sample, cosines=(1.0,) * 50 + (0.5,) * 10)), "VectorsNotReproduced",
    ),
    "vectors of the candidate": (evidence(sample=replace(evidence().sample, collection="c_x")), "SampleNotMeasured"),
}  # fmt: skip


@pytest.mark.parametrize(("known", "expected"), WITHOUT.values(), ids=WITHOUT.keys())
def test_without_any_one_of_its_measurements_a_raise_is_rejected(known: Evidence, expected: str) -> None:
    assert reason(proposal(), known) == expected


def test_a_rejection_says_why_it_was_not_measured() -> None:
    failed = {"labelled queries": "agents may not read ConfigMap 'questions'", "the store": "it does not answer"}
    known = replace(evidence(retrieval=None), failed=failed)
    assert judge(proposal(), known, NOON).reasons == (
        "NotMeasured: labelled queries: not measured: agents may not read ConfigMap 'questions'",
    )
    # What was measured in time counts, whatever failed since.
    assert reason(proposal(), replace(evidence(), failed=failed)) == "Measured"


def test_a_ballot_shows_by_which_labels_its_agent_judged() -> None:
    found = judge(proposal(), evidence(retrieval=retrieval(labels="d" * 64)), NOON)
    assert found.evidence["retrieval"]["labels"] == "d" * 64


def test_no_evidence_at_all_is_a_rejection_of_every_kind() -> None:
    asked = proposal()
    assert {kind: judge(replace(asked, kind=kind), Evidence(), NOON).choice for kind in Kind} == dict.fromkeys(
        Kind, Choice.REJECT
    )


def test_every_kind_has_checks() -> None:
    assert all(CHECKS[kind] for kind in Kind)


def test_an_agent_that_began_in_the_middle_of_a_hold_believes_the_certificate_of_the_share() -> None:
    known = gateways(followed_since=at(-20))
    assert reason(proposal(), known) == "Holding"
    assert reason(proposal(), of(known, certified_by=at(-301))) == "Measured"
    assert reason(proposal(), of(known, certified_by=at(-299))) == "Holding"


def test_who_may_approve_cuts_a_hold_short_by_the_annotation_and_a_status_does_not() -> None:
    known = gateways(followed_since=at(-20))
    by_annotation = replace(migration(), asked=(command(Verb.PROMOTE),))
    assert reason(proposal(), of(known, migration=by_annotation)) == "Measured"
    assert reason(proposal(), of(known, migration=migration(promoted="1/Canary/0"))) == "Holding"


def test_the_old_side_is_kept_for_the_whole_retention_and_need_not_live_at_its_end() -> None:
    known = evidence(100)
    assert known.gateways is not None
    early = replace(known, gateways=replace(known.gateways, followed_since=at(-3899)))
    assert reason(proposal(100), early) == "Holding"
    late = replace(known, gateways=replace(known.gateways, followed_since=at(-3900)), pods={"new": pods("new")})
    assert reason(proposal(100), late) == "Measured"


def test_at_the_last_step_promoting_it_cuts_its_hold_and_promoting_what_follows_cuts_both() -> None:
    """The operator waits for the retention alone after the first; agents that waited for more refused for as long."""
    known = evidence(100)
    assert known.gateways is not None
    step = replace(migration(), asked=(command(Verb.PROMOTE, "1/Canary/2"),))
    for seconds, expected in ((-3599, "Holding"), (-3600, "Measured")):
        seen = replace(known, gateways=replace(known.gateways, followed_since=at(seconds)))
        assert reason(proposal(100), of(seen, migration=step)) == expected
    early = replace(known, gateways=replace(known.gateways, followed_since=at(-20)))
    both = replace(migration(), asked=(command(Verb.PROMOTE, "1/Retaining"),))
    assert reason(proposal(100), of(early, migration=both)) == "Measured"


@pytest.mark.parametrize("point", ["1/Canary/2", "1/Retaining"])
def test_the_approval_of_the_last_step_is_given_by_promoting_it_or_what_follows(point: str) -> None:
    steps = (*STEPS[:2], Step(100, timedelta(0), Approval.REQUIRED))
    waiting = migration(spec={"steps": steps})
    assert reason(proposal(100), with_migration(waiting, 100)) == "NotApproved"
    given = replace(waiting, asked=(command(Verb.PROMOTE, point),))
    assert reason(proposal(100), with_migration(given, 100)) == "Measured"


def test_an_old_side_that_died_keeps_nobody_from_the_end() -> None:
    """Each raise was proven while it lived; to ask for more would leave the index without any way."""
    known = evidence(100, pods={"new": pods("new")}, retrieval=retrieval(at=at(-3600)))
    assert reason(proposal(100), known) == "Stale"
    pools = objects(100).pools
    dead = of(known, pools={**pools, "old": replace(pools["old"], ready=())})
    assert reason(proposal(100), dead) == "Measured"
    assert reason(proposal(50, 100), replace(dead, objects=replace(objects(50), pools=pools))) != "Measured"


def test_the_pointer_follows_the_queries_before_the_end() -> None:
    assert reason(proposal(100), evidence(100, stored=stored(OLD))) == "PointerInconsistent"


def test_a_dry_run_of_a_trigger_stops_nothing() -> None:
    dry = Limits(
        latency=Limit(timedelta(0), absolute=timedelta(milliseconds=1), dry_run=True),
        memory=Limit(timedelta(0), share=0.1, dry_run=True),
    )
    assert reason(proposal(), with_migration(migration(spec={"limits": dry}))) == "Measured"


def test_a_small_collection_needs_no_more_vectors_than_it_has() -> None:
    few = replace(evidence().sample, cosines=(1.0,) * 5)
    assert reason(proposal(), evidence(sample=few, stored=stored(written=5))) == "Measured"
    assert reason(proposal(), evidence(sample=replace(few, cosines=()), stored=stored(written=0))) == "SampleTooSmall"


def test_the_first_finding_decides_and_cheap_checks_come_first() -> None:
    known = evidence(gateways=None, stored=None, retrieval=None, pods={})
    assert reason(proposal(terms="u" * 64), known) == "TermsOther"
    assert reason(proposal(), known) == "NotMeasured"


def test_the_evidence_can_be_signed_and_holds_what_was_measured() -> None:
    predicted = Prediction(10, 0.01, math.inf, None, 5.0)
    broken = {"old": pods("old"), "new": pods("new", cosine=math.nan)}
    measured = judge(proposal(), evidence(prediction=predicted, pods=broken), NOON).evidence
    assert all(len(json.dumps(part, allow_nan=False)) < 8192 for part in measured.values())
    assert len(canonical.digest(canonical.EVIDENCE, measured)) == 64
    assert measured["retrieval"]["half"] == "h" * 64
    assert measured["retrieval"]["measured"] == len(DIFFERENCES)


def test_routing_of_these_tests_is_the_index_of_these_tests() -> None:
    assert objects(50).index.status.routing == routing(50)
    assert standing(Kind.MEMORY, {}).before == standing(Kind.MEMORY, {}).after
