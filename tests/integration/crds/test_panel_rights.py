"""What the chart's Roles let accounts do in a panel's namespace and around it, after a real `helm install`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.integration.crds.objects import Kubectl
from tests.integration.crds.panels import ME, OTHER
from tests.integration.crds.releases import account

OURS = ("embedderpools", "embeddingindexes", "embeddingmigrations")


@pytest.mark.parametrize(
    ("verb", "what", "name", "allowed"),
    [
        ("get", "secrets", f"reembed-panel-{OTHER}", True),
        ("update", "secrets", f"reembed-panel-{OTHER}", True),
        ("get", "secrets", f"reembed-panel-{ME}", False),
        ("get", "secrets", "reembed-panel-stores", False),
        ("list", "secrets", "", False),
        ("create", "secrets", "", False),
        ("update", "leases.coordination.k8s.io", f"reembed-panel-{OTHER}", True),
        ("update", "leases.coordination.k8s.io", f"reembed-panel-{ME}", False),
        ("watch", "leases.coordination.k8s.io", "", True),
        ("create", "ballots.reembed.dev", "", True),
        ("update", "ballots.reembed.dev", "", False),
        ("delete", "ballots.reembed.dev", "", False),
        ("create", "decisions.reembed.dev", "", True),
        ("delete", "decisions.reembed.dev", "", True),
        ("update", "panels.reembed.dev", "", False),
        ("delete", "pods", "", True),
        ("create", "pods", "", False),
        ("create", "pods/exec", "", False),
        ("update", "configmaps", "reembed-panel-audit", True),
        ("get", "configmaps", "kube-root-ca.crt", False),
        ("get", "deployments.apps", "", True),
        ("create", "deployments.apps", "", False),
        ("create", "serviceaccounts/token", "", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", "", False),
    ],
)
def test_an_agent_may_do_its_work_in_the_panel_and_nothing_else(
    plain_agent: Kubectl, verb: str, what: str, name: str, allowed: bool
) -> None:
    # kubectl reads what comes behind a slash as a name.
    kind, _, sub = what.partition("/")
    words = [kind if not name else f"{kind}/{name}", *([f"--subresource={sub}"] if sub else [])]
    assert plain_agent.run("auth", "can-i", verb, *words).stdout.strip() == ("yes" if allowed else "no")


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        *((verb, f"{kind}.reembed.dev", verb == "watch") for kind in OURS for verb in ("watch", "patch", "create")),
        ("list", "pods", True),
        ("delete", "pods", False),
        ("list", "services", True),
        ("watch", "endpointslices.discovery.k8s.io", True),
        ("get", "secrets", False),
        ("get", "configmaps", False),
        ("create", "jobs.batch", False),
    ],
)
def test_an_agent_only_looks_where_the_indexes_are(
    kubectl: Kubectl, plain_agent: Kubectl, verb: str, what: str, allowed: bool
) -> None:
    done = replace(kubectl, user=plain_agent.user).run("auth", "can-i", verb, what)
    assert done.stdout.strip() == ("yes" if allowed else "no")


@pytest.fixture(scope="module")
def as_installed(kubectl: Kubectl, panel: Kubectl) -> Iterator[Kubectl]:
    """Return kubectl as the operator with the chart's rights alone."""
    panel.ok("delete", "rolebinding", "too-much-operator")
    yield replace(panel, user=account(kubectl, "reembed"))
    who = account(kubectl, "reembed")
    panel.ok("create", "rolebinding", "too-much-operator", "--clusterrole=cluster-admin", f"--user={who}")


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("create", "decisions.reembed.dev", True),
        ("delete", "decisions.reembed.dev", False),
        ("update", "decisions.reembed.dev", False),
        ("watch", "ballots.reembed.dev", True),
        ("create", "ballots.reembed.dev", False),
        ("get", "panels.reembed.dev", True),
        ("create", "panels.reembed.dev", False),
        ("patch", "panels.reembed.dev", False),
        ("patch", "panels.reembed.dev --subresource=status", False),
        ("list", "leases.coordination.k8s.io", True),
        ("create", "leases.coordination.k8s.io", False),
        ("get", "secrets", False),
        ("list", "secrets", False),
        ("get", "configmaps", False),
        ("list", "pods", False),
        ("create", "pods", False),
        ("delete", "pods", False),
        ("create", "deployments.apps", False),
        ("create", "jobs.batch", False),
        ("create", "serviceaccounts --subresource=token", False),
        ("create", "rolebindings.rbac.authorization.k8s.io", False),
        ("patch", "validatingadmissionpolicies.admissionregistration.k8s.io", False),
    ],
)
def test_the_operator_proposes_and_reads_in_the_panel_and_does_nothing_else(
    as_installed: Kubectl, verb: str, what: str, allowed: bool
) -> None:
    done = as_installed.run("auth", "can-i", verb, *what.split())
    assert done.stdout.strip() == ("yes" if allowed else "no"), done.stderr


def test_the_chart_s_panel_runs_in_a_namespace_of_restricted_pods(panel: Kubectl) -> None:
    labels = json.loads(panel.ok("get", "namespace", panel.namespace, "--output=jsonpath={.metadata.labels}"))
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
