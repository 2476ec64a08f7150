"""What makes a certificate, and each way in which something that looks like one lets nobody do anything."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reembed.api import InvalidField
from reembed.api.fields import Fields
from reembed.api.panel import parse_certificate
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import (
    LONGEST_OPEN,
    SKEW,
    Certificate,
    Certified,
    Choice,
    Vote,
    ballot_message,
    refused,
)
from reembed.core.quorum.membership import encoded
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.signing import SigningKey, verify
from tests import panels

NOON = panels.NOON
PROPOSAL = panels.raising(10, 50)
PANEL = panels.agents()
STRANGERS = panels.agents(generation=9)
ANCHOR = PANEL.membership.digest
NEXT = panels.agents(generation=1, version=2)
CERTIFICATE = PANEL.certificate(PROPOSAL)
SIX = CERTIFICATE.votes
FIVE = SIX[:5]


def why(certificate: Certificate, *, anchor: str = ANCHOR, version: int = 0, now: datetime = NOON) -> str | None:
    found = refused(certificate, anchor, version, now, verify)
    return found.reason if found is not None else None


def with_votes(*votes: Vote) -> Certificate:
    return replace(CERTIFICATE, votes=votes)


@pytest.mark.parametrize("voters", [6, 7, 8])
def test_six_of_eight_certify(voters: int) -> None:
    assert why(PANEL.certificate(PROPOSAL, voters)) is None


@pytest.mark.parametrize("voters", range(6))
def test_fewer_certify_nothing(voters: int) -> None:
    assert why(PANEL.certificate(PROPOSAL, voters)) == "QuorumMissing"


def test_any_six_certify_and_votes_that_are_none_take_nothing_away() -> None:
    junk = (
        *STRANGERS.votes(PROPOSAL, 3),
        replace(SIX[0], signature=b""),
        PANEL.vote("agent-7", PROPOSAL, Choice.REJECT),
    )
    assert why(with_votes(*junk, *PANEL.votes(PROPOSAL, PANEL.names[2:]))) is None


def signed(signer: SigningKey, message: bytes, evidence: str = "e") -> Vote:
    return Vote(signer.public, evidence, signer.sign(message))


def sixth(message: Callable[[str], bytes]) -> Vote:
    """Return a vote of the sixth member that signs something else."""
    return signed(PANEL.keys["agent-5"], message("e"))


OTHER = panels.raising(10, 100)


@pytest.mark.parametrize(
    "vote",
    [
        pytest.param(SIX[0], id="a vote twice"),
        pytest.param(
            signed(PANEL.keys["agent-0"], ballot_message(PROPOSAL.digest, PROPOSAL.slot, Choice.APPROVE, "x"), "x"),
            id="a second vote with the same key",
        ),
        pytest.param(STRANGERS.vote("agent-5", PROPOSAL), id="a key of no member"),
        pytest.param(replace(SIX[5], key=SIX[5].key + b"\0"), id="a longer key"),
        pytest.param(replace(SIX[5], key=SIX[4].key), id="another member's key"),
        pytest.param(replace(SIX[5], signature=SIX[4].signature), id="another member's signature"),
        pytest.param(replace(SIX[5], signature=SIX[5].signature[:63]), id="a cut signature"),
        pytest.param(replace(SIX[5], signature=SIX[5].signature + b"\0"), id="a longer signature"),
        pytest.param(replace(SIX[5], signature=bytes(64)), id="no signature"),
        pytest.param(replace(SIX[5], evidence="f" * 64), id="other evidence"),
        pytest.param(
            sixth(lambda e: ballot_message(OTHER.digest, PROPOSAL.slot, Choice.APPROVE, e)), id="other proposal"
        ),
        pytest.param(sixth(lambda e: ballot_message(PROPOSAL.digest, "s0", Choice.APPROVE, e)), id="another slot"),
        pytest.param(
            sixth(lambda e: ballot_message(PROPOSAL.digest, PROPOSAL.slot, Choice.REJECT, e)), id="a rejection"
        ),
        pytest.param(
            sixth(lambda _: certificates.canonical.message(certificates.canonical.PROPOSAL, {})), id="another domain"
        ),
        pytest.param(
            sixth(lambda e: ballot_message(PROPOSAL.digest, PROPOSAL.slot, Choice.APPROVE, e).split(b"\n")[1]),
            id="no domain",
        ),
    ],
)
def test_what_is_no_sixth_members_approval_is_not_counted(vote: Vote) -> None:
    assert why(with_votes(*FIVE, vote)) == "QuorumMissing"


def test_a_signature_with_a_larger_scalar_is_none() -> None:
    """The order of the group added to a signature gives another spelling that careless libraries take."""
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(SIX[5].signature[32:], "little") + order
    other = replace(SIX[5], signature=SIX[5].signature[:32] + scalar.to_bytes(32, "little"))
    assert why(with_votes(*FIVE, other)) == "QuorumMissing"


@pytest.mark.parametrize("spell", [lambda text: text + "\n", lambda text: text.rstrip("="), lambda text: f" {text}"])
@pytest.mark.parametrize("field", ["publicKey", "signature"])
def test_another_spelling_of_a_key_or_signature_is_refused(field: str, spell: Callable[[str], str]) -> None:
    raw: dict[str, Any] = certificates.to_json(CERTIFICATE)
    raw["votes"][0][field] = spell(raw["votes"][0][field])
    with pytest.raises(InvalidField):
        parse_certificate(Fields(raw, "certificate"))


def test_the_same_member_under_two_names_is_refused() -> None:
    double = replace(PANEL.membership.members[7], key=PANEL.membership.members[0].key)
    members = replace(PANEL.membership, members=(*PANEL.membership.members[:7], double))
    certificate = replace(PANEL.certificate(PROPOSAL, 8), chain=(Certified(members),))
    assert why(certificate, anchor=members.digest) == "MembershipUncertified"


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        (timedelta(0), None),
        (SKEW, None),
        (SKEW + timedelta(milliseconds=1), "CertificateExpired"),
        (timedelta(days=1), "CertificateExpired"),
    ],
)
def test_a_certificate_expires_half_a_minute_later_than_it_says(late: timedelta, reason: str | None) -> None:
    assert why(CERTIFICATE, now=PROPOSAL.expires + late) == reason


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [
        (LONGEST_OPEN, None),
        (LONGEST_OPEN + SKEW, None),
        (LONGEST_OPEN + SKEW + timedelta(milliseconds=1), "ExpiryTooFar"),
    ],
)
def test_no_certificate_is_for_later(ahead: timedelta, reason: str | None) -> None:
    assert why(PANEL.certificate(replace(PROPOSAL, expires=NOON + ahead))) == reason


@pytest.mark.parametrize("skew", [-SKEW, timedelta(0), SKEW], ids=["behind", "right", "ahead"])
def test_within_the_skew_of_clocks_a_proposal_of_its_longest_time_is_taken_from_its_first_to_its_last_moment(
    skew: timedelta,
) -> None:
    certificate = PANEL.certificate(replace(PROPOSAL, expires=NOON + LONGEST_OPEN))
    assert [why(certificate, now=NOON + passed + skew) for passed in (timedelta(0), LONGEST_OPEN)] == [None, None]


@pytest.mark.parametrize(
    ("expires", "reason"),
    [(datetime.min.replace(tzinfo=UTC), "CertificateExpired"), (datetime.max.replace(tzinfo=UTC), "ExpiryTooFar")],
)
def test_no_date_is_too_far_to_be_refused(expires: datetime, reason: str) -> None:
    assert why(PANEL.certificate(replace(PROPOSAL, expires=expires))) == reason


def test_another_panels_certificate_is_foreign() -> None:
    assert why(CERTIFICATE, anchor=STRANGERS.membership.digest) == "ForeignPanel"
    assert why(STRANGERS.certificate(PROPOSAL)) == "ForeignPanel"


def test_without_members_nothing_is_certified() -> None:
    assert why(replace(CERTIFICATE, chain=())) == "MembershipMissing"


# Chains of memberships.


def rotated(*, voters: int = 6, after: panels.Agents = NEXT) -> Certificate:
    return Certificate(PROPOSAL, after.votes(PROPOSAL, 6), PANEL.followed_by(after, voters))


def changed(**values: Any) -> Certificate:
    """Return a certificate of the next members whose proposal says something else, and is signed by all before."""
    proposal = PANEL.followed_by(NEXT)[1].proposal
    assert proposal is not None
    other: Proposal = replace(proposal, **values)
    chain = (Certified(PANEL.membership), Certified(NEXT.membership, other, PANEL.votes(other, 8)))
    return Certificate(PROPOSAL, NEXT.votes(PROPOSAL, 6), chain)


def test_members_that_a_quorum_of_those_before_chose_certify() -> None:
    assert why(rotated(), version=2) is None


def test_those_before_are_out_of_office() -> None:
    assert why(CERTIFICATE, version=2) == "MembershipOld"
    old_votes = replace(rotated(), votes=PANEL.votes(PROPOSAL, 8))
    assert why(old_votes, version=2) == "QuorumMissing"
    mixed = replace(rotated(), votes=(*PANEL.votes(PROPOSAL, 3), *NEXT.votes(PROPOSAL, 5)))
    assert why(mixed, version=2) == "QuorumMissing"


@pytest.mark.parametrize("voters", range(6))
def test_members_that_fewer_chose_are_not_in_office(voters: int) -> None:
    assert why(rotated(voters=voters)) == "MembershipUncertified"


FORGED = {
    "nobody proposed it": replace(rotated(), chain=(Certified(PANEL.membership), Certified(NEXT.membership))),
    "of another kind": changed(kind=Kind.TRAFFIC),
    "another epoch": changed(epoch=3),
    "other members after": changed(change=(("after", ANCHOR), ("before", ANCHOR))),
    "other members before": changed(change=(("after", NEXT.membership.digest), ("before", NEXT.membership.digest))),
    "nothing changes": changed(change=()),
    "more is changed": changed(change=(*dict(changed().chain[1].proposal.change).items(), ("z", "z"))),  # type: ignore[union-attr]
    "the same version": rotated(after=panels.agents(generation=1, version=1)),
    "chosen by themselves": replace(
        rotated(),
        chain=(rotated().chain[0], replace(rotated().chain[1], votes=NEXT.votes(rotated().chain[1].proposal, 8))),  # type: ignore[arg-type]
    ),
    "unsound": rotated(after=panels.agents(6, 2, version=2)),
    "too many at once": rotated(after=panels.agents(12, 2, version=2)),
}


@pytest.mark.parametrize("certificate", FORGED.values(), ids=FORGED.keys())
def test_a_forged_chain_is_refused(certificate: Certificate) -> None:
    assert why(certificate) == "MembershipUncertified"


def test_a_chain_may_not_be_joined_where_it_was_cut() -> None:
    third = panels.agents(generation=2, version=3)
    chain = (*PANEL.followed_by(NEXT), NEXT.followed_by(third)[1])
    certificate = Certificate(PROPOSAL, third.votes(PROPOSAL, 6), chain)
    assert why(certificate, version=3) is None
    assert why(replace(certificate, chain=(chain[0], chain[2]))) == "MembershipUncertified"
    assert why(replace(certificate, chain=chain[1:])) == "ForeignPanel"


def test_a_vote_on_members_that_failed_uses_up_its_version_and_the_next_one_follows() -> None:
    """Its slot is full of ballots, so that the next try has another version, and nobody has the one between."""
    later = panels.agents(generation=2, version=4)
    assert why(Certificate(PROPOSAL, later.votes(PROPOSAL, 6), PANEL.followed_by(later)), version=2) is None


def test_what_is_written_says_each_key_once() -> None:
    written = certificates.to_json(CERTIFICATE)
    assert [vote["publicKey"] for vote in written["votes"]] == [encoded(vote.key) for vote in SIX]
