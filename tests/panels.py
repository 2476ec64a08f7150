"""Panels for tests: eight agents whose keys follow from their names, and what they sign."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from reembed.core.quorum.certificates import Certificate, Certified, Choice, Vote, ballot_message, evidence_digest
from reembed.core.quorum.membership import Member, Membership, Role
from reembed.core.quorum.proposals import Kind, Proposal, Side, Split, Subject
from reembed.signing import SigningKey

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD = Side("old", "uid-old", "c_old", "fp-old")
NEW = Side("new", "uid-new", "c_new", "fp-new")


def key(name: str, generation: int = 0) -> SigningKey:
    """Return an agent's key; it has another one in each generation."""
    return SigningKey.of(hashlib.sha256(f"{name}/{generation}".encode()).digest())


@dataclass(frozen=True)
class Agents:
    """A panel's agents with their keys."""

    membership: Membership
    keys: dict[str, SigningKey]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.membership.members)

    def vote(self, name: str, proposal: Proposal, choice: Choice = Choice.APPROVE) -> Vote:
        """Return what an agent signs."""
        signing, evidence = self.keys[name], evidence_digest({"of": name})
        message = ballot_message(proposal.digest, proposal.slot, choice, evidence)
        return Vote(signing.public, evidence, signing.sign(message))

    def votes(self, proposal: Proposal, voters: Iterable[str] | int) -> tuple[Vote, ...]:
        """Return the approving votes of these agents, or of the first so many."""
        chosen = self.names[:voters] if isinstance(voters, int) else tuple(voters)
        return tuple(self.vote(name, proposal) for name in chosen)

    def certificate(self, proposal: Proposal, voters: Iterable[str] | int = 6) -> Certificate:
        """Return a certificate of the first members."""
        return Certificate(proposal, self.votes(proposal, voters), (Certified(self.membership),))

    def followed_by(self, after: Agents, voters: int = 6) -> tuple[Certified, ...]:
        """Return the chain from these members to `after`, whose membership must have the next version."""
        change = (("after", after.membership.digest), ("before", self.membership.digest))
        proposal = replace(
            raising(0, 0),
            kind=Kind.MEMBERSHIP,
            subject=Subject("reembed-panel", "panel", "uid-panel"),
            epoch=after.membership.version,
            change=change,
        )
        return (
            Certified(self.membership),
            Certified(after.membership, proposal, self.votes(proposal, voters)),
        )


def agents(count: int = 8, faulty: int = 2, generation: int = 0, version: int = 1) -> Agents:
    """Return a panel; another generation has other keys."""
    roles = list(Role)
    named = [f"agent-{number}" for number in range(count)]
    keys = {name: key(name, generation) for name in named}
    members = tuple(Member(name, roles[at % len(roles)], keys[name].public) for at, name in enumerate(named))
    return Agents(Membership(version, faulty, members), keys)


def raising(before: int, after: int, epoch: int = 5, *, minutes: float = 5) -> Proposal:
    """Return the proposal to give the candidate of `uid-index` more of the queries."""
    return Proposal(
        kind=Kind.TRAFFIC,
        subject=Subject("shop", "articles", "uid-index", "to-new", "uid-migration"),
        epoch=epoch,
        before=Split(epoch - 1, before, OLD, NEW),
        after=Split(epoch, after, OLD, NEW),
        terms="0" * 64,
        expires=NOON + timedelta(minutes=minutes),
    )
