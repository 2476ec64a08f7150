"""The rules against a second, slow and simple implementation of them, on random votes, chains and routings."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reembed.api.routing import render_arm
from reembed.core.model import Arm, Routing
from reembed.core.quorum import certificates, proposals
from reembed.core.quorum.certificates import Certificate, Certified, Choice, Vote, ballot_message, refused
from reembed.core.quorum.counting import Cast, count
from reembed.core.quorum.membership import Member, Membership, Role, encoded, to_json, unsound
from reembed.core.quorum.proposals import Kind, Proposal, Side
from reembed.core.quorum.raising import Trust, uncertified
from tests import panels
from tests import reference_quorum as reference

NOON = panels.NOON
BASE = panels.raising(10, 50)
SIZES = [(1, 0), (4, 1), (5, 1), (8, 2)]


@cache
def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


class Signatures:
    """Who signed what: as good as Ed25519 for rules that only ask, cheap, and there for the reference to look up."""

    def __init__(self) -> None:
        self.made: dict[tuple[bytes, bytes], bytes] = {}

    def sign(self, name: str, message: bytes) -> bytes:
        signature = hashlib.sha512(key(name) + message).digest()
        self.made[key(name), message] = signature
        return signature

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return self.made.get((public, message)) == signature

    def known(self) -> reference.Signed:
        return [(encoded(public), message, encoded(signature)) for (public, message), signature in self.made.items()]


@st.composite
def votes(draw: st.DrawFn, signatures: Signatures, proposal: Proposal, count: int) -> tuple[Vote, ...]:
    """Return votes of which most are good: of the first so many agents and of strangers, some of something else."""
    names = st.integers(0, count).map("agent-{}".format)
    good = [f"agent-{at}" for at in range(draw(st.sampled_from([count, count - 1, count - 2, count - 3, 0])))]
    made = [Vote(key(one), "e", signatures.sign(one, approval(proposal))) for one in good]
    for name in draw(st.lists(names, max_size=3)):
        flaw = draw(st.sampled_from(["", "proposal", "slot", "choice", "evidence", "key", "cut"]))
        about = replace(proposal, terms="2" * 64) if flaw == "proposal" else proposal
        slot = "s" + "0" * 32 if flaw == "slot" else about.slot
        choice = Choice.REJECT if flaw == "choice" else Choice.APPROVE
        signature = signatures.sign(name, ballot_message(about.digest, slot, choice, "e"))
        public = key(draw(names)) if flaw == "key" else key(name)
        made.append(Vote(public, "x" if flaw == "evidence" else "e", signature[:63] if flaw == "cut" else signature))
    return tuple(made)


def approval(proposal: Proposal) -> bytes:
    return ballot_message(proposal.digest, proposal.slot, Choice.APPROVE, "e")


@st.composite
def memberships(draw: st.DrawFn, size: tuple[int, int], version: int) -> Membership:
    """Return mostly sound members: some with others' keys or names, some fewer."""
    number, faulty = size
    people = [Member(f"agent-{at}", Role.MEMORY_ANALYST, key(f"agent-{at}")) for at in range(number)]
    flaw = draw(st.sampled_from([""] * 12 + ["key", "name", "fewer", "moved"]))
    if flaw == "key":
        people[0] = replace(people[0], key=people[-1].key)
    if flaw == "name":
        people[0] = replace(people[0], name=people[-1].name)
    if flaw == "moved":
        moved = draw(st.integers(1, number))
        people = people[moved:] + [
            Member(f"new-{at}", Role.MEMORY_ANALYST, key(f"agent-{at}")) for at in range(number)[:moved]
        ]
    return Membership(version, faulty, tuple(people[: number - 1] if flaw == "fewer" else people))


@st.composite
def chains(draw: st.DrawFn, signatures: Signatures) -> tuple[Certified, ...]:
    size = draw(st.sampled_from(SIZES))
    chain = [Certified(draw(memberships(size, draw(st.integers(0, 2)))))]
    for _ in range(draw(st.integers(0, 2))):
        before = chain[-1].membership
        after = draw(memberships(size, before.version + draw(st.sampled_from([1, 1, 1, 2, 0]))))
        flaw = draw(st.sampled_from([""] * 12 + ["kind", "epoch", "change", "none"]))
        change = (("after", after.digest), ("before", after.digest if flaw == "change" else before.digest))
        proposal = replace(
            BASE,
            kind=Kind.TUNING if flaw == "kind" else Kind.MEMBERSHIP,
            epoch=after.version + (flaw == "epoch"),
            change=change,
        )
        given_votes = draw(votes(signatures, proposal, size[0]))
        chain.append(Certified(after) if flaw == "none" else Certified(after, proposal, given_votes))
    return tuple(chain)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_certificate_is_one_if_and_only_if_the_reference_says_so(data: st.DataObject) -> None:
    signatures = Signatures()
    chain = data.draw(chains(signatures))
    expires = data.draw(st.sampled_from([60, -30, 0, 600, 630, -31, 631]))
    proposal = replace(BASE, expires=NOON + timedelta(seconds=expires))
    certificate = Certificate(proposal, data.draw(votes(signatures, proposal, len(chain[0].membership.members))), chain)
    anchor = data.draw(st.sampled_from([chain[0].membership.digest] * 9 + [chain[-1].membership.digest]))
    least = data.draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))
    found = refused(certificate, anchor, least, NOON, signatures.verify)
    written = certificates.to_json(certificate)
    assert (found is None) == reference.certified(written, anchor, least, 0, expires, signatures.known())


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_ballots_come_to_what_the_reference_says(data: st.DataObject) -> None:
    signatures = Signatures()
    size = data.draw(st.sampled_from(SIZES))
    membership = data.draw(memberships(size, 1))
    cast = []
    for choice in data.draw(st.lists(st.sampled_from(Choice), max_size=12)):
        name = f"agent-{data.draw(st.integers(0, size[0]))}"
        told = data.draw(st.sampled_from([choice] * 5 + list(Choice)))
        about = data.draw(st.sampled_from([BASE] * 5 + [panels.raising(10, 100)]))
        signature = signatures.sign(name, ballot_message(about.digest, about.slot, told, "e"))
        cast.append(
            Cast(data.draw(st.sampled_from([about] * 5 + [BASE])).digest, choice, Vote(key(name), "e", signature))
        )
    late = data.draw(st.booleans())
    now = BASE.expires + timedelta(seconds=1 if late else 0)
    found = count(BASE, cast, (Certified(membership),), now, signatures.verify)
    ballots = [
        {
            "proposal": one.digest,
            "choice": one.choice.value,
            "publicKey": encoded(one.vote.key),
            "evidence": one.vote.evidence,
            "signature": encoded(one.vote.signature),
        }
        for one in cast
    ]
    proposal = proposals.to_json(BASE)
    assert found.standing.value == reference.standing(proposal, ballots, to_json(membership), late, signatures.known())


def side(arm: Arm | None) -> Side | None:
    return None if arm is None else Side(arm.pool, f"uid-{arm.pool}", arm.collection, arm.fingerprint)


ARMS = st.sampled_from([Arm("a", "c", "f"), Arm("b", "c", "f"), Arm("b", "d", "f"), Arm("b", "c", "g"), None])
ROUTINGS = st.builds(Routing, st.integers(5, 7), ARMS, ARMS, st.sampled_from([0, 10, 50, 100]))


@st.composite
def voted(draw: st.DrawFn, told: Routing) -> Proposal:
    """Return a proposal that mostly says what is told."""
    proposal = replace(
        BASE,
        epoch=told.epoch,
        before=replace(BASE.before, epoch=draw(st.integers(3, 6))),
        after=proposals.Split(told.epoch, told.weight, side(told.serving), side(told.candidate)),
    )
    other = draw(ROUTINGS)
    after: dict[str, dict[str, Any]] = {
        "weight": {"weight": other.weight},
        "serving": {"serving": side(other.serving)},
        "candidate": {"candidate": side(other.candidate)},
        "after": {"epoch": other.epoch},
    }
    flaw = draw(st.sampled_from(["", "", "", "", "kind", "index", "epoch", *after]))
    if flaw in after:
        return replace(proposal, after=replace(proposal.after, **after[flaw]))
    if flaw == "kind":
        return replace(proposal, kind=draw(st.sampled_from(Kind)))
    if flaw == "index":
        return replace(proposal, subject=replace(proposal.subject, uid="uid-other"))
    return replace(proposal, epoch=other.epoch) if flaw == "epoch" else proposal


def written(routing: Routing) -> dict[str, Any]:
    arms = {"serving": render_arm(routing.serving), "candidate": render_arm(routing.candidate)}
    return {"epoch": routing.epoch, "weight": routing.weight, **arms}


@settings(deadline=None, max_examples=300)
@given(ROUTINGS, ROUTINGS, st.data())
def test_a_routing_is_followed_if_and_only_if_the_reference_would(
    held: Routing, told: Routing, data: st.DataObject
) -> None:
    signatures = Signatures()
    proposal = data.draw(voted(told))
    name, kept, good = data.draw(st.sampled_from([("a", True, True)] * 4 + [("a", False, False), ("b", True, False)]))
    members = Membership(1, 0, (Member("a", Role.MEMORY_ANALYST, key("a")),))
    chain = (Certified(members),)
    message = ballot_message(proposal.digest, proposal.slot, Choice.APPROVE, "e")
    vote = Vote(key(name), "e", signatures.sign(name, message))
    certificate = Certificate(proposal, (vote,), chain) if kept else None
    trust = Trust(BASE.subject.uid, members.digest, 1)
    found = uncertified(held, replace(told, certificate=certificate), trust, NOON, signatures.verify)
    expected = reference.may_follow(
        written(held), written(told), proposals.to_json(proposal) if kept else None, trust.index_uid, good
    )
    assert (found is None) == expected


@pytest.mark.parametrize("size", [(n, f) for n in range(1, 17) for f in range(6)])
def test_quorums_and_soundness_are_the_references(size: tuple[int, int]) -> None:
    membership = panels.agents(*size).membership
    plain = to_json(membership)
    assert (unsound(membership) is None) == reference.sound(plain)
    assert membership.quorum == reference.quorum_of(plain)


def test_digests_and_slots_are_the_references() -> None:
    for kind in Kind:
        proposal = replace(BASE, kind=kind, change=(("é", "\u2028"),))
        plain = proposals.to_json(proposal)
        assert (proposal.digest, proposal.slot) == (reference.digest_of("proposal", plain), reference.slot_of(plain))
    assert panels.agents().membership.digest == reference.digest_of("membership", to_json(panels.agents().membership))
