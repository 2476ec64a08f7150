"""Where a panel decides, the operator asks before each raise, executes what is certified, and lowers by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reembed import signing
from reembed.core.decide import Verdict, decide
from reembed.core.effects import Propose, ProtectPools, SetIndexStatus
from reembed.core.migration import Migration, Seen, SeenIndex
from reembed.core.model import Consensus, Decides, Holder, PanelRef, PanelReport, PointerPlan, RefusedRaise, Routing
from reembed.core.quorum.certificates import Certificate, Certified, Choice
from reembed.core.quorum.counting import Cast, Standing, count
from reembed.core.quorum.proposals import ROUTING, Kind, Proposal
from reembed.core.transitions import State
from tests import builders as b
from tests import panels

AGENTS = panels.agents()
CHAIN = (Certified(AGENTS.membership),)
REF = PanelRef("reembed-panel", "panel", AGENTS.membership.digest)


def watched(weight: int = 0, **changes: object) -> SeenIndex:
    """Return the index with a panel."""
    found = b.index(weight, **changes)
    return replace(found, spec=replace(found.spec, panel=REF))


def world(found: SeenIndex | None = None, **panel: object) -> Seen:
    report = PanelReport(8, 2, 0, vote_due=False, quorum=True, chain=CHAIN)
    return b.seen(found or watched(), panel=replace(report, **panel))  # type: ignore[arg-type]


def asked_for(verdict: Verdict) -> Proposal | None:
    found = [effect.proposal for effect in verdict.after if isinstance(effect, Propose)]
    return found[0] if found else None


def routed(verdict: Verdict) -> Routing | None:
    found = [one.status.routing for one in (*verdict.before, *verdict.after) if isinstance(one, SetIndexStatus)]
    return found[0] if found else None


def voted(
    migration: Migration, verdict: Verdict, now: datetime, approving: int = 6, refusing: int = 0
) -> tuple[Migration, PanelReport]:
    """Return the migration after a pass, and the panel after so many votes for what it proposed and against it."""
    proposal = asked_for(verdict)
    assert proposal is not None
    names = AGENTS.names
    casts = [Cast(proposal.digest, Choice.APPROVE, AGENTS.vote(name, proposal)) for name in names[:approving]]
    casts += [
        Cast(proposal.digest, Choice.REJECT, AGENTS.vote(name, proposal, Choice.REJECT), ("ProbesFail: 2 of 5 failed",))
        for name in names[approving : approving + refusing]
    ]
    found = count(proposal, casts, CHAIN, now, signing.verify)
    report = PanelReport(
        8, 2, 0, vote_due=True, quorum=True, chain=CHAIN, count=found, newest={ROUTING: proposal.epoch}
    )
    return replace(migration, status=verdict.status), report


CANARY = b.migration(State.CANARY)


def test_a_raise_is_proposed_and_not_written() -> None:
    verdict = decide(CANARY, world(), b.NOON)
    proposal = asked_for(verdict)
    assert proposal is not None
    assert (proposal.kind, proposal.before.weight, proposal.after.weight, proposal.epoch) == (Kind.TRAFFIC, 0, 10, 4)
    assert (proposal.subject.uid, proposal.subject.migration_uid) == ("uid-docs", "uid-move")
    assert (routed(verdict), verdict.status.reason) == (None, "AwaitingPanel")


def test_a_certified_raise_is_written_with_its_certificate() -> None:
    first = decide(CANARY, world(), b.NOON)
    migration, panel = voted(CANARY, first, b.NOON)
    verdict = decide(migration, replace(world(), panel=panel), b.after(1))
    found = routed(verdict)
    assert found is not None
    assert found.certificate is not None
    assert (found.weight, found.epoch, found.certificate.proposal) == (10, 4, asked_for(first))
    assert len(found.certificate.votes) == 6


@pytest.mark.parametrize(
    ("approving", "refusing", "seconds", "standing", "reason"),
    [
        pytest.param(5, 0, 1, Standing.OPEN, "AwaitingPanel", id="five of six"),
        pytest.param(5, 2, 1, Standing.OPEN, "AwaitingPanel", id="two refuse"),
        pytest.param(5, 3, 1, Standing.REFUSED, "PanelRefused", id="three refuse"),
        pytest.param(5, 0, 121, Standing.EXPIRED, "NoQuorum", id="no quorum in time"),
    ],
)
def test_without_a_certificate_nothing_is_raised(
    approving: int, refusing: int, seconds: float, standing: Standing, reason: str
) -> None:
    now = b.after(seconds)
    migration, panel = voted(CANARY, decide(CANARY, world(), b.NOON), now, approving, refusing)
    verdict = decide(migration, replace(world(), panel=panel), now)
    asked = verdict.status.asked
    assert asked is not None
    assert (asked.standing, verdict.status.reason, routed(verdict)) == (standing, reason, None)


def test_what_was_refused_is_asked_again_in_another_slot_after_a_while() -> None:
    first = decide(CANARY, world(), b.NOON)
    migration, panel = voted(CANARY, first, b.NOON, 5, 3)
    refused = decide(migration, replace(world(), panel=panel), b.after(1))
    assert asked_for(refused) is None
    later = decide(replace(migration, status=refused.status), replace(world(), panel=panel), b.after(40))
    again, before = asked_for(later), asked_for(first)
    assert again is not None
    assert before is not None
    assert (again.epoch, again.after.weight, again.slot != before.slot) == (5, 10, True)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"terms": "1" * 64}, id="other terms"),
        pytest.param({"meta": replace(b.meta("move"), uid="uid-other")}, id="another migration"),
    ],
)
def test_votes_for_something_else_raise_nothing(changed: dict[str, object]) -> None:
    migration, panel = voted(CANARY, decide(CANARY, world(), b.NOON), b.NOON)
    index = watched()
    if "meta" in changed:
        index = watched(active_migration=replace(index.status.active_migration, uid="uid-other"))  # type: ignore[type-var]
    verdict = decide(replace(migration, **changed), replace(world(index), panel=panel), b.after(1))  # type: ignore[arg-type]
    assert routed(verdict) is None
    assert asked_for(verdict) not in {None, asked_for(decide(CANARY, world(), b.NOON))}


def test_a_lowering_needs_nobody_and_consumes_what_is_still_before_the_panel() -> None:
    """Else a certificate that comes late would raise again what was just taken back."""
    routing = replace(watched(10).status.routing, certificate=AGENTS.certificate(panels.raising(0, 10)))
    aborting = b.migration(State.ROLLING_BACK)
    verdict = decide(aborting, world(watched(10, routing=routing), newest={ROUTING: 9}), b.NOON)
    found = routed(verdict)
    assert found is not None
    assert (found.weight, found.epoch, found.certificate) == (0, 10, None)


def test_a_raise_that_gateways_refuse_is_taken_back_and_asked_for_anew() -> None:
    """Its certificate expired, say, before they could note in the store that they accepted it."""
    routing = replace(watched(50).status.routing, certificate=AGENTS.certificate(panels.raising(10, 50)))
    seen = world(watched(50, routing=routing))
    refused = RefusedRaise(routing.epoch, "CertificateExpired", "it was to be used until noon")
    late = [replace(one, epoch=routing.epoch - 1, weight=10, refused=refused) for one in seen.gateways]
    second = b.migration(State.CANARY, step=1)
    verdict = decide(second, replace(seen, gateways=tuple(late)), b.NOON)
    found = routed(verdict)
    assert found is not None
    assert (found.weight, found.epoch, found.certificate) == (10, routing.epoch + 1, None)

    told = replace(seen.index, status=replace(watched().status, routing=found))  # type: ignore[type-var]
    again = decide(replace(second, status=verdict.status), world(told), b.after(5))
    proposal = asked_for(again)
    assert proposal is not None
    assert (proposal.before.weight, proposal.after.weight) == (10, 50)


def test_what_gateways_refuse_is_taken_back_though_a_raise_is_due() -> None:
    """Somebody who has the operator's account wrote another serving side; agents would refuse whatever begins there."""
    routing = replace(watched().status.routing, serving=b.NEW, candidate=b.NEW)
    seen = world(watched(routing=routing))
    refused = RefusedRaise(routing.epoch, "CertificateMissing", "nobody has certified it")
    sides = {"serving": b.OLD, "candidate": b.NEW, "weight": 10}
    held = [replace(one, epoch=routing.epoch - 1, refused=refused, **sides) for one in seen.gateways]
    found = routed(decide(b.migration(State.CANARY, step=1), replace(seen, gateways=tuple(held)), b.NOON))
    assert found is not None
    assert (found.serving, found.weight, found.epoch, found.certificate) == (b.OLD, 10, routing.epoch + 1, None)


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.UNWINDING])
def test_what_is_taken_back_goes_at_once_though_gateways_refuse_what_the_index_says(state: State) -> None:
    """No vote is waited for, and no share is written again that is to end."""
    routing = replace(watched().status.routing, serving=b.NEW, candidate=None)
    seen = world(watched(routing=routing))
    refused = RefusedRaise(routing.epoch, "CertificateMissing", "nobody has certified it")
    sides = {"serving": b.OLD, "candidate": b.NEW, "weight": 100}
    held = [replace(one, epoch=routing.epoch - 1, refused=refused, **sides) for one in seen.gateways]
    found = routed(decide(b.migration(state), replace(seen, gateways=tuple(held)), b.NOON))
    assert found is not None
    assert (found.serving, found.weight, found.epoch, found.certificate) == (b.OLD, 0, routing.epoch + 1, None)


def test_one_that_has_ended_takes_no_share_from_another_s_candidate() -> None:
    index = watched(50)
    held = replace(index, status=replace(index.status, active_migration=Holder("next", "uid-next")))
    seen = world(held)
    refused = RefusedRaise(held.status.routing.epoch, "CertificateExpired", "it was to be used until noon")
    late = [replace(one, epoch=held.status.routing.epoch - 1, weight=10, refused=refused) for one in seen.gateways]
    verdict = decide(b.migration(State.ROLLED_BACK), replace(seen, gateways=tuple(late)), b.NOON)
    found = routed(verdict)
    assert found is None or found == held.status.routing


def test_the_way_back_ends_only_by_certificate() -> None:
    pointer = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)
    index = watched(100)
    index = replace(index, status=replace(index.status, plan=replace(index.status.plan, pointer=pointer)))
    ended = b.migration(State.RETAINING, acknowledged_at=b.NOON - timedelta(hours=2), weight=100)
    seen = replace(world(index), store=b.store(b.collection(), pointer=pointer))
    first = decide(ended, seen, b.NOON)
    proposal = asked_for(first)
    assert proposal is not None
    assert (first.status.state, first.status.reason, proposal.kind) == (State.RETAINING, "AwaitingPanel", Kind.COMPLETE)

    migration, panel = voted(ended, first, b.NOON)
    verdict = decide(migration, replace(seen, panel=panel), b.after(1))
    found = routed(verdict)
    assert verdict.status.state is State.PROMOTING
    assert found is not None
    assert found.certificate is not None
    assert (found.serving, found.candidate, found.certificate.proposal) == (b.NEW, None, proposal)


def test_what_the_panel_never_agreed_to_is_taken_back_when_it_is_deleted() -> None:
    """A promotion is waited for even if it is deleted; this one would be waited for until the panel agrees."""
    verdict = decide(b.migration(State.PROMOTING, deleting=True), world(watched(100)), b.NOON)
    found = routed(verdict)
    assert found is not None
    assert (verdict.status.state, verdict.status.reason, found.weight) == (State.FAILED, "Deleted", 0)


def test_agents_that_are_gone_take_nothing_back_that_has_no_traffic() -> None:
    gone = world(gone=3, vote_due=True, quorum=False)
    verdict = decide(CANARY, gone, b.NOON)
    for seconds in range(2, 200, 2):
        verdict = decide(replace(CANARY, status=verdict.status), gone, b.after(seconds))
    assert verdict.status.state is State.CANARY


def test_without_a_quorum_in_time_traffic_goes_back() -> None:
    silent = world(watched(10), vote_due=True, quorum=False)
    verdict = decide(CANARY, silent, b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.ROLLING_BACK, "NoQuorum")


@pytest.mark.parametrize(
    ("found", "panel", "consensus", "reason", "state"),
    [
        pytest.param(watched(), None, Consensus(), "PanelMissing", State.PREFLIGHT, id="no panel"),
        pytest.param(watched(), (), Consensus(), "PanelForeign", State.PREFLIGHT, id="other members"),
        pytest.param(b.index(), None, Consensus(Decides.PANEL), "PanelMissing", State.FAILED, id="none named"),
        pytest.param(watched(), CHAIN, Consensus(Decides.OPERATOR), "PanelRequired", State.FAILED, id="not that"),
    ],
)
def test_who_decides_is_the_index_s_word(
    found: SeenIndex, panel: tuple[Certified, ...] | None, consensus: Consensus, reason: str, state: State
) -> None:
    report = PanelReport(8, 2, 0, vote_due=False, quorum=True, chain=panel) if panel is not None else None
    free = b.index(held=False, candidate=None)
    free = replace(free, spec=found.spec)
    migration = b.migration(spec={"consensus": consensus})
    verdict = decide(migration, b.seen(free, panel=report), b.NOON)
    assert (verdict.status.reason, verdict.status.state) == (reason, state)


def test_a_migration_begins_when_the_panel_agrees() -> None:
    claimed = b.migration()
    first = decide(claimed, world(watched(candidate=None)), b.NOON)
    proposal = asked_for(first)
    assert proposal is not None
    assert (first.status.state, first.status.reason, proposal.kind) == (
        State.PREFLIGHT,
        "AwaitingPanel",
        Kind.LOAD_MODEL,
    )
    migration, panel = voted(claimed, first, b.NOON)
    verdict = decide(migration, replace(world(watched(candidate=None)), panel=panel), b.after(1))
    assert verdict.status.state is State.BACKFILLING


def agreed(kind: Kind, **change: str) -> Certificate:
    """Return a certificate of what an agent proposed."""
    proposal = replace(panels.raising(0, 0), kind=kind, change=tuple(sorted(change.items())))
    return AGENTS.certificate(proposal)


def test_a_quorum_of_agents_takes_queries_back_without_a_trigger() -> None:
    word = agreed(Kind.ROLLBACK, reason="memory grows without end")
    verdict = decide(CANARY, world(watched(10), agreed=(word,)), b.NOON)
    found = routed(verdict)
    assert found is not None
    assert (verdict.status.state, verdict.status.reason, found.weight) == (State.ROLLING_BACK, "PanelRollback", 0)


def test_a_quorum_of_agents_has_pods_work_carefully() -> None:
    verdict = decide(CANARY, world(watched(10), agreed=(agreed(Kind.MEMORY),)), b.NOON)
    assert ProtectPools(("new", "old")) in verdict.after


@pytest.mark.parametrize(
    ("approving", "refusing", "note"),
    [
        pytest.param(6, 0, "PanelCertified", id="certified"),
        pytest.param(4, 3, "PanelRefused", id="refused"),
    ],
)
def test_what_the_panel_said_is_told_once(approving: int, refusing: int, note: str) -> None:
    migration, panel = voted(CANARY, decide(CANARY, world(), b.NOON), b.NOON, approving, refusing)
    first = decide(migration, replace(world(), panel=panel), b.after(1))
    again = decide(replace(migration, status=first.status), replace(world(), panel=panel), b.after(2))
    assert [one.reason for one in first.notes] == [note]
    assert again.notes == ()


def test_what_nobody_has_agreed_to_answers_no_sql_either() -> None:
    """A first fill has no canary: its pointer would name the new side before anybody voted."""
    empty = watched()
    routing = replace(empty.status.routing, serving=None)
    plan = replace(empty.status.plan, pointer=None)
    empty = replace(empty, status=replace(empty.status, routing=routing, plan=plan))
    filled = b.migration(State.PROMOTING, serving=None)
    seen = replace(world(empty), store=b.store(b.collection(), pointer=None))

    def pointer(verdict: Verdict) -> PointerPlan | None:
        found = [one.status for one in verdict.after if isinstance(one, SetIndexStatus)]
        return found[0].plan.pointer if found else None

    first = decide(filled, seen, b.NOON)
    assert (first.status.reason, pointer(first)) == ("AwaitingPanel", None)
    migration, panel = voted(filled, first, b.NOON)
    agreed_to = decide(migration, replace(seen, panel=panel), b.after(1))
    found = routed(agreed_to)
    assert found is not None
    assert (found.serving, pointer(agreed_to)) == (b.NEW, None)


def test_without_a_panel_the_operator_asks_nobody() -> None:
    verdict = decide(CANARY, b.seen(), b.NOON)
    found = routed(verdict)
    assert found is not None
    assert (asked_for(verdict), found.weight, found.certificate) == (None, 10, None)
