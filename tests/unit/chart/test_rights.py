"""The chart gives the operator no more than its work needs, and its pod no more than `restricted` allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.chart.rendering import of_kind, operator_pod, render

OWN = ("embedderpools", "embeddingindexes", "embeddingmigrations")
MAKES = frozenset({"get", "list", "watch", "create", "patch", "delete"})
READS = frozenset({"get", "list", "watch"})

OPERATOR = {
    **{("reembed.dev", kind): READS | {"patch"} for kind in OWN},
    **{("reembed.dev", f"{kind}/status"): frozenset({"get", "patch"}) for kind in OWN},
    ("apps", "deployments"): MAKES,
    ("batch", "jobs"): MAKES,
    ("batch", "cronjobs"): frozenset({"get"}),
    ("policy", "poddisruptionbudgets"): MAKES,
    ("", "services"): MAKES,
    ("", "pods"): READS,
    ("", "pods/eviction"): frozenset({"create"}),
    ("", "configmaps"): frozenset({"get", "create"}),
    ("", "events"): frozenset({"create", "patch"}),
}
WORKLOADS = {("reembed.dev", kind): READS for kind in ("embedderpools", "embeddingindexes")}
GATEWAY = {("", "events"): frozenset({"create"})}
WORKER = {("", "configmaps"): frozenset({"get"})}


def rights(role: dict[str, Any]) -> dict[tuple[str, str], frozenset[str]]:
    return {
        (group, resource): frozenset(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_roles_are_in_the_watched_namespaces_alone_but_for_the_lease_and_allow_this(kube_binary: Path) -> None:
    roles = of_kind(render(kube_binary, "watchNamespaces={a,b}"), "Role")
    found = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): rights(one)
        for one in roles
        if not one["metadata"]["name"].startswith("reembed-leader")
    }
    assert found == {
        (namespace, name): allowed
        for namespace in ("a", "b")
        for name, allowed in (
            ("reembed-reembed-system", OPERATOR),
            ("reembed-workloads", WORKLOADS),
            ("reembed-gateway", GATEWAY),
            ("reembed-worker", WORKER),
        )
    }


def test_the_operator_may_keep_its_own_lease_and_gateways_may_read_it(kube_binary: Path) -> None:
    manifests = render(kube_binary, "watchNamespaces={a,b}")
    found = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): [
            (rule["verbs"], rule.get("resourceNames")) for rule in one["rules"]
        ]
        for one in of_kind(manifests, "Role")
        if one["metadata"]["name"].startswith("reembed-leader")
    }
    lease = ["reembed-operator"]
    assert found == {
        ("reembed-system", "reembed-leader"): [(["create"], None), (["get", "patch"], lease)],
        ("reembed-system", "reembed-leader-reader"): [(["get"], lease)],
    }
    (readers,) = [
        one["subjects"] for one in of_kind(manifests, "RoleBinding") if one["metadata"]["name"].endswith("-reader")
    ]
    assert {(one["namespace"], one["name"]) for one in readers} == {("a", "reembed-gateway"), ("b", "reembed-gateway")}


def test_in_the_whole_cluster_own_kinds_may_be_read_and_released_nodes_listed_and_nothing_else(
    kube_binary: Path,
) -> None:
    role, nodes = of_kind(render(kube_binary, "watchNamespaces={a,b}"), "ClusterRole")
    assert rights(nodes) == {("", "nodes"): frozenset({"list"})}
    assert rights(role) == {
        **{("reembed.dev", kind): READS | {"patch"} for kind in OWN},
        ("", "namespaces"): frozenset({"get"}),
        ("apiextensions.k8s.io", "customresourcedefinitions"): frozenset({"get"}),
    }
    crds = [f"{kind}.reembed.dev" for kind in OWN]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, ["a", "b"], crds]


def test_where_namespaces_are_not_let_go_nor_nodes_looked_at_nothing_is_allowed_in_the_whole_cluster(
    kube_binary: Path,
) -> None:
    settings = ("namespaceDeletion.enabled=false", "nodeCapacity.enabled=false")
    kinds = {one["kind"] for one in render(kube_binary, *settings)}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}


def test_every_binding_names_its_role_and_an_account_that_exists(kube_binary: Path) -> None:
    manifests = render(kube_binary, "watchNamespaces={a,b}")
    accounts = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in of_kind(manifests, "ServiceAccount")}
    bindings = list(of_kind(manifests, "RoleBinding"))
    subjects = {(subject["namespace"], subject["name"]) for one in bindings for subject in one["subjects"]}
    assert (subjects, {one["metadata"]["name"] == one["roleRef"]["name"] for one in bindings}) == (accounts, {True})


def test_the_operator_s_pod_is_restricted(kube_binary: Path) -> None:
    pod = operator_pod(render(kube_binary))
    (container,) = pod["containers"]
    assert (pod["securityContext"], container["securityContext"]) == (
        {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    )


def test_the_operator_writes_to_a_volume_of_its_own(kube_binary: Path) -> None:
    pod = operator_pod(render(kube_binary))
    assert (pod["volumes"], pod["containers"][0]["volumeMounts"]) == (
        [{"name": "tmp", "emptyDir": {}}],
        [{"name": "tmp", "mountPath": "/tmp"}],
    )


def test_two_operators_run_within_limits_on_different_nodes(kube_binary: Path) -> None:
    (deployment,) = of_kind(render(kube_binary), "Deployment")
    pod = operator_pod([deployment])
    (spread,) = pod["topologySpreadConstraints"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"], pod["containers"][0]["resources"]) == (
        2,
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
    )
    assert (spread["topologyKey"], spread["labelSelector"]) == (
        "kubernetes.io/hostname",
        deployment["spec"]["selector"],
    )


def test_one_operator_at_a_time_is_drained(kube_binary: Path) -> None:
    manifests = render(kube_binary)
    (budget,), (deployment,) = (list(of_kind(manifests, kind)) for kind in ("PodDisruptionBudget", "Deployment"))
    assert budget["spec"] == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}


@pytest.mark.parametrize(("probe", "path"), [("readinessProbe", "/ready"), ("livenessProbe", "/healthz")])
def test_the_operator_is_probed(kube_binary: Path, probe: str, path: str) -> None:
    (container,) = operator_pod(render(kube_binary))["containers"]
    assert container[probe]["httpGet"] == {"path": path, "port": "http"}


def test_two_releases_share_no_cluster_scoped_name(kube_binary: Path) -> None:
    policies = of_kind(render(kube_binary), "ValidatingAdmissionPolicy")
    assert {one["metadata"]["name"].startswith("reembed-reembed-system-") for one in policies} == {True}
