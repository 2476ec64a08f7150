"""What a gateway takes of an index with a panel: less at once, more when its certificate is in the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reembed.core.acceptance import Acceptance, Accepted, Asked, Witness, judged, needs_proof, remembering
from reembed.core.model import Arm, PanelRef, PointerPlan, Routing
from reembed.core.quorum.certificates import Certificate
from reembed.core.quorum.proposals import Kind, Proposal, Split
from reembed.core.quorum.raising import raises
from reembed.signing import verify
from tests.panels import NEW, NOON, OLD, Agents, agents, raising

PANEL = agents()
REF = PanelRef("reembed-panel", "panel", PANEL.membership.digest)
SERVING = Arm(OLD.pool, OLD.collection, OLD.fingerprint)
CANDIDATE = Arm(NEW.pool, NEW.collection, NEW.fingerprint)
TEN = Routing(4, SERVING, CANDIDATE, 10)
HELD = Acceptance(known=True, accepted=Accepted(TEN, REF.digest, 1))
POINTER = PointerPlan(SERVING.collection, SERVING.fingerprint, 3)
AT_NOON = Witness(NOON, cache(verify))
LATE = Witness(NOON + timedelta(days=3), verify)


def routing(proposal: Proposal, certificate: Certificate | None = None) -> Routing:
    """Return what an index says when the operator executes a proposal."""
    return Routing(proposal.epoch, SERVING, CANDIDATE, proposal.after.weight, certificate=certificate)


def certified(panel: Agents = PANEL, **changes: object) -> Routing:
    """Return the raise to half of the queries, with its certificate."""
    proposal = replace(raising(10, 50), **changes)  # type: ignore[arg-type]
    return routing(proposal, panel.certificate(proposal))


def asked(told: Routing, panel: PanelRef = REF) -> Asked:
    return Asked("uid-index", panel, told)


def why(state: Acceptance) -> str | None:
    return state.refused.reason if state.refused is not None else None


HALF = certified()
HALF_ROW = Accepted(replace(HALF, certificate=None), REF.digest, 1)


def test_a_raise_with_its_certificate_is_owed_before_it_is_followed() -> None:
    state, in_force = judged(HELD, TEN, asked(HALF), AT_NOON)
    assert (state, in_force) == (replace(HELD, owed=HALF_ROW), TEN)


def test_a_raise_that_is_in_the_store_is_followed() -> None:
    state, _ = judged(HELD, TEN, asked(HALF), AT_NOON)
    state = remembering(state, HALF_ROW, POINTER, TEN)
    assert judged(state, TEN, asked(HALF), AT_NOON) == (Acceptance(True, HALF_ROW, POINTER), HALF)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        pytest.param(Routing(5, SERVING, CANDIDATE, 100), "CertificateMissing", id="nobody certified it"),
        pytest.param(replace(HALF, weight=100), "CertificateOfOther", id="more than what was certified"),
        pytest.param(replace(HALF, epoch=6), "CertificateOfOther", id="the certificate of another epoch"),
        pytest.param(replace(HALF, serving=CANDIDATE, candidate=SERVING), "CertificateOfOther", id="sides changed"),
        pytest.param(Routing(5, CANDIDATE), "CertificateMissing", id="the candidate serves"),
        pytest.param(Routing(5, SERVING, Arm("x", "c_x", "fp-x"), 10), "CertificateMissing", id="another candidate"),
        pytest.param(replace(HALF, epoch=4), "EpochConsumed", id="an epoch that was accepted with less"),
        pytest.param(
            certified(subject=replace(raising(0, 0).subject, uid="another")), "CertificateOfOther", id="another index"
        ),
        pytest.param(certified(kind=Kind.MEMORY), "CertificateOfOther", id="a certificate of no traffic"),
        pytest.param(certified(agents(generation=1)), "ForeignPanel", id="another panel"),
        pytest.param(
            routing(raising(10, 50), PANEL.certificate(raising(10, 50), 5)), "QuorumMissing", id="five signatures"
        ),
        pytest.param(
            routing(raising(10, 50), PANEL.certificate(raising(10, 50), [*PANEL.names[:5], PANEL.names[0]])),
            "QuorumMissing",
            id="five signatures and one of them twice",
        ),
    ],
)
def test_what_is_refused_moves_nothing_and_is_kept_for_the_report(told: Routing, reason: str) -> None:
    state, in_force = judged(HELD, TEN, asked(told), AT_NOON)
    assert (state.refused and (state.refused.epoch, state.refused.reason)) == (told.epoch, reason)
    assert (in_force.serving, in_force.candidate) == (SERVING, CANDIDATE)
    assert in_force.weight <= TEN.weight
    assert state.owed is None or state.owed.routing.weight < TEN.weight


def test_a_certificate_that_has_no_digest_is_refused_like_any_other() -> None:
    odd = replace(raising(10, 50), terms="\ud800")
    votes = PANEL.votes(raising(10, 50), 6)
    told = routing(odd, Certificate(odd, votes, PANEL.certificate(raising(10, 50)).chain))
    state, in_force = judged(HELD, TEN, asked(told), AT_NOON)
    assert (why(state), in_force) == ("CertificateMalformed", TEN)


def test_a_refusal_ends_with_what_caused_it() -> None:
    state, in_force = judged(HELD, TEN, asked(Routing(5, SERVING, CANDIDATE, 100)), AT_NOON)
    assert judged(state, in_force, asked(TEN), AT_NOON) == (HELD, TEN)


def test_less_is_followed_at_once_and_uses_up_its_epoch() -> None:
    lowered = Routing(6, SERVING, CANDIDATE, 0)
    accepted = Accepted(lowered, REF.digest, 1)
    state, in_force = judged(HELD, TEN, asked(lowered), AT_NOON)
    assert (state, in_force) == (Acceptance(True, accepted, None, accepted), lowered)
    state, in_force = judged(state, in_force, asked(HALF), AT_NOON)
    assert (why(state), in_force, state.owed) == ("EpochConsumed", lowered, accepted)


def test_a_lowering_that_the_store_did_not_take_is_not_forgotten() -> None:
    lowered = Routing(6, SERVING, CANDIDATE, 0)
    state, in_force = judged(HELD, TEN, asked(lowered), AT_NOON)
    state = remembering(state, Accepted(TEN, REF.digest, 1), POINTER, in_force)
    assert (state.accepted, state.owed) == (Accepted(lowered, REF.digest, 1),) * 2


def test_a_lowering_that_the_store_took_is_owed_no_more() -> None:
    lowered = Routing(6, SERVING, CANDIDATE, 0)
    row = Accepted(lowered, REF.digest, 1)
    state, in_force = judged(HELD, TEN, asked(lowered), AT_NOON)
    assert remembering(state, row, POINTER, in_force) == Acceptance(True, row, POINTER)


def test_a_raise_that_is_told_no_more_is_not_written_any_more() -> None:
    state, in_force = judged(HELD, TEN, asked(HALF), AT_NOON)
    assert judged(state, in_force, asked(TEN), AT_NOON) == (HELD, TEN)


def test_a_gateway_that_starts_follows_an_expired_certificate_if_the_store_names_it() -> None:
    state = remembering(Acceptance(), HALF_ROW, POINTER, Routing())
    assert judged(state, Routing(), asked(HALF), LATE)[1] == HALF


def test_a_gateway_that_starts_follows_no_other_expired_certificate() -> None:
    state = remembering(Acceptance(), Accepted(TEN, REF.digest, 1), POINTER, Routing())
    state, in_force = judged(state, Routing(), asked(HALF), LATE)
    assert (why(state), in_force) == ("CertificateExpired", TEN)


def test_a_gateway_that_starts_after_a_restore_goes_on_from_the_store() -> None:
    promoted = Routing(9, CANDIDATE)
    state = remembering(Acceptance(), Accepted(promoted, REF.digest, 1), POINTER, Routing())
    state, in_force = judged(state, Routing(), asked(HALF), AT_NOON)
    assert (why(state), in_force) == ("EpochConsumed", promoted)


def test_a_restored_status_of_less_is_obeyed_and_brings_no_epoch_back() -> None:
    state = remembering(Acceptance(), HALF_ROW, POINTER, Routing())
    state, in_force = judged(state, Routing(), asked(TEN), AT_NOON)
    assert (in_force, state.accepted, state.owed) == (replace(TEN, epoch=HALF.epoch), HALF_ROW, None)


def test_nothing_is_followed_before_the_store_was_asked() -> None:
    assert judged(Acceptance(), Routing(), asked(HALF), AT_NOON) == (Acceptance(), Routing())


@pytest.mark.parametrize(
    ("told", "in_force"),
    [
        pytest.param(Routing(4, SERVING, CANDIDATE, 0), Routing(4, SERVING, CANDIDATE, 0), id="what it names serves"),
        pytest.param(TEN, Routing(0, SERVING), id="nobody certified a weight"),
        pytest.param(Routing(4, CANDIDATE, SERVING, 0), Routing(0, SERVING), id="another side is said to serve"),
        pytest.param(Routing(4, CANDIDATE), Routing(), id="only another side is named"),
    ],
)
def test_without_a_row_the_pointer_says_what_serves(told: Routing, in_force: Routing) -> None:
    state = remembering(Acceptance(), None, POINTER, Routing())
    state, found = judged(state, Routing(), asked(told), AT_NOON)
    assert found == in_force
    assert (state.refused is None) == (found == told)


def test_what_serves_by_the_pointer_alone_gets_a_row() -> None:
    state = remembering(Acceptance(), None, POINTER, Routing())
    state, _ = judged(state, Routing(), asked(Routing(4, SERVING)), AT_NOON)
    assert state.owed == Accepted(Routing(4, SERVING), REF.digest)


def test_without_row_and_pointer_what_serves_first_needs_a_certificate() -> None:
    first = replace(raising(0, 0), kind=Kind.COMPLETE, epoch=1, before=Split(), after=Split(1, 0, serving=OLD))
    told = Routing(1, SERVING, certificate=PANEL.certificate(first))
    state = remembering(Acceptance(), None, None, Routing())
    assert judged(state, Routing(), asked(told), AT_NOON)[0].owed == Accepted(Routing(1, SERVING), REF.digest, 1)
    refused, in_force = judged(state, Routing(), asked(Routing(1, SERVING)), AT_NOON)
    assert (why(refused), in_force) == ("CertificateMissing", Routing())


def test_another_gateway_s_lowering_ends_what_this_one_follows() -> None:
    lowered = Accepted(Routing(6, SERVING, CANDIDATE, 0), REF.digest, 1)
    state = remembering(replace(HELD, accepted=HALF_ROW), lowered, POINTER, HALF)
    state, in_force = judged(state, HALF, asked(HALF), AT_NOON)
    assert (why(state), in_force) == ("EpochConsumed", lowered.routing)


def test_a_row_that_was_lost_is_written_again() -> None:
    assert remembering(HELD, None, POINTER, TEN) == replace(HELD, pointer=POINTER, owed=HELD.accepted)


def test_an_index_that_names_a_panel_since_now_keeps_what_it_serves_and_needs_certificates_from_here_on() -> None:
    running = replace(TEN, weight=50)
    state = remembering(Acceptance(), None, POINTER, running)
    assert (state.accepted, state.owed) == (Accepted(running),) * 2
    assert judged(state, running, asked(running), AT_NOON)[1] == running
    more = Routing(5, SERVING, CANDIDATE, 100)
    state, in_force = judged(state, running, asked(more), AT_NOON)
    assert (why(state), in_force) == ("CertificateMissing", running)


def test_another_panel_s_word_counts_from_here_on_and_what_is_served_stays() -> None:
    other = agents(generation=1)
    ref = PanelRef("reembed-panel", "other", other.membership.digest)
    newest = replace(HELD, accepted=Accepted(TEN, REF.digest, 7))
    assert judged(newest, TEN, asked(TEN, ref), AT_NOON) == (newest, TEN)
    state, _ = judged(newest, TEN, asked(HALF, ref), AT_NOON)
    assert why(state) == "ForeignPanel"
    state, _ = judged(newest, TEN, asked(certified(other), ref), AT_NOON)
    assert state.owed == Accepted(HALF_ROW.routing, ref.digest, 1)


def test_members_who_are_out_of_office_certify_nothing_more() -> None:
    newest = replace(HELD, accepted=Accepted(TEN, REF.digest, 2))
    state, _ = judged(newest, TEN, asked(HALF), AT_NOON)
    assert why(state) == "MembershipOld"


def test_members_who_came_into_office_put_those_before_out_of_it() -> None:
    after = agents(generation=2, version=2)
    certificate = Certificate(raising(10, 50), after.votes(raising(10, 50), 6), PANEL.followed_by(after))
    state, _ = judged(HELD, TEN, asked(routing(raising(10, 50), certificate)), AT_NOON)
    assert state.owed == replace(HALF_ROW, version=2)


@pytest.mark.parametrize(
    ("told", "needed"),
    [
        pytest.param(HALF, True, id="a raise"),
        pytest.param(TEN, False, id="what is accepted"),
        pytest.param(replace(HALF, weight=0), False, id="less"),
        pytest.param(replace(HALF, epoch=4), False, id="an epoch that is used up"),
        pytest.param(replace(HALF, certificate=None), False, id="no certificate"),
    ],
)
def test_signatures_are_verified_for_a_raise_alone(told: Routing, needed: bool) -> None:
    assert needs_proof(HELD, asked(told)) is needed

    def refuse(key: bytes, message: bytes, signature: bytes) -> bool:
        pytest.fail("a signature was verified")

    if not needed:
        judged(HELD, TEN, asked(told), Witness(NOON, refuse))


ARMS = st.sampled_from([None, SERVING, CANDIDATE, Arm("x", "c_x", "fp-x")])
TOLD = st.one_of(
    st.builds(Routing, epoch=st.integers(0, 9), serving=ARMS, candidate=ARMS, weight=st.sampled_from([0, 10, 50, 100])),
    st.sampled_from([TEN, HALF, replace(HALF, weight=100), replace(HALF, epoch=6)]),
)
LOOKS = st.one_of(st.just("store"), st.just("restart"), st.just("unreachable"))


def share(routing: Routing, arm: Arm) -> int:
    if arm == routing.serving:
        return 100 - routing.weight
    return routing.weight if arm == routing.candidate else 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.one_of(TOLD, LOOKS)), max_size=30))
def test_no_order_of_readings_restarts_and_outages_gives_more_than_was_certified(
    events: list[tuple[int, Routing | str]],
) -> None:
    """Two gateways share a row; what is told is anything, and one certificate is good."""
    row = Accepted(TEN, REF.digest, 1)
    gateways: list[tuple[Acceptance, Routing, Routing]] = [(Acceptance(), Routing(), Routing())] * 2
    rows = [row]
    for number, event in events:
        state, in_force, told = gateways[number]
        if event == "restart":
            state, in_force = Acceptance(), Routing()
        elif event == "store":
            if state.owed is not None and row.routing.epoch < state.owed.routing.epoch:
                row = state.owed
                rows.append(row)
            state = remembering(state, row, POINTER, in_force)
        elif isinstance(event, Routing):
            told = event
        state, in_force = judged(state, in_force, asked(told), AT_NOON)
        gateways[number] = state, in_force, told
        assert in_force.serving in {None, SERVING}
        assert share(in_force, CANDIDATE) <= 50
        assert share(in_force, Arm("x", "c_x", "fp-x")) == 0
        assert share(in_force, CANDIDATE) <= 10 or HALF_ROW in rows
    assert all(one == HALF_ROW or not raises(before.routing, one.routing) for before, one in pairwise(rows))


def test_callers_queries_are_put_to_no_candidate_that_nobody_certified_not_even_aside() -> None:
    """A candidate without a share needs no votes, and the operator says to whom shadow queries go."""
    stranger = Arm("x", "c_x", "fp-x")
    told = Routing(5, SERVING, stranger, 0, shadow=1.0)
    state, in_force = judged(HELD, TEN, asked(told), AT_NOON)
    assert (in_force, state.refused) == (replace(told, shadow=0.0), None)
    row = Accepted(replace(HALF, certificate=None), REF.digest, 1)
    followed = judged(Acceptance(True, row, POINTER), HALF, asked(replace(HALF, shadow=0.05)), AT_NOON)[1]
    assert followed == replace(HALF, shadow=0.05)
