"""What a gateway takes: less for the candidate from anybody, more with a certificate of exactly that."""

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reembed.core.model import Arm, Routing
from reembed.core.quorum.certificates import Certificate, Choice
from reembed.core.quorum.proposals import Kind, Proposal, Side, Split
from reembed.core.quorum.raising import Trust, only_lowered, raises, split, uncertified
from reembed.signing import verify
from tests import panels

PANEL = panels.agents()
TRUST = Trust("uid-index", PANEL.membership.digest, 1)
NOON = panels.NOON


def arm(side: Side) -> Arm:
    return Arm(side.pool, side.collection, side.fingerprint)


OLD, NEW = arm(panels.OLD), arm(panels.NEW)
THIRD = Arm("third", "c_third", "fp-third")
HELD = Routing(4, OLD, NEW, 10)
TOLD = Routing(5, OLD, NEW, 50)
PROPOSAL = panels.raising(10, 50)


def certified(told: Routing = TOLD, voters: int = 6, **changed: Any) -> Routing:
    return replace(told, certificate=PANEL.certificate(replace(PROPOSAL, **changed), voters))


def why(held: Routing, told: Routing, trust: Trust = TRUST, minutes: float = 0) -> str | None:
    found = uncertified(held, told, trust, NOON + timedelta(minutes=minutes), verify)
    return found.reason if found is not None else None


@pytest.mark.parametrize(
    ("held", "told", "raised"),
    [
        (HELD, HELD, False),
        (HELD, replace(HELD, weight=11), True),
        (HELD, replace(HELD, weight=9), False),
        (HELD, replace(HELD, epoch=9, shadow=1.0), False),
        (HELD, replace(HELD, candidate=None, weight=0), False),
        (HELD, replace(HELD, candidate=THIRD, weight=0), False),
        (HELD, replace(HELD, candidate=THIRD, weight=1), True),
        (HELD, replace(HELD, candidate=replace(NEW, collection="c_2")), True),
        (HELD, replace(HELD, candidate=replace(NEW, fingerprint="fp-2")), True),
        (HELD, replace(HELD, serving=THIRD, weight=0), True),
        (HELD, replace(HELD, serving=None), True),
        (HELD, Routing(9, NEW, OLD, 90), True),
        (replace(HELD, weight=100), Routing(5, NEW, None, 0), True),
        (Routing(), Routing(1, OLD), True),
        (Routing(4, OLD), Routing(5, OLD, NEW, 0), False),
        (Routing(4, OLD), Routing(5, OLD, NEW, 1), True),
    ],
)
def test_what_is_a_raise(held: Routing, told: Routing, raised: bool) -> None:
    assert raises(held, told) is raised


ROUTINGS = [
    Routing(epoch, serving, candidate, weight if candidate is not None else 0)
    for epoch, serving, candidate, weight in itertools.product(
        [3, 5], [OLD, NEW], [OLD, NEW, THIRD, None], [0, 10, 100]
    )
    if serving != candidate
]


def shares(routing: Routing) -> dict[Arm, int]:
    """Return who answers how much, without a thought of what is a raise."""
    found = dict.fromkeys((OLD, NEW, THIRD), 0)
    if routing.serving is not None:
        found[routing.serving] += 100 - routing.weight
    if routing.candidate is not None:
        found[routing.candidate] += routing.weight
    return found


def test_what_is_no_raise_gives_nobody_more_but_what_serves() -> None:
    for held, told in itertools.product(ROUTINGS, ROUTINGS):
        if not raises(held, told):
            gained = {one for one in shares(held) if shares(told)[one] > shares(held)[one]}
            assert gained <= {held.serving}
            assert told.serving == held.serving


def test_who_must_not_follow_gives_nobody_more_but_what_serves_and_obeys_what_is_lowered() -> None:
    for held, told in itertools.product(ROUTINGS, ROUTINGS):
        left = only_lowered(held, told)
        assert not raises(held, left)
        assert left.epoch >= held.epoch
        if held.candidate is not None:
            assert shares(left)[held.candidate] == min(shares(held)[held.candidate], shares(told)[held.candidate])


@pytest.mark.parametrize("held", [HELD, replace(HELD, epoch=9), replace(HELD, weight=100)])
@pytest.mark.parametrize("weight", [0, 5, 10])
def test_a_lowering_needs_nobody_and_no_epoch(held: Routing, weight: int) -> None:
    assert why(held, Routing(1, OLD, NEW, weight)) is None
    assert why(held, Routing(99, OLD, NEW, weight, certificate=Certificate(PROPOSAL, (), ()))) is None


def test_a_raise_needs_a_certificate() -> None:
    assert why(HELD, TOLD) == "CertificateMissing"
    assert why(HELD, certified(voters=5)) == "QuorumMissing"
    assert why(HELD, certified()) is None


def test_a_new_candidate_is_named_without_a_certificate_as_long_as_it_gets_nothing() -> None:
    assert why(Routing(4, OLD), Routing(5, OLD, NEW)) is None
    assert why(HELD, Routing(5, OLD, THIRD)) is None
    assert why(Routing(4, OLD), Routing(5, OLD, NEW, 1)) == "CertificateMissing"


def test_a_promotion_needs_a_certificate_of_the_new_serving_side() -> None:
    held = Routing(4, OLD, NEW, 100)
    promoted = Routing(5, NEW)
    assert why(held, promoted) == "CertificateMissing"
    after = Split(5, 0, panels.NEW)
    assert why(held, certified(promoted, kind=Kind.COMPLETE, after=after)) is None
    assert why(held, certified(promoted, kind=Kind.COMPLETE, after=Split(5, 0, panels.NEW, panels.OLD))) is not None


OF_OTHER: dict[str, dict[str, Any]] = {
    "another index": {"subject": replace(PROPOSAL.subject, uid="uid-other")},
    "another epoch": {"epoch": 6},
    "another epoch after": {"after": replace(PROPOSAL.after, epoch=6)},
    "less weight": {"after": replace(PROPOSAL.after, weight=49)},
    "more weight": {"after": replace(PROPOSAL.after, weight=51)},
    "another serving side": {"after": replace(PROPOSAL.after, serving=panels.NEW)},
    "no serving side": {"after": replace(PROPOSAL.after, serving=None)},
    "another candidate": {"after": replace(PROPOSAL.after, candidate=panels.OLD)},
    "no candidate": {"after": replace(PROPOSAL.after, candidate=None)},
    "another collection": {"after": replace(PROPOSAL.after, candidate=replace(panels.NEW, collection="c"))},
    "another fingerprint": {"after": replace(PROPOSAL.after, candidate=replace(panels.NEW, fingerprint="f"))},
    "another pool": {"after": replace(PROPOSAL.after, candidate=replace(panels.NEW, pool="p"))},
    **{kind.value: {"kind": kind} for kind in Kind if kind not in (Kind.TRAFFIC, Kind.COMPLETE)},
}


@pytest.mark.parametrize("changed", OF_OTHER.values(), ids=OF_OTHER.keys())
def test_a_certificate_of_something_else_raises_nothing(changed: dict[str, Any]) -> None:
    assert why(HELD, certified(voters=8, **changed)) == "CertificateOfOther"


def test_of_another_migration_the_routing_epoch_is_another() -> None:
    """A gateway knows of no migrations: all of an index move one sequence of epochs, so that none has another's."""
    other = replace(PROPOSAL, subject=replace(PROPOSAL.subject, migration_uid="uid-2"))
    assert other.slot == PROPOSAL.slot
    assert other.digest != PROPOSAL.digest


def test_rejections_are_no_certificate() -> None:
    votes = tuple(PANEL.vote(name, PROPOSAL, Choice.REJECT) for name in PANEL.names)
    told = replace(TOLD, certificate=replace(PANEL.certificate(PROPOSAL), votes=votes))
    assert why(HELD, told) == "QuorumMissing"


@pytest.mark.parametrize("epoch", [5, 6])
def test_an_epoch_that_was_used_raises_nothing_more(epoch: int) -> None:
    lowered = Routing(epoch, OLD, NEW, 0)
    assert why(lowered, certified()) == "EpochConsumed"


def test_a_raise_that_was_accepted_is_none_and_its_certificate_may_expire() -> None:
    accepted = certified()
    assert why(accepted, accepted, minutes=60 * 24 * 3) is None
    assert why(HELD, accepted, minutes=60 * 24 * 3) == "CertificateExpired"


def test_who_missed_epochs_takes_the_newest_raise() -> None:
    assert why(replace(HELD, epoch=1, weight=0), certified()) is None


def skipping(before: int, epoch: int) -> tuple[Routing, Proposal]:
    """Return a certified raise whose epoch comes after some in which nobody was certified."""
    proposal = replace(
        PROPOSAL,
        epoch=epoch,
        before=replace(PROPOSAL.before, epoch=before),
        after=replace(PROPOSAL.after, epoch=epoch),
    )
    return Routing(epoch, OLD, NEW, 50, certificate=PANEL.certificate(proposal)), proposal


def test_a_raise_that_was_voted_on_before_a_lowering_does_not_come_back_by_a_higher_epoch() -> None:
    told, _ = skipping(before=4, epoch=9)
    assert why(HELD, told) is None
    assert why(Routing(5, OLD, NEW, 0), told) == "CertificateOvertaken"


def test_of_two_certificates_from_one_state_the_second_raises_nothing() -> None:
    first, _ = skipping(before=4, epoch=5)
    second, _ = skipping(before=4, epoch=6)
    assert why(first, replace(second, candidate=NEW, weight=50)) is None  # gives nobody more
    assert why(replace(first, weight=10), second) == "CertificateOvertaken"


def test_what_a_refused_routing_lowers_is_used_up_with_its_epoch() -> None:
    """Else the weight of an older epoch could come back after it."""
    held = certified()
    left = only_lowered(held, Routing(6, OLD, THIRD, 50))
    assert (left.epoch, left.weight, left.candidate) == (6, 0, NEW)
    assert why(left, held) == "EpochConsumed"
    assert only_lowered(held, Routing(6, OLD, NEW, 100)).epoch == 5  # its certificate may still come


def test_a_copy_that_lags_lowers_and_takes_no_epoch_back() -> None:
    left = only_lowered(certified(), HELD)
    assert (left.epoch, left.weight) == (5, 10)


def test_members_that_were_seen_to_be_replaced_raise_nothing() -> None:
    assert why(HELD, certified(), replace(TRUST, version=2)) == "MembershipOld"


def test_another_panel_raises_nothing() -> None:
    assert why(HELD, certified(), replace(TRUST, anchor="0" * 64)) == "ForeignPanel"


def test_a_split_is_a_routing_with_the_uids_of_its_pools() -> None:
    uids = {"old": "uid-old", "new": "uid-new"}
    assert split(TOLD, uids) == Split(5, 50, panels.OLD, panels.NEW)
    assert split(Routing(), uids) == Split()
