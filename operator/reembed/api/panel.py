"""Panel, Decision and Ballot <-> `core.quorum`, and the certificate that an index's status carries."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw, parse_meta
from reembed.api.values import parse_time
from reembed.core import names
from reembed.core.model import Meta
from reembed.core.quorum import certificates, proposals
from reembed.core.quorum import membership as members_of
from reembed.core.quorum.certificates import Certificate, Certified, Choice, Vote
from reembed.core.quorum.membership import Member, Membership, Role, decoded, encoded
from reembed.core.quorum.proposals import OF_ROUTING, Kind, Proposal, Side, Split, Subject

_API_VERSION = f"{names.GROUP}/{names.VERSION}"

# The proposer that is no agent, and what it alone may propose.
OPERATOR = "operator"
OF_OPERATOR = OF_ROUTING | {Kind.LOAD_MODEL}
# Half of the largest number that can be signed: whatever was proposed, a later epoch has a digest.
MOST_EPOCH = 2**52


@dataclass(frozen=True, slots=True)
class Panel:
    """A Panel: the members that its user wishes for, and those in office with the way that led to them."""

    meta: Meta
    wished: Membership
    chain: tuple[Certified, ...]  # from the first membership on; empty before anybody is in office

    @property
    def active(self) -> Membership | None:
        return self.chain[-1].membership if self.chain else None


@dataclass(frozen=True, slots=True)
class Decision:
    """A proposal that was put to the panel, and by whom: the operator, or an agent's name."""

    meta: Meta
    proposal: Proposal
    proposer: str


@dataclass(frozen=True, slots=True)
class Ballot:
    """One agent's vote in one slot; what it measured stands beside it, and its digest is signed."""

    agent: str
    slot: str
    digest: str
    choice: Choice
    vote: Vote
    reasons: tuple[str, ...] = ()
    evidence: dict[str, Any] | None = None


def parse_panel(raw: Raw) -> Panel:
    """Return a Panel.

    Raises:
        InvalidField: a field does not hold what the CRD asks for.

    """
    spec, status = Fields(raw["spec"], "spec"), Fields(raw.get("status") or {}, "status")
    chain = tuple(parse_certified(one) for one in status.each("memberships"))
    version = chain[-1].membership.version + 1 if chain else 1
    return Panel(parse_meta(raw), _parse_members(spec, version), chain)


def render_memberships(chain: tuple[Certified, ...]) -> list[dict[str, Any]]:
    """Return the memberships of a Panel's status."""
    return certificates.chain_to_json(chain)


def parse_decision(raw: Raw) -> Decision:
    """Return a Decision.

    Raises:
        InvalidField: a field does not hold what the CRD asks for, its name is not that of its proposal, or it is not
            its proposer's to propose. Whoever counts epochs or votes must leave it out: an agent votes once in a slot,
            so a liar that filled the operator's slots would stop every migration.

    """
    spec = Fields(raw["spec"], "spec")
    proposal, meta = parse_proposal(spec.into("proposal")), parse_meta(raw)
    if meta.name != proposal.name:
        raise InvalidField("metadata.name", meta.name, f"{proposal.name}, which names what is proposed")
    proposer = spec.text("proposer")
    if proposer != OPERATOR and proposal.kind in OF_OPERATOR:
        raise InvalidField("spec.proposer", proposer, f"{OPERATOR}, which alone proposes {proposal.kind.value}")
    if proposal.epoch > MOST_EPOCH:
        raise InvalidField("spec.proposal.epoch", proposal.epoch, f"at most {MOST_EPOCH}, so that others can follow it")
    return Decision(meta, proposal, proposer)


def render_decision(proposal: Proposal, namespace: str, proposer: str) -> dict[str, Any]:
    """Return the Decision that puts a proposal to the panel of a namespace."""
    return {
        "apiVersion": _API_VERSION,
        "kind": "Decision",
        "metadata": {"namespace": namespace, "name": proposal.name, "labels": {names.LABEL_SLOT: proposal.slot}},
        "spec": {"proposer": proposer, "slot": proposal.slot, "proposal": proposals.to_json(proposal)},
    }


def parse_ballot(raw: Raw) -> Ballot:
    """Return a Ballot; whether its signature holds is for `core.quorum` to say.

    Raises:
        InvalidField: a field does not hold what the CRD asks for, or its name is not that of its agent and slot.

    """
    spec = Fields(raw["spec"], "spec")
    agent, slot = spec.text("agent"), spec.text("slot")
    name = raw["metadata"]["name"]
    if name != proposals.ballot_name(slot, agent):
        raise InvalidField("metadata.name", name, f"{proposals.ballot_name(slot, agent)}, the agent's only one there")
    return Ballot(
        agent=agent,
        slot=slot,
        digest=spec.text("proposal"),
        choice=spec.choice("choice", Choice),
        vote=Vote(_key(spec, "publicKey"), spec.text("evidenceDigest"), _key(spec, "signature")),
        reasons=tuple(_shown(one) for one in spec.texts("reasons")),
        evidence=_parse_evidence(spec),
    )


def render_ballot(ballot: Ballot, namespace: str, decision: Meta) -> dict[str, Any]:
    """Return the Ballot as an object that goes with its Decision."""
    owner = {"apiVersion": _API_VERSION, "kind": "Decision", "name": decision.name, "uid": decision.uid}
    return {
        "apiVersion": _API_VERSION,
        "kind": "Ballot",
        "metadata": {
            "namespace": namespace,
            "name": proposals.ballot_name(ballot.slot, ballot.agent),
            "labels": {names.LABEL_SLOT: ballot.slot},
            "ownerReferences": [owner],
        },
        "spec": {
            "agent": ballot.agent,
            "slot": ballot.slot,
            "proposal": ballot.digest,
            "choice": ballot.choice.value,
            "publicKey": encoded(ballot.vote.key),
            "evidenceDigest": ballot.vote.evidence,
            "signature": encoded(ballot.vote.signature),
            "reasons": list(ballot.reasons),
            # As text, part by part: as objects an agent could nest them so deep that no reader of a list gets through.
            "evidence": {name: json.dumps(part) for name, part in (ballot.evidence or {}).items()},
        },
    }


def _shown(text: str) -> str:
    """Return what an agent wrote without what would move a terminal's cursor: people read it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _parse_evidence(spec: Fields) -> dict[str, Any]:
    parts = spec.mapping("evidence")
    try:
        return {name: json.loads(text) for name, text in parts.items()}
    except (ValueError, RecursionError) as error:
        raise InvalidField("spec.evidence", str(error), "parts in JSON") from error


def parse_certificate(fields: Fields) -> Certificate:
    """Return a certificate of an index's status.

    Raises:
        InvalidField: it is not one.

    """
    chain = tuple(parse_certified(one) for one in fields.each("memberships"))
    return Certificate(parse_proposal(fields.into("proposal")), _parse_votes(fields), chain)


def parse_certified(fields: Fields) -> Certified:
    """Return a membership with the votes for it."""
    proposal = fields.maybe("proposal")
    return Certified(
        _parse_members(fields, fields.number("version")),
        parse_proposal(proposal) if proposal is not None else None,
        _parse_votes(fields),
    )


def parse_proposal(fields: Fields) -> Proposal:
    """Return a proposal."""
    subject = fields.into("subject")
    proposal = Proposal(
        kind=fields.choice("kind", Kind),
        subject=Subject(
            subject.text("namespace"),
            subject.text("name"),
            subject.text("uid"),
            subject.text("migration", ""),
            subject.text("migrationUid", ""),
        ),
        epoch=fields.number("epoch"),
        before=_parse_split(fields.into("before")),
        after=_parse_split(fields.into("after")),
        terms=fields.text("terms"),
        expires=fields.parsed("expires", parse_time),
        change=tuple(sorted(fields.mapping("change").items())),
    )
    sides = [side for split in (proposal.before, proposal.after) for side in (split.serving, split.candidate)]
    _printable("proposal", proposal.subject, *(side for side in sides if side is not None))
    _printable("proposal.change", *(one for pair in proposal.change for one in pair))
    _digest("proposal", lambda: proposal.digest)
    return proposal


def _printable(what: str, *values: Any) -> None:
    """Refuse names that no object has: an agent that lies would write on the terminal of who looks at them."""
    for value in values:
        texts = [value] if isinstance(value, str) else astuple(value)
        odd = next((one for one in texts if isinstance(one, str) and not one.isprintable()), None)
        if odd is not None:
            raise InvalidField(what, ascii(odd), "text that can be printed")


def _digest(what: str, compute: Callable[[], str]) -> None:
    """Refuse what has no digest: whoever may write an object could end every reader of it by one number."""
    try:
        compute()
    except ValueError as error:
        raise InvalidField(what, str(error), "text, and whole numbers below 2^53") from error


def _parse_members(fields: Fields, version: int) -> Membership:
    members = tuple(
        Member(one.text("name"), one.choice("role", Role), _key(one, "publicKey")) for one in fields.each("members")
    )
    _printable("members", *(member.name for member in members))
    membership = Membership(version, fields.number("faulty"), members)
    _digest("members", lambda: membership.digest)
    return membership


def _parse_votes(fields: Fields) -> tuple[Vote, ...]:
    return tuple(
        Vote(_key(one, "publicKey"), one.text("evidence"), _key(one, "signature")) for one in fields.each("votes")
    )


def _parse_split(fields: Fields) -> Split:
    return Split(
        fields.number("epoch"),
        fields.number("weight"),
        _parse_side(fields.maybe("serving")),
        _parse_side(fields.maybe("candidate")),
    )


def _parse_side(fields: Fields | None) -> Side | None:
    if fields is None:
        return None
    return Side(fields.text("pool"), fields.text("poolUid"), fields.text("collection"), fields.text("fingerprint"))


def _key(fields: Fields, name: str) -> bytes:
    raw = decoded(fields.text(name))
    if raw is None:
        raise InvalidField(name, fields.text(name), "base64")
    return raw


def membership_json(found: Membership) -> dict[str, Any]:
    """Return the members as a Panel's spec has them."""
    rendered = members_of.to_json(found)
    del rendered["version"]
    return rendered
