"""What the panel's objects say is read back as it was written, and what is not theirs is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reembed.api import InvalidField
from reembed.api.fields import Fields
from reembed.api.panel import (
    Ballot,
    membership_json,
    parse_ballot,
    parse_certificate,
    parse_decision,
    parse_panel,
    render_ballot,
    render_decision,
    render_memberships,
)
from reembed.api.specs import parse_terms
from reembed.core.model import Meta
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.proposals import Kind
from tests import panels

PROPOSAL = panels.raising(10, 50)
PANEL = panels.agents()
META = {"namespace": "reembed-panel", "uid": "u-1"}
BALLOT = Ballot(
    "agent-1",
    PROPOSAL.slot,
    PROPOSAL.digest,
    Choice.REJECT,
    PANEL.vote("agent-1", PROPOSAL, Choice.REJECT),
    ("ProbesFail: 2 of 5 probes failed",),
    {"probes": {"asked": 5, "failed": [0.5, None]}, "at": "noon"},
)


def stored(rendered: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {**rendered, "metadata": rendered["metadata"] | META | changed}


def test_a_decision_is_read_back_as_it_was_proposed() -> None:
    found = parse_decision(stored(render_decision(PROPOSAL, "reembed-panel", "operator")))
    assert (found.proposal, found.proposer) == (PROPOSAL, "operator")


def test_a_decision_whose_name_is_not_that_of_its_proposal_is_refused() -> None:
    with pytest.raises(InvalidField):
        parse_decision(stored(render_decision(PROPOSAL, "reembed-panel", "operator"), name="d" + "0" * 40))


@pytest.mark.parametrize("kind", Kind)
def test_what_moves_queries_or_loads_a_model_is_the_operators_alone_to_propose(kind: Kind) -> None:
    raw = stored(render_decision(replace(PROPOSAL, kind=kind), "reembed-panel", "agent-1"))
    if kind in (Kind.TRAFFIC, Kind.COMPLETE, Kind.LOAD_MODEL):
        with pytest.raises(InvalidField):
            parse_decision(raw)
    else:
        assert parse_decision(raw).proposer == "agent-1"


def test_no_decision_leaves_later_ones_without_an_epoch() -> None:
    last, beyond = (replace(PROPOSAL, kind=Kind.MEMORY, epoch=2**52 + more) for more in (0, 1))
    found = parse_decision(stored(render_decision(last, "reembed-panel", "agent-1")))
    assert replace(last, epoch=found.proposal.epoch + 1).digest
    with pytest.raises(InvalidField):
        parse_decision(stored(render_decision(beyond, "reembed-panel", "agent-1")))


def test_a_ballot_is_read_back_as_it_was_cast() -> None:
    decision = parse_decision(stored(render_decision(PROPOSAL, "reembed-panel", "operator")))
    assert parse_ballot(stored(render_ballot(BALLOT, "reembed-panel", decision.meta))) == BALLOT


def test_a_ballot_with_another_agents_name_is_refused() -> None:
    meta = Meta("reembed-panel", PROPOSAL.name, "u-1", 1, "1")
    with pytest.raises(InvalidField):
        parse_ballot(stored(render_ballot(BALLOT, "reembed-panel", meta), name=f"{PROPOSAL.slot}.agent-2"))


@pytest.mark.parametrize(
    "certificate", [PANEL.certificate(PROPOSAL), PANEL.certificate(replace(PROPOSAL, change=(("a", "b"),)), 0)]
)
def test_a_certificate_is_read_back_with_the_digests_that_were_signed(certificate: certificates.Certificate) -> None:
    assert parse_certificate(Fields(certificates.to_json(certificate), "certificate")) == certificate


@pytest.mark.parametrize("text", ["no JSON", "[" * 100_000], ids=["no JSON", "deep"])
def test_a_ballot_whose_evidence_cannot_be_read_is_refused_and_ends_no_reader(text: str) -> None:
    decision = parse_decision(stored(render_decision(PROPOSAL, "reembed-panel", "operator")))
    raw = stored(render_ballot(BALLOT, "reembed-panel", decision.meta))
    raw["spec"]["evidence"]["probes"] = text
    with pytest.raises(InvalidField):
        parse_ballot(raw)


def _unbounded(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield where an object may hold whatever its author likes, nested as deep as it likes."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        yield path
    below = [
        *schema.get("properties", {}).items(),
        ("[]", schema.get("items")),
        ("*", schema.get("additionalProperties")),
    ]
    for name, field in below:
        if isinstance(field, dict):
            yield from _unbounded(field, f"{path}.{name}")


@pytest.mark.parametrize("kind", ["ballots", "decisions", "panels"])
def test_what_an_agent_may_write_is_never_nested_deeper_than_its_readers_can_read(kind: str) -> None:
    """A list is read as a whole: one object that no JSON reader gets through would end every reader for ever."""
    crd = yaml.safe_load((Path(__file__).parents[3] / "crds" / f"{kind}.yaml").read_text())
    assert list(_unbounded(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind)) == []


@pytest.mark.parametrize("changed", [{"epoch": 2**53}, {"terms": "\ud800"}], ids=["a number", "half a character"])
def test_a_proposal_that_has_no_digest_is_refused_and_ends_no_reader(changed: dict[str, Any]) -> None:
    raw = stored(render_decision(PROPOSAL, "reembed-panel", "operator"))
    raw["spec"]["proposal"] |= changed
    with pytest.raises(InvalidField):
        parse_decision(raw)


def test_members_that_have_no_digest_are_refused() -> None:
    raw = {"metadata": META | {"name": "panel"}, "spec": membership_json(PANEL.membership) | {"faulty": 2**53}}
    with pytest.raises(InvalidField):
        parse_panel(raw)


def test_a_pause_is_none_of_a_migrations_terms() -> None:
    spec = {"target": {"poolRef": {"name": "new"}}, "canary": {"steps": [{"weight": 100}]}}
    paused, other = spec | {"paused": True}, spec | {"canary": {"steps": []}}
    assert parse_terms({"spec": paused}) == parse_terms({"spec": spec}) != parse_terms({"spec": other})


def test_a_panel_is_read_back_with_those_in_office() -> None:
    after = panels.agents(generation=1, version=2)
    chain = PANEL.followed_by(after)
    raw = {
        "metadata": META | {"name": "panel"},
        "spec": membership_json(after.membership),
        "status": {"memberships": render_memberships(chain)},
    }
    found = parse_panel(raw)
    assert (found.chain, found.active) == (chain, after.membership)
    assert found.wished == replace(after.membership, version=3)


ESCAPE = "a\x1b[2Jb\x9bH"


def test_what_an_agent_writes_moves_no_terminals_cursor() -> None:
    """People read reasons and names, in `panel status`, in a status and in events."""
    told = stored(
        render_ballot(replace(BALLOT, reasons=(ESCAPE,)), "agents", Meta("agents", PROPOSAL.name, "u", 1, "1"))
    )
    (reason,) = parse_ballot(told).reasons
    assert (reason.isprintable(), reason[0], reason[-1]) == (True, "a", "H")
    subject = replace(PROPOSAL.subject, name=ESCAPE)
    for odd in (replace(PROPOSAL, subject=subject), replace(PROPOSAL, change=(("drift", ESCAPE),))):
        with pytest.raises(InvalidField, match="text that can be printed"):
            parse_decision(stored(render_decision(odd, "agents", "operator")))
