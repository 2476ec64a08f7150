"""A panel as the chart installs it, what its accounts are called, and the objects that they would write."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from hack.cache import ROOT
from reembed.api.panel import Ballot, membership_json, render_ballot, render_decision
from reembed.core.model import Meta
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.proposals import Kind
from tests import panels
from tests.integration.crds.objects import Kubectl, Object
from tests.integration.crds.releases import PATIENCE_SECONDS, account, helm

AGENTS = panels.agents()
ME, OTHER = "memory-analyst", "pattern-learner"
GC = "system:serviceaccount:kube-system:generic-garbage-collector"
DRY = "--dry-run=server"
# What the schema asks of a kind.
_CHANGES: dict[Kind | None, tuple[tuple[str, str], ...]] = {
    Kind.TUNING: (("parallelism", "2"),),
    Kind.RECOVER: (("pod", "new-0"), ("pool", "new"), ("poolUid", "uid-new")),
    Kind.CORRECT: (("drift", "PodDrift"), ("pod", "new-0"), ("pool", "new")),
}


def install(kubectl: Kubectl) -> Kubectl:
    """Install the chart with a panel; return kubectl for the panel's namespace once its policies are in force."""
    there = replace(kubectl, namespace=f"{kubectl.namespace}-panel")
    values = f"crds.enabled=false,panel.enabled=true,panel.createNamespace=true,panel.namespace={there.namespace}"
    values += ",panel.labelConfigMaps={questions}"
    helm(kubectl, "install", "reembed", str(ROOT / "charts" / "reembed"), "--set", values)
    for name, who in (("operator", account(kubectl, "reembed")), ("agent", agent_user(there, ME))):
        there.ok("create", "rolebinding", f"too-much-{name}", "--clusterrole=cluster-admin", f"--user={who}")
    there.ok("create", "-f", "-", stdin=panel_object("panel"))
    agent, patient_until = replace(there, user=agent_user(there, ME)), time.monotonic() + PATIENCE_SECONDS
    too_early: tuple[tuple[Kubectl, Object], ...] = (
        (agent, ballot(OTHER)),
        (agent, decision("operator")),
        (agent, lease(OTHER)),
        (agent, config_map("settings")),
        (agent, panel_object("mine")),
    )
    while any(who.run("create", "-f", "-", DRY, stdin=one).returncode == 0 for who, one in too_early):
        assert time.monotonic() < patient_until, "the policies are not in force"
    return there


def agent_user(panel: Kubectl, name: str) -> str:
    return f"system:serviceaccount:{panel.namespace}:reembed-panel-{name}"


def panel_object(name: str) -> Object:
    return {
        "apiVersion": "reembed.dev/v1alpha1",
        "kind": "Panel",
        "metadata": {"name": name},
        "spec": membership_json(AGENTS.membership),
    }


def decision(proposer: str, epoch: int = 5, kind: Kind | None = None) -> Object:
    """Return a Decision; an agent's is about memory, unless something else is said."""
    raising = panels.raising(10, 50, epoch)
    by_agent = replace(raising, kind=Kind.MEMORY, after=raising.before, change=_CHANGES.get(kind, (("pool", "new"),)))
    proposal = raising if proposer == "operator" else by_agent
    made = render_decision(replace(proposal, kind=kind or proposal.kind), "unused", proposer)
    del made["metadata"]["namespace"]
    return made


def ballot(agent: str, epoch: int = 5, **metadata: Any) -> Object:
    proposal = panels.raising(10, 50, epoch)
    vote = AGENTS.vote(AGENTS.names[0], proposal)
    cast = Ballot(agent, proposal.slot, proposal.digest, Choice.APPROVE, vote, ("Fine: it is",), {"of": agent})
    owner = Meta("unused", proposal.name, "uid-decision", 1, "1", deleting=False, finalizers=())
    made = render_ballot(cast, "unused", owner)
    del made["metadata"]["namespace"]
    made["metadata"] |= metadata
    return made


def owner(**changes: str) -> Object:
    kept: Object = ballot(OTHER)["metadata"]["ownerReferences"][0]
    return kept | changes


def lease(name: str) -> Object:
    meta = {"name": f"reembed-panel-{name}"}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": {"holderIdentity": "x"}}


def config_map(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"log": "x"}}


def patch(**change: Any) -> tuple[str, str]:
    return "--type=merge", f"--patch={json.dumps(change)}"
