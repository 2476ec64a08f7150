"""What the chart's policies refuse of a panel's objects, after a real `helm install` with a panel.

Policies are shown by accounts whose Roles would allow it: the operator and one agent get all rights on the panel's
namespace, so that what is refused is refused by a policy.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hack.cache import ROOT
from reembed.api.panel import render_decision
from reembed.core.quorum.proposals import Kind
from tests import panels
from tests.integration.crds.objects import Kubectl, Object
from tests.integration.crds.panels import (
    DRY,
    ME,
    OTHER,
    agent_user,
    ballot,
    config_map,
    decision,
    lease,
    owner,
    panel_object,
    patch,
)
from tests.integration.crds.releases import PATIENCE_SECONDS, account, helm


def test_an_agent_votes_as_itself_and_as_nobody_else(plain_agent: Kubectl, operator: Kubectl, agent: Kubectl) -> None:
    plain_agent.ok("create", "-f", "-", DRY, stdin=ballot(OTHER))
    refusals = [who.refused("create", "-f", "-", DRY, stdin=ballot(OTHER)) for who in (agent, operator)]
    refusals.append(plain_agent.refused("create", "-f", "-", DRY, stdin=ballot(ME)))
    assert [
        f"may not vote as agent '{name}'" in told for name, told in zip((OTHER, OTHER, ME), refusals, strict=True)
    ] == [
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        {"finalizers": ["example.org/stay"]},
        {"ownerReferences": []},
        {"ownerReferences": None},
        {"ownerReferences": [owner(apiVersion="example.org/v1")]},
        {"ownerReferences": [owner(name=panels.raising(10, 50, 6).name)]},
    ],
    ids=["finalizers", "no owner", "none given", "an owner that nobody knows", "another Decision"],
)
def test_no_ballot_outlives_its_decision(plain_agent: Kubectl, metadata: dict[str, Any]) -> None:
    refusal = plain_agent.refused("create", "-f", "-", DRY, stdin=ballot(OTHER, **metadata))
    assert "must have one owner, its Decision, and no finalizers" in refusal


@pytest.mark.parametrize(
    "metadata",
    [{"labels": {}}, {"labels": {"reembed.dev/slot": panels.raising(10, 50, 6).slot}}],
    ids=["no label", "the label of another slot"],
)
def test_whoever_asks_for_a_slot_s_votes_finds_one_of_each_agent(
    plain_agent: Kubectl, metadata: dict[str, Any]
) -> None:
    told = plain_agent.refused("create", "-f", "-", DRY, stdin=ballot(OTHER, **metadata))
    assert "must have the label reembed.dev/slot with its slot" in told


@pytest.fixture(scope="module")
def cast(panel: Kubectl) -> str:
    """Cast a ballot and return its name."""
    mine = ballot(OTHER, epoch=77)
    replace(panel, user=agent_user(panel, OTHER)).ok("create", "-f", "-", stdin=mine)
    return str(mine["metadata"]["name"])


def test_nobody_changes_a_ballot(panel: Kubectl, agent: Kubectl, cast: str) -> None:
    for who in (panel, agent):
        assert "an agent votes once" in who.refused("label", "ballot", cast, "seen=yes", DRY)


def test_nobody_deletes_a_ballot_but_kubernetes_clean_up(
    panel: Kubectl, agent: Kubectl, operator: Kubectl, cleaner: Kubectl, cast: str
) -> None:
    for who in (panel, agent, operator):
        assert "could vote again in its slot" in who.refused("delete", "ballot", cast, DRY)
    cleaner.ok("delete", "ballot", cast, DRY)
    replace(panel, user="system:serviceaccount:kube-system:namespace-controller").ok("delete", "ballot", cast, DRY)


def test_who_proposes_says_who_it_is(
    kubectl: Kubectl, panel: Kubectl, agent: Kubectl, operator: Kubectl, plain_agent: Kubectl
) -> None:
    operator.ok("create", "-f", "-", DRY, stdin=decision("operator"))
    plain_agent.ok("create", "-f", "-", DRY, stdin=decision(OTHER))
    wrong = ((operator, OTHER), (agent, "operator"), (agent, OTHER), (panel, "operator"), (panel, OTHER))
    for who, proposer in wrong:
        assert f"may not propose as '{proposer}'" in who.refused("create", "-f", "-", DRY, stdin=decision(proposer))


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_the_steps_of_a_migration_are_the_operator_s_to_propose(plain_agent: Kubectl, kind: Kind) -> None:
    done = plain_agent.run("create", "-f", "-", DRY, stdin=decision(OTHER, kind=kind))
    steps = {Kind.LOAD_MODEL, Kind.TRAFFIC, Kind.COMPLETE}
    assert ("are the operator's to propose" in done.stderr, done.returncode == 0) == (kind in steps, kind not in steps)


@pytest.mark.parametrize("expires", ["never", "2026-01-01T12:00:00Z", "2026-13-41T12:00:00.000Z"])
def test_a_decision_has_a_time_that_all_can_read(plain_agent: Kubectl, expires: str) -> None:
    odd = decision(OTHER)
    odd["spec"]["proposal"]["expires"] = expires
    plain_agent.refused("create", "-f", "-", DRY, stdin=odd)


def test_no_decision_outlives_its_deletion(plain_agent: Kubectl) -> None:
    stays = decision(OTHER)
    stays["metadata"]["finalizers"] = ["example.org/stay"]
    assert "must have no finalizers" in plain_agent.refused("create", "-f", "-", DRY, stdin=stays)


def test_the_operator_makes_no_pods_beside_the_agents_even_if_a_role_allows_it(operator: Kubectl) -> None:
    container = {
        "name": "x",
        "image": "localhost/reembed-gateway:1",
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    pod = {"automountServiceAccountToken": False, "containers": [container], "restartPolicy": "Never"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": {"spec": pod}}}
    assert "which it does not watch" in operator.refused("create", "-f", "-", DRY, stdin=job)


@pytest.fixture(scope="module")
def proposed(kubectl: Kubectl, panel: Kubectl) -> str:
    """Propose something and return its name."""
    mine = decision("operator", epoch=78)
    replace(panel, user=account(kubectl, "reembed")).ok("create", "-f", "-", stdin=mine)
    return str(mine["metadata"]["name"])


def test_nobody_changes_what_is_voted_on(panel: Kubectl, operator: Kubectl, agent: Kubectl, proposed: str) -> None:
    for who in (panel, operator, agent):
        refusal = who.refused("label", "decision", proposed, "seen=yes", DRY)
        assert "cannot be changed, since agents vote on what it says" in refusal


def test_agents_clear_away_what_was_proposed_and_nobody_else_does(
    panel: Kubectl, operator: Kubectl, plain_agent: Kubectl, cleaner: Kubectl, proposed: str
) -> None:
    for who in (panel, operator):
        assert "may be deleted by agents alone" in who.refused("delete", "decision", proposed, DRY)
    for who in (plain_agent, cleaner):
        who.ok("delete", "decision", proposed, DRY)


@pytest.mark.parametrize("kind", [Kind.MEMORY, Kind.MEMBERSHIP], ids=lambda kind: kind.value)
def test_agents_delete_nothing_on_which_others_may_vote_still(
    plain_agent: Kubectl, cleaner: Kubectl, kind: Kind
) -> None:
    patient_until = time.monotonic() + PATIENCE_SECONDS
    while True:
        late = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
        # A change of members has no end; what counts is when it was proposed.
        expires = late if kind is Kind.MEMORY else panels.NOON
        proposal = replace(panels.raising(10, 50, secrets.randbelow(10**6)), kind=kind, expires=expires)
        mine = render_decision(proposal, plain_agent.namespace, OTHER)
        plain_agent.ok("create", "-f", "-", stdin=mine)
        done = plain_agent.run("delete", "decision", proposal.name)
        if done.returncode != 0:
            break
        assert time.monotonic() < patient_until, "the policy is not in force"
    assert "while agents may vote on it" in done.stderr
    cleaner.ok("delete", "decision", proposal.name, DRY)


def test_a_heartbeat_is_the_agent_s_own(
    panel: Kubectl, agent: Kubectl, operator: Kubectl, plain_agent: Kubectl, cleaner: Kubectl
) -> None:
    plain_agent.ok("create", "-f", "-", stdin=lease(OTHER))
    plain_agent.ok("annotate", "lease", f"reembed-panel-{OTHER}", "reembed.dev/public-key=x", DRY)
    told = "an agent's heartbeat is written by the agent's own account alone"
    for who in (panel, agent, operator):
        assert told in who.refused("annotate", "lease", f"reembed-panel-{OTHER}", "reembed.dev/public-key=x", DRY)
        assert told in who.refused("delete", "lease", f"reembed-panel-{OTHER}", DRY)
        assert told in who.refused("create", "-f", "-", DRY, stdin=lease("configuration-manager"))
    assert told in plain_agent.refused("create", "-f", "-", DRY, stdin=lease("configuration-manager"))
    cleaner.ok("delete", "lease", f"reembed-panel-{OTHER}", DRY)


def test_a_key_is_written_by_its_agent_alone_and_people_may_take_it_away(
    panel: Kubectl, agent: Kubectl, operator: Kubectl, plain_agent: Kubectl
) -> None:
    secret = ("secret", f"reembed-panel-{OTHER}")
    plain_agent.ok("patch", *secret, *patch(data={"key": "b2xk"}))
    for who in (panel, agent, operator):
        refusal = who.refused("patch", *secret, *patch(data={"key": "bmV3"}), DRY)
        assert "an agent's key is written by the agent's own account alone" in refusal
    panel.ok("label", *secret, "team=search", DRY)
    panel.ok("patch", *secret, "--type=json", '--patch=[{"op": "remove", "path": "/data"}]', DRY)
    panel.ok("delete", *secret, DRY)
    assert "own account alone" in agent.refused("delete", *secret, DRY)


def test_people_bring_the_stores_connection_strings_and_agents_touch_no_other_secret(
    panel: Kubectl, agent: Kubectl
) -> None:
    stores = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "reembed-panel-stores"},
        "data": {"a.b": "eA=="},
    }
    panel.ok("create", "-f", "-", stdin=stores)
    panel.ok("patch", "secret", "reembed-panel-stores", *patch(data={"a.b": "eQ=="}), DRY)
    for words in (
        ("patch", "secret", "reembed-panel-stores", *patch(data={"a.b": "eQ=="})),
        ("delete", "secret", "--all"),
    ):
        assert "own account alone" in agent.refused(*words, DRY)


def test_an_upgrade_of_the_chart_keeps_the_keys(kubectl: Kubectl, panel: Kubectl, plain_agent: Kubectl) -> None:
    secret = ("secret", f"reembed-panel-{OTHER}")
    plain_agent.ok("patch", *secret, *patch(data={"key": "b2xk"}))
    helm(
        kubectl,
        "upgrade",
        "reembed",
        str(ROOT / "charts" / "reembed"),
        "--reuse-values",
        "--set",
        "operator.replicas=1",
    )
    assert panel.ok("get", *secret, "--output=jsonpath={.data.key}") == "b2xk"


def test_the_keys_outlive_the_release(kubectl: Kubectl) -> None:
    own = replace(kubectl, namespace=f"{kubectl.namespace}-again")
    there = replace(own, namespace=f"{own.namespace}-panel")
    own.ok("create", "namespace", own.namespace)
    values = f"crds.enabled=false,panel.enabled=true,panel.createNamespace=true,panel.namespace={there.namespace}"
    install = ("install", "reembed", str(ROOT / "charts" / "reembed"), "--set", values)
    helm(own, *install)
    secret = ("secret", f"reembed-panel-{OTHER}")
    agent, patient_until = replace(there, user=agent_user(there, OTHER)), time.monotonic() + PATIENCE_SECONDS
    while (done := agent.run("patch", *secret, *patch(data={"key": "b2xk"}))).returncode != 0:
        assert time.monotonic() < patient_until, done.stderr
    helm(own, "uninstall", "reembed")
    helm(own, *install)
    assert there.ok("get", *secret, "--output=jsonpath={.data.key}") == "b2xk"
    helm(own, "uninstall", "reembed")


def test_who_is_in_office_is_written_by_agents_alone(panel: Kubectl, plain_agent: Kubectl, operator: Kubectl) -> None:
    words = ("patch", "panel", "panel", "--subresource=status", *patch(status={"members": 8}), DRY)
    plain_agent.ok(*words)
    for who in (panel, operator):
        assert "agents alone write who is in office" in who.refused(*words)


def test_who_shall_be_a_member_is_for_people_to_say(panel: Kubectl, agent: Kubectl, operator: Kubectl) -> None:
    words = ("patch", "panel", "panel", *patch(spec={"faulty": 1}), DRY)
    panel.ok(*words)
    for who in (agent, operator):
        for refused in (words, ("delete", "panel", "panel", DRY)):
            assert "who shall be a member is for people to say" in who.refused(*refused)
        assert "is for people to say" in who.refused("create", "-f", "-", DRY, stdin=panel_object("mine"))


def test_agents_make_no_config_map_but_their_audit(agent: Kubectl, plain_agent: Kubectl) -> None:
    plain_agent.ok("create", "-f", "-", DRY, stdin=config_map("reembed-panel-audit"))
    refusal = agent.refused("create", "-f", "-", DRY, stdin=config_map("settings"))
    assert "no ConfigMap but 'reembed-panel-audit'" in refusal


def test_agents_read_the_config_maps_with_labels_that_are_named_and_the_operator_writes_none(
    kubectl: Kubectl, plain_agent: Kubectl
) -> None:
    agent = replace(plain_agent, namespace=kubectl.namespace)
    operator = replace(kubectl, user=account(kubectl, "reembed"))
    for name in ("questions", "others"):
        kubectl.ok("create", "-f", "-", stdin=config_map(name))
    agent.ok("get", "configmap", "questions")
    for who, words in (
        (agent, ("get", "configmap", "others")),
        (agent, ("get", "configmaps")),
        (agent, ("patch", "configmap", "questions", *patch(data={"a": "b"}))),
        (operator, ("patch", "configmap", "questions", *patch(data={"a": "b"}))),
        (operator, ("delete", "configmap", "questions")),
        (operator, ("replace", "-f", "-")),
    ):
        assert "cannot" in who.refused(*words, stdin=config_map("questions"))
    kubectl.ok("delete", "configmap", "questions", "others")
    assert "no ConfigMap but those that begin with" in operator.refused(
        "create", "-f", "-", stdin=config_map("questions")
    )


def pod(name: str, **labels: str) -> Object:
    container = {"name": "x", "image": "x", "securityContext": {"allowPrivilegeEscalation": False, **DROPPED}}
    secure = {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"automountServiceAccountToken": False, "containers": [container], "securityContext": secure}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


DROPPED = {"capabilities": {"drop": ["ALL"]}}


def test_an_agent_keeps_no_others_down_and_deletes_no_pods_of_anybody_else(
    panel: Kubectl, plain_agent: Kubectl
) -> None:
    panel.run("create", "serviceaccount", "default")
    panel.ok("create", "-f", "-", stdin=pod("young", **{"reembed.dev/agent": ME}))
    panel.ok("create", "-f", "-", stdin=pod("other", app="other"))
    assert "in its first minute" in plain_agent.refused("delete", "pod", "young", DRY)
    assert "no pods but agents'" in plain_agent.refused("delete", "pod", "other", DRY)
    panel.ok("delete", "pod", "young", DRY)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    panel.ok("patch", "pod", "young", "--subresource=status", *patch(**ready))
    assert "while it is ready" in plain_agent.refused("delete", "pod", "young", DRY)
