"""What the panel signs comes back from a real API server with the same digests, and nothing else is taken."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from reembed.api.panel import (
    Ballot,
    membership_json,
    parse_ballot,
    parse_decision,
    parse_panel,
    render_ballot,
    render_decision,
    render_memberships,
)
from reembed.core.model import Meta
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import Certificate, Choice, refused
from reembed.core.quorum.proposals import Kind
from reembed.signing import verify
from tests import panels
from tests.integration.crds.objects import Kubectl, Object, example

PANEL = panels.agents()
PROPOSAL = panels.raising(10, 50)
EVIDENCE = {"pools": {"new": {"pods": 2, "cosine": 0.999871}}, "at": "2026-01-01T12:00:00+00:00"}


def ballot(kubectl: Kubectl, name: str, choice: Choice = Choice.APPROVE) -> Object:
    vote = PANEL.vote(name, PROPOSAL, choice)
    found = Ballot(name, PROPOSAL.slot, PROPOSAL.digest, choice, vote, ("Sound: it is well",), EVIDENCE)
    return render_ballot(found, kubectl.namespace, Meta(kubectl.namespace, PROPOSAL.name, "uid", 1, "1"))


def read(kubectl: Kubectl, *words: str) -> Object:
    found: Object = json.loads(kubectl.ok("get", *words, "-o", "json"))
    return found


def test_a_decision_and_a_ballot_come_back_as_they_were_signed(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=render_decision(PROPOSAL, kubectl.namespace, "operator"))
    kubectl.ok("create", "-f", "-", stdin=ballot(kubectl, "agent-1"))
    decision = parse_decision(read(kubectl, "decision", PROPOSAL.name))
    cast = parse_ballot(read(kubectl, "ballot", f"{PROPOSAL.slot}.agent-1"))
    assert decision.proposal == PROPOSAL
    assert (cast.vote, cast.evidence) == (PANEL.vote("agent-1", PROPOSAL), EVIDENCE)


POD = {"pod": "new-1", "pool": "new", "poolUid": "uid-new"}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        pytest.param(Kind.TUNING, {"parallelism": "2"}, "", id="a tuning"),
        pytest.param(Kind.TUNING, {"pool": "new"}, "a Tuning names", id="a tuning of nothing"),
        pytest.param(Kind.RECOVER, POD, "", id="a recovery"),
        pytest.param(Kind.RECOVER, {"reason": "Latency"}, "a Recover names", id="a recovery of no pod"),
        pytest.param(Kind.CORRECT, POD | {"drift": "PodDrift"}, "", id="a correction"),
        pytest.param(Kind.CORRECT, {"drift": "ModelDrift"}, "a Correct names", id="a correction of a spec"),
        pytest.param(Kind.CORRECT, {}, "a Correct names", id="a correction of nothing"),
    ],
)
def test_what_the_operator_could_not_execute_is_not_put_to_the_vote(
    kubectl: Kubectl, kind: Kind, change: dict[str, str], message: str
) -> None:
    proposal = replace(PROPOSAL, kind=kind, after=PROPOSAL.before, change=tuple(sorted(change.items())))
    made = render_decision(proposal, kubectl.namespace, "agent-0")
    if message:
        assert message in kubectl.refused("create", "-f", "-", "--dry-run=server", stdin=made)
    else:
        kubectl.ok("create", "-f", "-", "--dry-run=server", stdin=made)


def test_an_agent_votes_once_in_a_slot_and_changes_nothing(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=ballot(kubectl, "agent-2"))
    other = ballot(kubectl, "agent-2", Choice.REJECT)
    assert "already exists" in kubectl.refused("create", "-f", "-", stdin=other)
    assert "a ballot cannot be changed" in kubectl.refused("replace", "-f", "-", stdin=other)


@pytest.mark.parametrize("depth", [2, 2_000])
def test_evidence_that_would_end_its_readers_is_refused(kubectl: Kubectl, depth: int) -> None:
    raw = ballot(kubectl, "agent-3")
    raw["spec"]["evidence"]["deep"] = "DEEP"
    text = json.dumps(raw).replace('"DEEP"', '{"a":' * depth + "1" + "}" * depth)
    command = [str(kubectl.binary), "kubectl", f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
    assert "spec.evidence.deep" in _refused([*command, "create", "--validate=false", "-f", "-"], text)


def _refused(command: list[str], text: str) -> str:
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr


def test_memberships_come_back_from_a_panels_status_as_they_were_certified(kubectl: Kubectl) -> None:
    after = panels.agents(generation=1, version=2)
    chain = PANEL.followed_by(after)
    raw: dict[str, Any] = {
        "apiVersion": "reembed.dev/v1alpha1",
        "kind": "Panel",
        "metadata": {"name": "panel", "namespace": kubectl.namespace},
        "spec": membership_json(PANEL.membership),
    }
    kubectl.ok("create", "-f", "-", stdin=raw)
    kept = read(kubectl, "panel", "panel")
    kept["status"] = {"memberships": render_memberships(chain)}
    kubectl.ok("replace", "--subresource=status", "-f", "-", stdin=kept)
    found = parse_panel(read(kubectl, "panel", "panel"))
    assert found.chain == chain
    certificate = Certificate(PROPOSAL, after.votes(PROPOSAL, 6), found.chain)
    assert refused(certificate, PANEL.membership.digest, 2, panels.NOON, verify) is None


def test_a_certificate_comes_back_from_an_indexs_status_as_it_was_signed(with_examples: Kubectl) -> None:
    index = example("index")
    kept = read(with_examples, "embeddingindex", index["metadata"]["name"])
    certificate = PANEL.certificate(replace(PROPOSAL, change=(("a", "é"),)))
    routing = {"epoch": 5, "weight": 50, "certificate": certificates.to_json(certificate)}
    kept["status"] = {"routing": routing}
    with_examples.ok("replace", "--subresource=status", "-f", "-", stdin=kept)
    found = read(with_examples, "embeddingindex", index["metadata"]["name"])
    assert found["status"]["routing"]["certificate"] == routing["certificate"]
