"""What the ballots of one proposal come to, and what every agent votes.

The operator counts to assemble a certificate; whoever executes counts again (`certificates`). A ballot is counted for
the proposal that it names, by the key that signed it: its name and what stands beside the signature are for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from reembed.core.quorum.certificates import (
    SKEW,
    Certificate,
    Certified,
    Choice,
    Vote,
    member_signed,
    signed,
)
from reembed.core.quorum.membership import Membership, Verify
from reembed.core.quorum.proposals import Proposal


@dataclass(frozen=True, slots=True)
class Cast:
    """One ballot as it was read: what it names and says, its vote, and the reasons that it gives."""

    digest: str
    choice: Choice
    vote: Vote
    reasons: tuple[str, ...] = ()


class Standing(Enum):
    """What a proposal has come to."""

    OPEN = "Open"  # a quorum may still be found
    CERTIFIED = "Certified"
    REFUSED = "Refused"  # so many refuse that one that is not faulty does
    EXPIRED = "Expired"  # its time is over without a quorum


@dataclass(frozen=True, slots=True)
class Count:
    """A proposal's standing, who said what by name, and the certificate if there is one."""

    standing: Standing
    approved: tuple[str, ...]
    refused: tuple[str, ...]
    missing: tuple[str, ...]
    reasons: tuple[str, ...] = ()  # of those who refused, the commonest first
    certificate: Certificate | None = None


def count(
    proposal: Proposal, ballots: Iterable[Cast], chain: tuple[Certified, ...], now: datetime, verify: Verify
) -> Count:
    """Return what these ballots make of the proposal, by the members at the end of `chain`."""
    membership = chain[-1].membership
    ours = [one for one in ballots if one.digest == proposal.digest]
    genuine = [one for one in ours if signed(one.vote, one.choice, proposal, membership, verify)]
    approving = {one.vote.key: one.vote for one in genuine if one.choice is Choice.APPROVE}
    # Who signed both lies; it is counted where it does no harm.
    refusing = {one.vote.key: one for one in genuine if one.choice is Choice.REJECT and one.vote.key not in approving}
    votes = tuple(approving[key] for key in sorted(approving))
    certified = len(votes) >= membership.quorum
    standing = _standing(membership, len(votes), len(refusing), late=now > proposal.expires)
    said = approving.keys() | refusing.keys()
    return Count(
        standing,
        approved=_names(membership, approving),
        refused=_names(membership, refusing),
        missing=_names(membership, [one.key for one in membership.members if one.key not in said]),
        reasons=_commonest([one.reasons[0] for one in refusing.values() if one.reasons]),
        certificate=Certificate(proposal, votes, chain) if certified else None,
    )


def elsewhere(proposal: Proposal, ballots: Iterable[Cast], membership: Membership, verify: Verify) -> int:
    """Return how many members voted in the proposal's slot for something else, so that they have no vote for it."""
    others = [one for one in ballots if one.digest != proposal.digest]
    keys = [
        one.vote.key
        for one in others
        if member_signed(one.vote, one.choice, (one.digest, proposal.slot), membership, verify)
    ]
    return len(set(keys))


def _standing(membership: Membership, approving: int, refusing: int, *, late: bool) -> Standing:
    if approving >= membership.quorum:
        return Standing.CERTIFIED
    # More refusals than leave a quorum, or enough to know that somebody honest refuses.
    if refusing >= min(membership.blocking, len(membership.members) - membership.quorum + 1):
        return Standing.REFUSED
    return Standing.EXPIRED if late else Standing.OPEN


def _names(membership: Membership, keys: Iterable[bytes]) -> tuple[str, ...]:
    held = set(keys)
    return tuple(sorted(member.name for member in membership.members if member.key in held))


def _commonest(reasons: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason)))


def too_late(proposal: Proposal, now: datetime) -> bool:
    """Return whether no gateway would take a certificate of the proposal any more."""
    return now - SKEW > proposal.expires
