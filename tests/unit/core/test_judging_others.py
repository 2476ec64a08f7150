"""Proposals that move no queries, and those of the panel itself, need grounds that the agent measured by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reembed.core.load import Load, Reading
from reembed.core.model import Approval, PointerPlan
from reembed.core.quorum.acted import Act
from reembed.core.quorum.certificates import Certified, Choice
from reembed.core.quorum.evidence import Evidence, PanelObject, PodAnswers, Pods
from reembed.core.quorum.judging import judge
from reembed.core.quorum.membership import Membership
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.core.transitions import State
from tests import builders, panels
from tests.builders import NEW, NOON, OLD
from tests.evidence import at, evidence, migration, objects, pods, proposal, retrieval, standing, stored


def reason(asked: Proposal, known: Evidence) -> str:
    return judge(asked, known, NOON).reasons[0].partition(":")[0]


def of(known: Evidence, **changes: Any) -> Evidence:
    assert known.objects is not None
    return replace(known, objects=replace(known.objects, **changes))


LOAD = {"pool": "new", "poolUid": "uid-new", "fingerprint": NEW.fingerprint}
MEMORY = {"pool": "new", "poolUid": "uid-new"}
FULL = {"old": pods("old"), "new": pods("new", memory=0.75)}
# Four pods may fill at once, and two do since the panel agreed on that.
TUNED = Act(Kind.TUNING, 1, "d1", NOON, 1, "", (("parallelism", "2"),))
FILLS = migration(State.BACKFILLING, spec={"parallelism": 4}, executed=(TUNED,))


def filling(*queues: float | None, memory: float = 0.5) -> Evidence:
    """Return what is known of a backfill whose pool's pods have so much waiting, of 16,384 tokens at most."""
    load = Load(readings={f"new-{number}": Reading(queue=one) for number, one in enumerate(queues, 1)})
    found = replace(pods("new", memory=memory), load=load)
    return of(replace(evidence(), pods={"new": found}), migration=FILLS)


def unwell(*problems: str) -> Evidence:
    """Return what is known of a pool with so many ready pods, each with what was wrong with its answers."""
    names = tuple(f"new-{number}" for number in range(1, len(problems) + 1))
    answers = pods("new").answers["new-1"]
    found = Pods(NOON, {
        name: replace(answers, problem=problem)
        for name, problem in zip(names, problems, strict=True)
    })  # fmt: skip
    known = objects()
    pools = {**known.pools, "new": replace(known.pools["new"], ready=names)}
    return evidence(objects=replace(known, pools=pools), pods={"old": pods("old"), "new": found})


SICK = {"pool": "new", "poolUid": "uid-new", "pod": "new-1"}
MOVED = evidence(stored=replace(stored(), pointer=PointerPlan("c_x", "fp-x", 9)))
POINTED = {"drift": "PointerDrift", "collection": OLD.collection, "generation": "9"}
LOST = retrieval((-0.1,) * 400 + (0.0,) * 100)
CASES: dict[str, tuple[Proposal, Evidence, str]] = {
    "the migration's own model": (standing(Kind.LOAD_MODEL, LOAD), evidence(), "Measured"),
    "another model": (standing(Kind.LOAD_MODEL, LOAD | {"fingerprint": "fp-x"}), evidence(), "PoolOther"),
    "another pool": (standing(Kind.LOAD_MODEL, LOAD | {"poolUid": "uid-x"}), evidence(), "PoolOther"),
    "a model whose pool is gone": (standing(Kind.LOAD_MODEL, LOAD), of(evidence(), pools={}), "BeforeOther"),
    "a model for who is paused": (
        standing(Kind.LOAD_MODEL, LOAD), of(evidence(), migration=migration(paused=True)), "Paused",
    ),
    "queries moved by the way": (
        replace(standing(Kind.LOAD_MODEL, LOAD), after=proposal().after), evidence(), "MovesQueries",
    ),
    "careful limits for who is short of memory": (standing(Kind.MEMORY, MEMORY), evidence(pods=FULL), "Measured"),
    "careful limits for who has room": (standing(Kind.MEMORY, MEMORY), evidence(), "MemoryCalm"),
    "careful limits for nobody": (standing(Kind.MEMORY, {"pool": "x"}), evidence(), "PoolMissing"),
    "careful limits unmeasured": (standing(Kind.MEMORY, MEMORY), evidence(pods={}), "NotMeasured"),
    "careful limits for who does not say": (
        standing(Kind.MEMORY, MEMORY), evidence(pods={"new": pods("new", memory=None)}), "MemoryNotMeasured",
    ),
    "more pods that fill": (standing(Kind.TUNING, {"parallelism": "4"}), filling(100.0, 0.0), "Measured"),
    "more pods for a pool that does not follow": (
        standing(Kind.TUNING, {"parallelism": "4"}), filling(100.0, 20_000.0), "QueueLong",
    ),
    "more pods than the user allows": (
        standing(Kind.TUNING, {"parallelism": "5"}), filling(0.0), "ParallelismInvalid",
    ),
    "no number of pods": (standing(Kind.TUNING, {"parallelism": "-1"}), filling(0.0), "ParallelismInvalid"),
    "a number of nothing": (standing(Kind.TUNING, {"parallelism": "\u0663"}), filling(0.0), "ParallelismInvalid"),
    "as many pods as there are": (standing(Kind.TUNING, {"parallelism": "2"}), filling(0.0), "NothingTuned"),
    "pods of no backfill": (standing(Kind.TUNING, {"parallelism": "1"}), evidence(), "NotBackfilling"),
    "more pods without memory": (
        standing(Kind.TUNING, {"parallelism": "4"}), filling(0.0, memory=0.95), "MemoryPressure",
    ),
    "fewer pods for a pool that does not follow": (
        standing(Kind.TUNING, {"parallelism": "1"}), filling(20_000.0, 17_000.0), "Measured",
    ),
    "fewer pods for no reason": (
        standing(Kind.TUNING, {"parallelism": "1"}), filling(20_000.0, 16_384.0), "QueueShort",
    ),
    "fewer pods for want of memory": (
        standing(Kind.TUNING, {"parallelism": "1"}), filling(0.0, memory=0.95), "Measured",
    ),
    "fewer pods without a look": (
        standing(Kind.TUNING, {"parallelism": "1"}), replace(filling(0.0), pods={}), "NotMeasured",
    ),
    "fewer pods, and nobody says what waits": (
        standing(Kind.TUNING, {"parallelism": "1"}), filling(None), "QueueNotMeasured",
    ),
    "another pod for one that gives no answer": (
        standing(Kind.RECOVER, SICK), unwell("no answer", ""), "Measured",
    ),
    "another pod for the only one, which may have too much to do": (
        standing(Kind.RECOVER, SICK), unwell("no answer"), "NotThePod",
    ),
    "another pod for the only one, which gives other vectors": (
        standing(Kind.RECOVER, SICK), evidence(pods={"new": pods("new", cosine=0.9)}), "Measured",
    ),
    "another pod for one that gives other vectors": (
        standing(Kind.RECOVER, SICK),
        replace(unwell("", ""), pods={"new": Pods(NOON, {
            **unwell("", "").pods["new"].answers, "new-1": PodAnswers(texts=5, cosine=0.9),
        })}),
        "Measured",
    ),
    "another pod for one that is well": (standing(Kind.RECOVER, SICK), unwell("", "no answer"), "PodWell"),
    "another pod for one that is busy": (standing(Kind.RECOVER, SICK), unwell("busy: full", ""), "NotThePod"),
    "another pod where none is well": (standing(Kind.RECOVER, SICK), unwell("lost", "lost"), "NotThePod"),
    "another pod for one with another model": (
        standing(Kind.RECOVER, SICK), unwell("another fingerprint", ""), "NotThePod",
    ),
    "another pod for one that was not asked enough": (
        standing(Kind.RECOVER, SICK), replace(unwell("", ""), pods={"new": Pods(NOON, {})}), "ProbesTooFew",
    ),
    "another pod for one that is gone": (
        standing(Kind.RECOVER, SICK | {"pod": "new-9"}), unwell("no answer", ""), "PodMissing",
    ),
    "another pod of another pool": (
        standing(Kind.RECOVER, SICK | {"poolUid": "uid-x"}), unwell("no answer", ""), "PoolOther",
    ),
    "another pod of no pool": (standing(Kind.RECOVER, {"pod": "new-1"}), unwell("no answer", ""), "PoolMissing"),
    "another pod without a look": (
        standing(Kind.RECOVER, SICK), replace(unwell("no answer"), pods={}), "NotMeasured",
    ),
    "a new beginning": (standing(Kind.RECOVER, {"reason": "Latency"}), evidence(), "NotRecoverable"),
    "a way back from a loss that is certain": (
        standing(Kind.ROLLBACK, {"reason": "RetrievalInferior"}), evidence(retrieval=LOST), "Measured",
    ),
    "a way back from what is only not proven": (
        standing(Kind.ROLLBACK, {"reason": "RetrievalInferior"}),
        evidence(retrieval=retrieval((-0.3, 0.25) * 250)), "NoGrounds",
    ),
    "a way back from a good model": (
        standing(Kind.ROLLBACK, {"reason": "RetrievalInferior"}), evidence(), "NoGrounds",
    ),
    "a way back without a look": (
        standing(Kind.ROLLBACK, {"reason": "RetrievalInferior"}), evidence(retrieval=None), "NoGrounds",
    ),
    "a way back from dead pods": (
        standing(Kind.ROLLBACK, {"reason": "ProbesFail"}),
        evidence(pods={"new": pods("new", problem="silent")}), "Measured",
    ),
    "a way back for no known reason": (standing(Kind.ROLLBACK, {"reason": "Mood"}), evidence(), "ReasonUnknown"),
    "a way back from no share": (
        standing(Kind.ROLLBACK, {"reason": "RetrievalInferior"}, 0), evidence(0, retrieval=LOST), "NoTraffic",
    ),
    "a way back without queries": (
        standing(Kind.ROLLBACK, {"reason": "Latency"}),
        of(evidence(), migration=migration(State.EVALUATING)), "NoTraffic",
    ),
    "the correction of a drift": (standing(Kind.CORRECT, POINTED), MOVED, "Measured"),
    "a correction of nothing": (standing(Kind.CORRECT, POINTED), evidence(), "NoDrift"),
    "a correction of another pointer": (standing(Kind.CORRECT, POINTED | {"generation": "8"}), MOVED, "DriftOther"),
    "a correction of something besides": (standing(Kind.CORRECT, POINTED | {"pod": "a"}), MOVED, "DriftOther"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "known", "expected"), CASES.values(), ids=CASES.keys())
def test_what_moves_no_queries_needs_grounds_of_its_own(asked: Proposal, known: Evidence, expected: str) -> None:
    assert reason(asked, known) == expected


GATEWAY = replace(OLD, collection="c_x")


def astray(gateways: int) -> Evidence:
    """Return what is known of so many gateways, of which the first one serves what nobody named."""
    known = evidence()
    assert known.gateways is not None
    first, *others = known.gateways.reports[:gateways]
    return replace(known, gateways=replace(known.gateways, reports=(replace(first, serving=GATEWAY), *others)))


def test_a_vote_tells_what_was_measured_of_the_pool_that_it_is_about() -> None:
    asked = replace(standing(Kind.TUNING, {"parallelism": "4"}), before=Split(), after=Split())
    told = judge(asked, filling(100.0, 7.0), NOON).evidence["pools"]
    assert told == {
        "new": {
            "pods": 1,
            "texts": 5,
            "age": 0,
            "cosine": 0.9999,
            "seconds": 0.01,
            "memory": 0.5,
            "queue": 100.0,
        }
    }


DRIFTS: dict[str, tuple[Evidence, dict[str, str], str]] = {
    "a pool with another model": (
        of(evidence(), pools={name: replace(one, fingerprint="fp-x") for name, one in objects().pools.items()}),
        {"drift": "ModelDrift"}, "DriftOfSpec",
    ),
    "a pool that is gone": (
        of(evidence(), pools={"old": objects().pools["old"]}), {"drift": "PoolMissing"}, "DriftOfSpec",
    ),
    "a pod with another model": (
        evidence(pods={"new": pods("new", problem="FingerprintMismatch: another fingerprint")}),
        SICK | {"drift": "PodDrift"}, "Measured",
    ),
    "a gateway that serves what nobody named": (astray(2), {"drift": "GatewayDrift", "pod": "a"}, "Measured"),
    "another gateway": (astray(2), {"drift": "GatewayDrift", "pod": "b"}, "DriftOther"),
    "a gateway that is alone": (astray(1), {"drift": "GatewayDrift", "pod": "a"}, "GatewayAlone"),
}  # fmt: skip


@pytest.mark.parametrize(("known", "change", "expected"), DRIFTS.values(), ids=DRIFTS.keys())
def test_a_drift_is_found_by_the_agents_own_look_and_its_object_named(
    known: Evidence, change: dict[str, str], expected: str
) -> None:
    here = standing(Kind.CORRECT, change)
    if change["drift"] == "PoolMissing":
        here = replace(here, before=split_of(known), after=split_of(known))
    assert reason(here, known) == expected


def split_of(known: Evidence) -> Split:
    from reembed.core.quorum import raising  # noqa: PLC0415

    assert known.objects is not None
    uids = {name: one.meta.uid for name, one in known.objects.pools.items()}
    return raising.split(known.objects.index.status.routing, uids)


def test_a_pointer_that_is_one_move_behind_is_on_its_way() -> None:
    behind = evidence(stored=replace(stored(), pointer=PointerPlan("c_x", "fp-x", 0)))
    assert reason(standing(Kind.CORRECT, POINTED), behind) == "NoDrift"


EIGHT = panels.agents()


def wished(changed: int, **changes: Any) -> Membership:
    """Return the eight with other keys for so many of them."""
    other = {member.name: member for member in panels.agents(generation=1).membership.members}
    members = tuple(
        other[member.name] if place < changed else member for place, member in enumerate(EIGHT.membership.members)
    )
    return replace(Membership(2, 2, members), **changes)


def panel(found: Membership) -> Evidence:
    meta = replace(builders.meta("panel"), namespace="reembed-panel")
    return Evidence(panel=PanelObject(NOON, meta, found, (Certified(EIGHT.membership),)))


def members(found: Membership, **changes: Any) -> Proposal:
    change = (("after", found.digest), ("before", EIGHT.membership.digest))
    asked = replace(
        proposal(),
        kind=Kind.MEMBERSHIP,
        subject=Subject("reembed-panel", "panel", "uid-panel"),
        epoch=2,
        before=Split(),
        after=Split(),
        change=change,
    )
    return replace(asked, **changes)


MEMBERS = {
    "two new keys": (members(wished(2)), panel(wished(2)), "Measured"),
    "three new keys at once": (members(wished(3)), panel(wished(3)), "TooManyChange"),
    "members that nobody wishes for": (members(wished(1)), panel(wished(2)), "MembersOther"),
    "a version that is not the next": (members(wished(2), epoch=3), panel(wished(2)), "EpochConsumed"),
    "too few for the faulty": (
        members(wished(0, members=EIGHT.membership.members[:6])),
        panel(wished(0, members=EIGHT.membership.members[:6])),
        "MembersUnsound",
    ),
    "a seat less": (
        members(wished(0, members=EIGHT.membership.members[:7])),
        panel(wished(0, members=EIGHT.membership.members[:7])),
        "Measured",
    ),
    "of another panel": (
        members(wished(2), subject=Subject("x", "panel", "uid-x")),
        panel(wished(2)),
        "PanelOther",
    ),
    "with queries by the way": (members(wished(2), after=proposal().after), panel(wished(2)), "PanelOther"),
    "of a Panel that was not read": (members(wished(2)), Evidence(), "NotMeasured"),
    "of a Panel read long ago": (
        members(wished(2)),
        Evidence(panel=replace(panel(wished(2)).panel, at=at(-31))),
        "Stale",
    ),
    "of a Panel without members": (
        members(wished(2)),
        Evidence(panel=replace(panel(wished(2)).panel, chain=())),
        "PanelEmpty",
    ),
}


@pytest.mark.parametrize(("asked", "known", "expected"), MEMBERS.values(), ids=MEMBERS.keys())
def test_members_are_those_of_the_panels_spec_and_few_change_at_once(
    asked: Proposal, known: Evidence, expected: str
) -> None:
    assert reason(asked, known) == expected


def test_an_approval_says_that_everything_was_measured() -> None:
    assert judge(members(wished(1)), panel(wished(1)), NOON).choice is Choice.APPROVE


# A good proposal of every kind with the evidence that it needs; below it loses one thing that all of its kind need.
GOOD: dict[Kind, tuple[Proposal, Evidence]] = {
    Kind.TRAFFIC: (proposal(), evidence()),
    Kind.COMPLETE: (proposal(100), evidence(100)),
    Kind.LOAD_MODEL: CASES["the migration's own model"][:2],
    Kind.MEMORY: CASES["careful limits for who is short of memory"][:2],
    Kind.TUNING: CASES["more pods that fill"][:2],
    Kind.RECOVER: CASES["another pod for one that gives no answer"][:2],
    Kind.ROLLBACK: CASES["a way back from a loss that is certain"][:2],
    Kind.CORRECT: CASES["the correction of a drift"][:2],
    Kind.MEMBERSHIP: MEMBERS["two new keys"][:2],
}
ROUTING = frozenset({Kind.TRAFFIC, Kind.COMPLETE})
OF_INDEX = frozenset(Kind) - {Kind.MEMBERSHIP}
HOLDER = ROUTING | {Kind.TUNING, Kind.ROLLBACK, Kind.RECOVER, Kind.CORRECT}
STOPPABLE = ROUTING | {Kind.LOAD_MODEL, Kind.TUNING, Kind.RECOVER, Kind.CORRECT}


def without_holder(known: Evidence) -> Evidence:
    assert known.objects is not None
    index = known.objects.index
    return of(known, index=replace(index, status=replace(index.status, active_migration=None)))


def with_gateways(known: Evidence, **changes: Any) -> Evidence:
    assert known.gateways is not None
    return replace(known, gateways=replace(known.gateways, **changes))


def paused(known: Evidence) -> Evidence:
    assert known.objects is not None
    assert known.objects.migration is not None
    found = known.objects.migration
    return of(known, migration=replace(found, spec=replace(found.spec, paused=True)))


def approval_asked(known: Evidence) -> Evidence:
    assert known.objects is not None
    assert known.objects.migration is not None
    found = known.objects.migration
    steps = tuple(replace(one, approval=Approval.REQUIRED) for one in found.spec.steps)
    return of(known, migration=replace(found, spec=replace(found.spec, steps=steps)))


def candidate(known: Evidence, **changes: Any) -> Evidence:
    return replace(known, pods={"old": pods("old"), "new": pods("new", **changes)})


BREAKS: dict[str, tuple[Any, str, frozenset[Kind]]] = {
    "its time is over": (lambda p, k: (replace(p, expires=at(-31)), k), "Expired", frozenset(Kind)),
    "another was in its slot": (lambda p, k: (p, replace(k, other="d" * 64)), "SlotTaken", frozenset(Kind)),
    "objects unread": (lambda p, k: (p, replace(k, objects=None)), "ObjectsNotRead", OF_INDEX),
    "of another index": (
        lambda p, k: (replace(p, subject=replace(p.subject, uid="uid-x")), k), "IndexOther", OF_INDEX,
    ),
    "of other terms": (lambda p, k: (replace(p, terms="u" * 64), k), "TermsOther", OF_INDEX),
    "from elsewhere": (
        lambda p, k: (replace(p, before=replace(p.before, epoch=1), after=replace(p.after, epoch=1)), k),
        "BeforeOther", OF_INDEX,
    ),
    "counted far ahead": (
        lambda p, k: (replace(p, epoch=int(at(601).timestamp())), k), "EpochTooFar", OF_INDEX - ROUTING,
    ),
    "with queries by the way": (
        lambda p, k: (replace(p, after=replace(p.after, weight=99)), k), "MovesQueries", OF_INDEX - ROUTING,
    ),
    "of an index that nobody holds": (lambda p, k: (p, without_holder(k)), "NotHolder", HOLDER),
    "of a migration that is paused": (lambda p, k: (p, paused(k)), "Paused", STOPPABLE),
    "with an old epoch": (
        lambda p, k: (replace(p, epoch=7, after=replace(p.after, epoch=7)), k), "EpochConsumed", ROUTING,
    ),
    "unapproved": (lambda p, k: (p, approval_asked(k)), "NotApproved", ROUTING),
    "gateways unseen": (lambda p, k: (p, replace(k, gateways=None)), "NotMeasured", ROUTING),
    "a gateway that is late": (
        lambda p, k: (p, with_gateways(k, running=("a", "b", "c"))), "GatewaysSilent", ROUTING,
    ),
    "a hold unseen": (lambda p, k: (p, with_gateways(k, followed_since=None)), "HoldNotSeen", ROUTING),
    "a dead candidate": (lambda p, k: (p, candidate(k, problem="silent")), "ProbesFail", ROUTING),
    "a slow candidate": (lambda p, k: (p, candidate(k, seconds=9.0)), "Latency", ROUTING),
    "a full candidate": (lambda p, k: (p, candidate(k, memory=0.95)), "MemoryPressure", ROUTING),
    "a store unseen": (lambda p, k: (p, replace(k, stored=None)), "NotMeasured", ROUTING),
    "a loss": (lambda p, k: (p, replace(k, retrieval=LOST)), "RetrievalNotProven", ROUTING),
    "vectors unseen": (lambda p, k: (p, replace(k, sample=None)), "NotMeasured", ROUTING),
}  # fmt: skip


@pytest.mark.parametrize("kind", Kind, ids=[kind.value for kind in Kind])
def test_a_good_proposal_of_each_kind_is_approved(kind: Kind) -> None:
    assert reason(*GOOD[kind]) == "Measured"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for name, (_, _, kinds) in BREAKS.items() for kind in sorted(kinds, key=lambda kind: kind.value)],
    ids=lambda one: one.value if isinstance(one, Kind) else one,
)
def test_what_every_proposal_of_a_kind_needs_it_is_rejected_without(kind: Kind, name: str) -> None:
    breaks, expected, _ = BREAKS[name]
    assert reason(*breaks(*GOOD[kind])) == expected


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind in STOPPABLE - ROUTING], ids=lambda kind: kind.value)
def test_who_takes_queries_back_by_hand_stops_what_goes_on(kind: Kind) -> None:
    asked, known = GOOD[kind]
    assert reason(asked, of(known, forced=True)) == "ForcedStable"
