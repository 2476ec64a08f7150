"""What is hashed and signed stays what it was, and the signature of one thing never passes for that of another."""

import hashlib
import itertools
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reembed.core.quorum import canonical, proposals
from reembed.core.quorum.certificates import Choice, ballot_message, evidence_digest
from reembed.core.quorum.proposals import Kind, Proposal, Side, Split, Subject
from tests import panels

PROPOSAL = panels.raising(10, 50)
PANEL = panels.agents()


@pytest.mark.parametrize(
    ("found", "digest"),
    [
        (PROPOSAL.digest, "432ac74e196a24857da037b6e82b4cfdb0894865b51677d3a0c4d78d59f8a1a1"),
        (PROPOSAL.slot, "s0f2866df9a2fa3dad19f2f764c156e4e"),
        (PANEL.membership.digest, "2304da33fd56fa0669f69c8761c3b112ffba1987802efdf7d21470a1224f4572"),
        (
            evidence_digest({"probes": 5}),
            "f413d7b186413995c2c97304ac3fbd7e3ab21a3b4fcbdb451df28ed0a8073eb0",
        ),
        (proposals.terms({"steps": [10, 50]}), "4912910fc3a1e302a50a176ba8d40720fe931b8d55e4dccbf754347f46ca7307"),
    ],
    ids=["proposal", "slot", "membership", "evidence", "terms"],
)
def test_a_digest_is_the_same_for_ever(found: str, digest: str) -> None:
    """Whoever changes one of these makes agents and gateways of two versions deaf to each other."""
    assert found == digest


def test_a_ballot_signs_these_bytes() -> None:
    text = '{"choice":"Approve","evidence":"e","proposal":"d","slot":"s"}'
    assert ballot_message("d", "s", Choice.APPROVE, "e") == f"reembed.dev/ballot/v1\n{text}".encode()


def test_a_digest_is_what_anybody_computes_from_the_text_in_the_api() -> None:
    text = json.dumps(proposals.to_json(PROPOSAL), sort_keys=True, separators=(",", ":"))
    assert PROPOSAL.digest == hashlib.sha256(b"reembed.dev/proposal/v1\n" + text.encode()).hexdigest()


def test_no_domain_begins_like_another() -> None:
    domains = [canonical.MEMBERSHIP, canonical.PROPOSAL, canonical.BALLOT, canonical.EVIDENCE, "terms"]
    heads = [canonical.message(domain, {}) for domain in domains]
    assert [(a, b) for a, b in itertools.permutations(heads, 2) if a.startswith(b)] == []


def test_one_value_has_another_digest_in_each_domain() -> None:
    domains = [canonical.MEMBERSHIP, canonical.PROPOSAL, canonical.BALLOT, canonical.EVIDENCE, "terms"]
    assert len({canonical.digest(domain, {"a": 1}) for domain in domains}) == len(domains)


SIDE = Side("third", "uid-third", "c_third", "fp-third")
CHANGES: list[dict[str, Any]] = [
    {"kind": Kind.COMPLETE},
    *({"subject": replace(PROPOSAL.subject, **{name: "other"})} for name in Subject.__slots__),
    {"epoch": 6},
    {"before": replace(PROPOSAL.before, weight=11)},
    {"before": replace(PROPOSAL.before, epoch=3)},
    {"after": replace(PROPOSAL.after, weight=51)},
    {"after": replace(PROPOSAL.after, candidate=None)},
    *({"after": replace(PROPOSAL.after, serving=replace(panels.OLD, **{name: "other"}))} for name in Side.__slots__),
    {"after": replace(PROPOSAL.after, candidate=SIDE)},
    {"after": Split(5, 50, panels.NEW, panels.OLD)},
    {"terms": "1" * 64},
    {"expires": PROPOSAL.expires + timedelta(milliseconds=1)},
    {"change": (("a", "b"),)},
]


@pytest.mark.parametrize("changed", CHANGES, ids=lambda changed: next(iter(changed)))
def test_whatever_a_proposal_says_is_in_its_digest(changed: dict[str, Any]) -> None:
    assert replace(PROPOSAL, **changed).digest != PROPOSAL.digest


def test_a_proposal_is_named_by_its_digest() -> None:
    assert f"d{PROPOSAL.digest}".startswith(PROPOSAL.name)
    assert len(PROPOSAL.name) == 41


def of(uid: str, kind: Kind, epoch: int) -> Proposal:
    return replace(PROPOSAL, kind=kind, epoch=epoch, subject=replace(PROPOSAL.subject, uid=uid))


def test_a_slot_is_the_subjects_sequence_and_epoch_and_nothing_else() -> None:
    other = replace(PROPOSAL, terms="1" * 64, after=replace(PROPOSAL.after, weight=100), expires=panels.NOON)
    assert other.slot == PROPOSAL.slot
    assert of("uid-index", Kind.COMPLETE, 5).slot == PROPOSAL.slot  # both move the same traffic
    # A subject whose UID looks like the rest of another slot's name is another subject.
    ways = itertools.product(["u", "u/Memory/1", "u/Routing/1"], Kind, [1, 11, -1])
    slots = {of(uid, kind, epoch).slot: (uid, kind) for uid, kind, epoch in ways}
    assert len(slots) == 3 * (len(Kind) - 1) * 3


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), "\ud800"], ids=repr)
def test_what_other_programs_would_read_as_something_else_has_no_digest(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the library's own has no better name
        canonical.digest(canonical.EVIDENCE, {"value": value})
