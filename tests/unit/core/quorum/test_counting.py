"""What ballots come to, whoever lies, and that a count's certificate is one that gateways take."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.quorum.certificates import SKEW, Certified, Choice, refused
from reembed.core.quorum.counting import Cast, Count, Standing, count, too_late
from reembed.core.quorum.proposals import Proposal
from reembed.signing import verify
from tests import panels

PROPOSAL = panels.raising(10, 50)
PANEL = panels.agents()
NAMES = PANEL.names
CHAIN = (Certified(PANEL.membership),)
YES, NO = Choice.APPROVE, Choice.REJECT


def cast(name: str, choice: Choice = YES, proposal: Proposal = PROPOSAL, *reasons: str) -> Cast:
    return Cast(proposal.digest, choice, PANEL.vote(name, proposal, choice), reasons)


def counted(ballots: Iterable[Cast], minutes: float = 0) -> Count:
    return count(PROPOSAL, ballots, CHAIN, panels.NOON + timedelta(minutes=minutes), verify)


def said(approving: int, refusing: int) -> list[Cast]:
    return [cast(name) for name in NAMES[:approving]] + [cast(name, NO) for name in NAMES[approving:][:refusing]]


@pytest.mark.parametrize(
    ("approving", "refusing", "standing", "late"),
    [
        (0, 0, Standing.OPEN, Standing.EXPIRED),
        (5, 2, Standing.OPEN, Standing.EXPIRED),
        (5, 3, Standing.REFUSED, Standing.REFUSED),
        (0, 3, Standing.REFUSED, Standing.REFUSED),
        (6, 0, Standing.CERTIFIED, Standing.CERTIFIED),
        (6, 2, Standing.CERTIFIED, Standing.CERTIFIED),
    ],
)
def test_six_certify_three_refuse_and_all_else_is_open_until_its_time_is_over(
    approving: int, refusing: int, standing: Standing, late: Standing
) -> None:
    ballots = said(approving, refusing)
    assert [counted(ballots, minutes).standing for minutes in (0, 5, 5.01)] == [standing, standing, late]


def test_a_count_says_who_said_what_and_who_is_missing() -> None:
    found = counted([cast("agent-3"), cast("agent-1"), cast("agent-2", NO, PROPOSAL, "Slow: 2 s", "more")])
    rest = ("agent-0", "agent-4", "agent-5", "agent-6", "agent-7")
    assert found == Count(Standing.OPEN, ("agent-1", "agent-3"), ("agent-2",), rest, ("Slow: 2 s",))


def test_the_commonest_reason_stands_first() -> None:
    reasons = ["b", "a", "b"]
    ballots = [cast(name, NO, PROPOSAL, reason) for name, reason in zip(NAMES, reasons, strict=False)]
    assert counted(ballots).reasons == ("b", "a")


@pytest.mark.parametrize("approving", range(6, 9))
def test_a_certificate_of_a_count_is_taken_by_whoever_checks_it(approving: int) -> None:
    found = counted(said(approving, 8 - approving))
    assert found.certificate is not None
    assert refused(found.certificate, PANEL.membership.digest, 1, panels.NOON, verify) is None
    assert len(found.certificate.votes) == approving


@pytest.mark.parametrize("late", [timedelta(0), SKEW, SKEW + timedelta(milliseconds=1)])
def test_what_is_too_late_is_what_no_gateway_takes(late: timedelta) -> None:
    now = PROPOSAL.expires + late
    found = refused(PANEL.certificate(PROPOSAL), PANEL.membership.digest, 1, now, verify)
    assert too_late(PROPOSAL, now) == (found is not None)


def test_whoever_says_both_is_counted_once_and_hinders_nobody() -> None:
    both = [one for name in NAMES[:2] for one in (cast(name), cast(name, NO))]
    five = counted([*both, *(cast(name) for name in NAMES[2:5])])
    assert (five.standing, five.approved, five.refused) == (Standing.OPEN, NAMES[:5], ())
    assert counted([*both, *(cast(name, NO) for name in NAMES[2:4])]).standing is Standing.OPEN
    assert counted([*both[::-1], *(cast(name) for name in NAMES[2:6])]).standing is Standing.CERTIFIED


def test_a_ballot_that_comes_again_is_one_ballot() -> None:
    found = counted([cast("agent-0")] * 8)
    assert (found.standing, found.approved) == (Standing.OPEN, ("agent-0",))


STRANGER = panels.agents(generation=9).vote("agent-0", PROPOSAL)
OTHER = panels.raising(10, 100)


@pytest.mark.parametrize(
    "ballot",
    [
        Cast(PROPOSAL.digest, YES, STRANGER),
        Cast(OTHER.digest, YES, PANEL.vote("agent-5", OTHER)),
        Cast(PROPOSAL.digest, YES, PANEL.vote("agent-5", OTHER)),
        Cast(OTHER.digest, YES, PANEL.vote("agent-5", PROPOSAL)),
        Cast(PROPOSAL.digest, YES, PANEL.vote("agent-5", PROPOSAL, NO)),
        Cast(PROPOSAL.digest, NO, PANEL.vote("agent-5", PROPOSAL, YES)),
        Cast(PROPOSAL.digest, YES, replace(PANEL.vote("agent-5", PROPOSAL), key=PANEL.keys["agent-4"].public)),
        Cast(PROPOSAL.digest, YES, replace(PANEL.vote("agent-5", PROPOSAL), signature=b"")),
        Cast(PROPOSAL.digest, YES, PANEL.vote("agent-4", PROPOSAL)),
    ],
    ids=[
        "of a stranger",
        "for another",
        "with another's signature",
        "that names another",
        "a rejection as approval",
        "an approval as rejection",
        "with another's key",
        "unsigned",
        "another's ballot again",
    ],
)
def test_a_ballot_that_is_none_changes_nothing(ballot: Cast) -> None:
    five = [cast(name) for name in NAMES[:5]]
    assert counted([*five, ballot]) == counted(five)
    assert counted([ballot, *five]) == counted(five)


@pytest.mark.parametrize("lie", [YES, NO])
def test_two_liars_change_nothing_of_what_six_honest_agree_on(lie: Choice) -> None:
    liars = [cast(name, lie) for name in NAMES[:2]]
    assert counted([*liars, *(cast(name) for name in NAMES[2:])]).standing is Standing.CERTIFIED
    assert counted([*liars, *(cast(name, NO) for name in NAMES[2:])]).standing is Standing.REFUSED


def test_two_liars_need_four_honest_to_approve_and_one_to_refuse() -> None:
    assert counted(said(2 + 3, 0)).standing is Standing.OPEN
    assert counted(said(2 + 4, 0)).standing is Standing.CERTIFIED
    assert counted(said(0, 2)).standing is Standing.OPEN
    assert counted(said(0, 3)).standing is Standing.REFUSED


def test_two_liars_and_a_crash_stop_everything_and_certify_nothing() -> None:
    found = counted([*(cast(name) for name in NAMES[:5]), *(cast(name, NO) for name in NAMES[5:7])])
    assert (found.standing, found.missing) == (Standing.OPEN, ("agent-7",))


def test_a_rotation_in_the_middle_of_a_vote_counts_no_old_key() -> None:
    after = panels.agents(generation=1, version=2)
    old = [cast(name) for name in NAMES]
    found = count(PROPOSAL, old, PANEL.followed_by(after), panels.NOON, verify)
    assert (found.standing, found.approved, found.missing) == (Standing.OPEN, (), NAMES)
