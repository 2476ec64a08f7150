"""Whether a proposal was accepted by the panel, from nothing but what is written and the digest of its first members.

Whoever executes checks for itself: gateways before they give a candidate more queries, the operator before it begins
anything. What counts is distinct keys of members, never how many signatures or names of keys there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from reembed.core.quorum import canonical, proposals
from reembed.core.quorum import membership as members
from reembed.core.quorum.membership import SIGNATURE_BYTES, Membership, Verify, apart, encoded, unsound
from reembed.core.quorum.proposals import Kind, Proposal

# Two clocks differ by at most so much, or a vote's expiry means nothing.
SKEW = timedelta(seconds=30)
# Longer than this no proposal may wait: what its voters measured would be of another time.
LONGEST_OPEN = timedelta(minutes=10)


class Choice(Enum):
    """What a ballot says."""

    APPROVE = "Approve"
    REJECT = "Reject"


@dataclass(frozen=True, slots=True)
class Vote:
    """A signature under a proposal: the key's owner, and the digest of what it measured."""

    key: bytes
    evidence: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """A membership with the votes of the one before it; the first has none."""

    membership: Membership
    proposal: Proposal | None = None
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proposal, the votes for it, and the memberships from the one that an index names to the one that voted."""

    proposal: Proposal
    votes: tuple[Vote, ...]
    chain: tuple[Certified, ...]

    @property
    def digest(self) -> str:
        return self.proposal.digest


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not certified: a reason for programs, a message for people."""

    reason: str
    message: str


def ballot_message(digest: str, slot: str, choice: Choice, evidence: str) -> bytes:
    """Return what an agent signs: which proposal, in which slot, what it says and the digest of what it measured."""
    value = {"proposal": digest, "slot": slot, "choice": choice.value, "evidence": evidence}
    return canonical.message(canonical.BALLOT, value)


def evidence_digest(evidence: Any) -> str:
    return canonical.digest(canonical.EVIDENCE, evidence)


def signed(vote: Vote, choice: Choice, proposal: Proposal, membership: Membership, verify: Verify) -> bool:
    """Return whether a member signed that it says this of the proposal."""
    return member_signed(vote, choice, (proposal.digest, proposal.slot), membership, verify)


def member_signed(vote: Vote, choice: Choice, what: tuple[str, str], membership: Membership, verify: Verify) -> bool:
    """Return the same, of the proposal with this digest in this slot."""
    if membership.holder(vote.key) is None or len(vote.signature) != SIGNATURE_BYTES:
        return False
    return verify(vote.key, ballot_message(*what, choice, vote.evidence), vote.signature)


def supporters(votes: tuple[Vote, ...], proposal: Proposal, membership: Membership, verify: Verify) -> frozenset[bytes]:
    """Return the distinct keys of members that signed for the proposal."""
    return frozenset(vote.key for vote in votes if signed(vote, Choice.APPROVE, proposal, membership, verify))


def refused(certificate: Certificate, anchor: str, least_version: int, now: datetime, verify: Verify) -> Refusal | None:
    """Return why `certificate` lets nobody do anything, None if it does.

    `anchor` is the digest of the membership that the index names, `least_version` the newest membership that the caller
    has accepted so far: an older one is out of office.
    """
    checks: tuple[Callable[[], Refusal | None], ...] = (
        lambda: broken_chain(certificate.chain, anchor, verify),
        lambda: _out_of_office(certificate.chain, least_version),
        lambda: _expired(certificate.proposal, now),
        lambda: _short(certificate, verify),
    )
    return next((found for found in (check() for check in checks) if found is not None), None)


def broken_chain(chain: tuple[Certified, ...], anchor: str, verify: Verify) -> Refusal | None:
    """Return why a membership does not follow from the one that the index names."""
    if not chain:
        return Refusal("MembershipMissing", "it names no members whose votes it could have")
    first = chain[0].membership
    if first.digest != anchor:
        text = f"its members have the digest {first.digest}, and the index's panelRef says {anchor}"
        return Refusal("ForeignPanel", text)
    before: Membership | None = None
    for one in chain:
        wrong = unsound(one.membership) or (None if before is None else _unfollowed(before, one, verify))
        if wrong is not None:
            return Refusal("MembershipUncertified", f"membership {one.membership.version}: {wrong}")
        before = one.membership
    return None


def _unfollowed(before: Membership, one: Certified, verify: Verify) -> str | None:
    """Return why the members of `before` did not choose those of `one`."""
    proposal, after = one.proposal, one.membership
    if proposal is None or proposal.kind is not Kind.MEMBERSHIP:
        return "nobody proposed it"
    # Versions are left out where a vote failed: its slot is used up, and the next try has a slot of its own.
    if after.version <= before.version or proposal.epoch != after.version:
        return f"version {after.version} does not follow {before.version}"
    if dict(proposal.change) != {"before": before.digest, "after": after.digest}:
        return "what was voted on names other members"
    if (far := apart(before, after)) is not None:
        return far
    found = len(supporters(one.votes, proposal, before, verify))
    return None if found >= before.quorum else f"{found} of {before.quorum} votes of those before it"


def _out_of_office(chain: tuple[Certified, ...], least_version: int) -> Refusal | None:
    version = chain[-1].membership.version
    if version >= least_version:
        return None
    text = f"it has the votes of membership {version}, and membership {least_version} is in office"
    return Refusal("MembershipOld", text)


def _expired(proposal: Proposal, now: datetime) -> Refusal | None:
    # What is read is never added to: a liar's year 9999 and half a minute would be no date any more.
    if now - SKEW > proposal.expires:
        return Refusal("CertificateExpired", f"it was to be used until {proposal.expires:%Y-%m-%d %H:%M:%S} UTC")
    if proposal.expires > now + LONGEST_OPEN + SKEW:
        return Refusal("ExpiryTooFar", f"it is to be used until {proposal.expires:%Y-%m-%d %H:%M:%S} UTC: too long")
    return None


def _short(certificate: Certificate, verify: Verify) -> Refusal | None:
    membership = certificate.chain[-1].membership
    found = len(supporters(certificate.votes, certificate.proposal, membership, verify))
    if found >= membership.quorum:
        return None
    given = len(certificate.votes)
    text = f"{found} members signed for it ({given} signatures), fewer than the {membership.quorum} that decide"
    return Refusal("QuorumMissing", text)


def to_json(certificate: Certificate) -> dict[str, Any]:
    """Return the certificate as it stands in an index's status; `api.panel` reads it back."""
    return {
        "proposal": proposals.to_json(certificate.proposal),
        "votes": _votes(certificate.votes),
        "memberships": chain_to_json(certificate.chain),
    }


def chain_to_json(chain: tuple[Certified, ...]) -> list[dict[str, Any]]:
    """Return memberships with the votes for them."""
    rendered = []
    for one in chain:
        voted = {} if one.proposal is None else {"proposal": proposals.to_json(one.proposal)}
        rendered.append(members.to_json(one.membership) | voted | {"votes": _votes(one.votes)})
    return rendered


def _votes(votes: tuple[Vote, ...]) -> list[dict[str, str]]:
    return [
        {"publicKey": encoded(one.key), "evidence": one.evidence, "signature": encoded(one.signature)} for one in votes
    ]
