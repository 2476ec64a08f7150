"""What a quorum of agents agreed on is met once, compared with what is there now, and carried out from the status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import Verdict, decide
from reembed.core.effects import ApplyJob, SetIndexStatus
from reembed.core.migration import Migration, Seen
from reembed.core.model import Lowered, PanelReport, PointerPlan
from reembed.core.notes import Note
from reembed.core.quorum import acting
from reembed.core.quorum.acted import Act
from reembed.core.quorum.certificates import Certificate, Certified
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.core.quorum.raising import split
from reembed.core.transitions import State
from tests import builders as b
from tests import panels

AGENTS = panels.agents()
UIDS = {"old": "uid-old", "new": "uid-new"}
FILLING = b.migration(State.BACKFILLING, spec={"parallelism": 8})
CANARY = b.migration(State.CANARY)
POD = {"pool": "new", "poolUid": "uid-new", "pod": "new-1"}
POINTER = {"drift": "PointerDrift", "collection": b.OLD.collection, "generation": "9"}


def agreed(kind: Kind, change: dict[str, str], weight: int = 0, epoch: int = 7) -> Certificate:
    """Return the certificate of what an agent proposed of the migration as it is."""
    here = split(b.index(weight).status.routing, UIDS)
    proposal = Proposal(
        kind=kind,
        subject=Subject("rag", "docs", "uid-docs", "move", "uid-move"),
        epoch=epoch,
        before=here,
        after=here,
        terms="",
        expires=b.after(120),
        change=tuple(sorted(change.items())),
    )
    return AGENTS.certificate(proposal)


def world(*found: Certificate, weight: int = 0, **changes: object) -> Seen:
    panel = PanelReport(8, 2, 0, vote_due=False, quorum=True, chain=(Certified(AGENTS.membership),), agreed=found)
    return b.seen(b.index(weight), panel=panel, **changes)


def filling(*found: Certificate) -> Seen:
    return world(*found, store=b.store(b.collection("Filling", shards_done=2)))


def act(kind: Kind, change: dict[str, str], problem: str = "", epoch: int = 7) -> Act:
    """Return what is written down of a certificate made by `agreed`."""
    proposal = agreed(kind, change, epoch=epoch).proposal
    return Act(kind, epoch, proposal.name, b.NOON, 1, "", proposal.change, problem=problem)


def pods_at_once(verdict: Verdict) -> list[int]:
    return [one.job.parallelism for one in verdict.after if isinstance(one, ApplyJob)]


def planned(verdict: Verdict) -> list[PointerPlan | None]:
    return [one.status.plan.pointer for one in verdict.after if isinstance(one, SetIndexStatus)]


def followed(verdict: Verdict, migration: Migration) -> Migration:
    return replace(migration, status=verdict.status)


def test_a_tuning_is_written_down_and_changes_the_pods_that_fill() -> None:
    found = agreed(Kind.TUNING, {"parallelism": "3"})
    verdict = decide(FILLING, filling(found), b.NOON)
    told = f"3 pods may fill the collection at once: Tuning (Decision {found.proposal.name}), on which a quorum"
    assert (verdict.status.executed, pods_at_once(verdict)) == ((act(Kind.TUNING, {"parallelism": "3"}),), [3])
    assert [one for one in verdict.notes if one.reason.startswith("Panel")] == [
        Note("PanelTuning", f"{told} of agents agreed")
    ]
    assert "3 of 8 pods may run, since the panel agreed on that" in verdict.status.message


def test_a_tuning_outlives_its_certificate_and_the_operator() -> None:
    verdict = decide(FILLING, filling(agreed(Kind.TUNING, {"parallelism": "3"})), b.NOON)
    later = decide(followed(verdict, FILLING), filling(), b.after(600))
    assert (later.status.executed, pods_at_once(later)) == (verdict.status.executed, [3])


def test_no_certificate_is_met_twice_and_none_after_a_newer_one() -> None:
    first, second = agreed(Kind.TUNING, {"parallelism": "3"}), agreed(Kind.TUNING, {"parallelism": "5"}, epoch=8)
    verdict = decide(FILLING, filling(first), b.NOON)
    newer = decide(followed(verdict, FILLING), filling(first, second), b.after(1))
    again = decide(followed(newer, FILLING), filling(first, second), b.after(2))
    assert [(one.epoch, one.says["parallelism"]) for one in newer.status.executed] == [(7, "3"), (8, "5")]
    assert (again.status.executed, pods_at_once(again), again.notes) == (newer.status.executed, [5], ())


def test_two_certificates_that_come_together_are_met_in_the_order_of_their_epochs() -> None:
    found = [agreed(Kind.TUNING, {"parallelism": number}, epoch=epoch) for epoch, number in ((8, "5"), (7, "3"))]
    verdict = decide(FILLING, filling(*found), b.NOON)
    assert ([one.epoch for one in verdict.status.executed], pods_at_once(verdict)) == ([7, 8], [5])


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(False, id="of an index that it does not hold"),
        pytest.param(True, id="of a pool whose scaling somebody paused"),
    ],
)
def test_a_pod_is_not_replaced(held: bool) -> None:
    seen, pool = filling(agreed(Kind.RECOVER, POD)), b.pool("new")
    assert seen.index is not None
    if held:
        scaling = replace(pool.spec.scaling, paused=True)
        seen = replace(seen, target=replace(pool, spec=replace(pool.spec, scaling=scaling)))
    else:
        status = replace(seen.index.status, active_migration=None)
        seen = replace(seen, index=replace(seen.index, status=status))
    problem = "the pool's scaling is paused" if held else "the migration does not hold the index"
    assert acting.track(FILLING, seen, b.NOON) == (act(Kind.RECOVER, POD, problem),)


def test_a_tuning_ends_with_the_attempt_and_with_what_the_user_asked_for() -> None:
    tuned = replace(FILLING, status=replace(FILLING.status, executed=(act(Kind.TUNING, {"parallelism": "3"}),)))
    lower = replace(tuned, spec=replace(tuned.spec, parallelism=2))
    others = (replace(tuned, status=replace(tuned.status, attempt=2)), replace(tuned, terms="other"), lower)
    assert [acting.most(one) for one in (tuned, *others)] == [3, 8, 8, 2]


@pytest.mark.parametrize("parallelism", ["", "x", "-1", "\u0663", "99"])
def test_a_number_that_somebody_wrote_by_hand_is_none(parallelism: str) -> None:
    kept = act(Kind.TUNING, {"parallelism": parallelism})
    assert acting.most(replace(FILLING, status=replace(FILLING.status, executed=(kept,)))) == 8


def test_a_tuned_backfill_that_yields_comes_back_to_what_was_tuned() -> None:
    lowered = replace(FILLING.status, lowered=Lowered(2, "store", b.NOON), executed=(
        act(Kind.TUNING, {"parallelism": "3"}),
    ))  # fmt: skip
    calm = world(store=b.store(b.collection("Filling", shards_done=2, requests=4.0)))
    verdict = decide(replace(FILLING, status=lowered), calm, b.after(120))
    assert (verdict.status.lowered, pods_at_once(verdict)) == (None, [3])


REFUSED = {
    "more pods than the user allows": (Kind.TUNING, {"parallelism": "9"}, FILLING, "'9' pods at once, and the"),
    "no number of pods": (Kind.TUNING, {"parallelism": "0"}, FILLING, "'0' pods at once, and the"),
    "a number of nothing": (Kind.TUNING, {"parallelism": "\u0663"}, FILLING, "'\u0663' pods at once"),
    "pods of no backfill": (Kind.TUNING, {"parallelism": "3"}, CANARY, "no documents are embedded in Canary"),
    "a pod of another pool": (Kind.RECOVER, POD | {"poolUid": "x"}, CANARY, "pool 'new' is none of the migration's"),
    "no pod": (Kind.RECOVER, {"pool": "new", "poolUid": "uid-new"}, CANARY, "pool 'new' is none of the migration's"),
    "a new beginning": (Kind.RECOVER, {"reason": "Latency"}, CANARY, "pool None is none of the migration's"),
    "a spec": (Kind.CORRECT, {"drift": "ModelDrift"}, CANARY, "'ModelDrift' is corrected by whoever writes the spec"),
    "a gateway that is gone": (Kind.CORRECT, {"drift": "GatewayDrift", "pod": "c"}, CANARY, "gateway pod 'c' is not"),
    "another pointer": (Kind.CORRECT, POINTER | {"collection": "c_x"}, CANARY, "the index's plan does not name 'c_x'"),
    "while somebody paused": (
        Kind.RECOVER, POD, b.migration(State.CANARY, spec={"paused": True}), "the migration is paused",
    ),
    "after the user asked otherwise": (
        Kind.RECOVER, POD, replace(CANARY, terms="other"), "index, migration or what its user asks for changed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "migration", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_done_is_written_down_with_its_reason_and_told_once(
    kind: Kind, change: dict[str, str], migration: Migration, problem: str
) -> None:
    verdict = decide(migration, filling(agreed(kind, change)), b.NOON)
    again = decide(followed(verdict, migration), filling(agreed(kind, change)), b.after(1))
    (met,) = verdict.status.executed
    assert met == act(kind, change, met.problem)
    assert met.problem.startswith(problem)
    assert [one.reason for one in verdict.notes if one.reason.startswith("Panel")] == ["PanelNotExecuted"]
    assert (again.status.executed, [one for one in again.notes if "Panel" in one.reason]) == ((met,), [])


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"before": Split(), "after": Split()}, id="from another routing"),
        pytest.param({"after": split(b.index(50).status.routing, UIDS)}, id="that would move queries"),
        pytest.param({"subject": Subject("rag", "docs", "uid-docs", "move", "uid-x")}, id="of another migration"),
    ],
)
def test_what_is_not_as_it_was_when_agents_voted_is_not_touched(changed: dict[str, object]) -> None:
    proposal = replace(agreed(Kind.TUNING, {"parallelism": "3"}).proposal, **changed)  # type: ignore[arg-type]
    verdict = decide(FILLING, filling(AGENTS.certificate(proposal)), b.NOON)
    assert ([bool(one.problem) for one in verdict.status.executed], pods_at_once(verdict)) == ([True], [8])


def test_a_gateway_that_is_alone_answers_on() -> None:
    says = {"drift": "GatewayDrift", "pod": "a"}
    two, alone = world(agreed(Kind.CORRECT, says, 10), weight=10), b.seen(b.index(10)).gateways[:1]
    one = replace(two, gateways=alone, gateway_pods=("a",))
    found = [decide(CANARY, seen, b.NOON).status.executed[0].problem for seen in (two, one)]
    assert found == ["", "no other gateway answers, and callers would get no answer"]


def test_a_pointer_that_somebody_moved_is_moved_back_from_the_generation_that_was_voted_on() -> None:
    moved = b.store(b.collection(), pointer=PointerPlan("c_x", "fp-x", 9))
    verdict = decide(CANARY, world(agreed(Kind.CORRECT, POINTER, 10), weight=10, store=moved), b.NOON)
    assert verdict.status.executed[0].problem == ""
    assert planned(verdict) == [PointerPlan(b.OLD.collection, b.OLD.fingerprint, 10)]


@pytest.mark.parametrize(
    ("pointer", "plan"),
    [
        pytest.param(PointerPlan("c_x", "fp-x", 12), None, id="it was moved once more"),
        pytest.param(PointerPlan(b.OLD.collection, b.OLD.fingerprint, 10), 10, id="it is done"),
        pytest.param(PointerPlan("c_x", "fp-x", 9), 10, id="it is on its way"),
        pytest.param(None, None, id="there is none"),
    ],
)
def test_a_correction_of_the_pointer_is_made_once(pointer: PointerPlan | None, plan: int | None) -> None:
    found = b.index(10)
    if plan is not None:
        there = replace(found.status.plan, pointer=PointerPlan(b.OLD.collection, b.OLD.fingerprint, plan))
        found = replace(found, status=replace(found.status, plan=there))
    corrected = replace(CANARY, status=replace(CANARY.status, executed=(act(Kind.CORRECT, POINTER),)))
    seen = replace(world(store=b.store(b.collection(), pointer=pointer)), index=found)
    assert acting.pointer(corrected, seen) is None


def test_the_newest_word_of_ten_minutes_names_the_pod_that_is_replaced() -> None:
    other = act(Kind.CORRECT, POD | {"drift": "PodDrift", "pod": "new-2"})
    acts = (
        act(Kind.RECOVER, POD),
        replace(other, at=b.after(60)),
        replace(act(Kind.RECOVER, POD, "no", 9), at=b.after(90)),
    )
    migration, pool = replace(CANARY, status=replace(CANARY.status, executed=acts)), b.pool("new").meta
    later = b.after(60) + timedelta(minutes=10)
    found = [acting.pod(pool, [migration], at) for at in (b.after(90), later)]
    assert found == [acts[1], None]
    assert acting.pod(b.pool("old").meta, [migration], b.after(90)) is None


def test_what_still_holds_is_not_forgotten_for_what_came_later() -> None:
    tuned = act(Kind.TUNING, {"parallelism": "3"})
    others = tuple(act(Kind.RECOVER, POD, "the pool's scaling is paused", epoch) for epoch in range(1, 16))
    full = replace(FILLING, status=replace(FILLING.status, executed=(tuned, *others)))
    verdict = decide(full, filling(agreed(Kind.RECOVER, POD, epoch=20)), b.NOON)
    assert verdict.status.executed == (tuned, *others[1:], act(Kind.RECOVER, POD, epoch=20))
    assert pods_at_once(verdict) == [3]


def test_a_new_attempt_meets_nothing_again() -> None:
    kept = act(Kind.TUNING, {"parallelism": "3"})
    failed = b.migration(State.FAILED, executed=(kept,))
    assert decide(failed, filling(agreed(Kind.TUNING, {"parallelism": "3"})), b.NOON).status.executed == (kept,)
