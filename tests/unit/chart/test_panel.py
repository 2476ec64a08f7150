"""What the chart installs with `panel.enabled`: eight agents apart from all else, that share nothing but work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cache import ROOT
from reembed.core.quorum.membership import Role
from reembed.plugin.agents import name_of
from tests.unit.chart.rendering import Manifest, of_kind, operator_pod, render, template
from tests.unit.chart.test_rights import READS, rights

SETTINGS = ("panel.enabled=true", "watchNamespaces={a,b}")
AGENTS = sorted(name_of(role) for role in Role)


def here(manifests: list[Manifest], kind: str) -> list[Manifest]:
    found = (one for one in of_kind(manifests, kind) if one["metadata"].get("namespace") == "reembed-panel")
    return sorted(found, key=lambda one: str(one["metadata"]["name"]))


def pods(manifests: list[Manifest]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in here(manifests, "Deployment")]


def test_each_role_is_an_agent_with_an_account_and_a_secret_of_its_own(kube_binary: Path) -> None:
    manifests = render(kube_binary, *SETTINGS)
    expected = [f"reembed-panel-{agent}" for agent in AGENTS]
    for kind in ("Deployment", "ServiceAccount", "Secret"):
        assert [one["metadata"]["name"] for one in here(manifests, kind)] == expected
    found = [(pod["serviceAccountName"], pod["containers"][0]["args"]) for pod in pods(manifests)]
    assert found == [(f"reembed-panel-{agent}", ["--role", agent]) for agent in AGENTS]


def test_the_values_that_readers_are_shown_install_a_panel(kube_binary: Path) -> None:
    shown = ROOT / "examples" / "panel" / "values.yaml"
    manifests = render(kube_binary, *settings_of(yaml.safe_load(shown.read_text())))
    assert [one["metadata"]["name"] for one in here(manifests, "Deployment")] == [f"reembed-panel-{a}" for a in AGENTS]


def settings_of(values: dict[str, Any], path: str = "") -> list[str]:
    """Return values as Helm's --set takes them."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += settings_of(value, f"{path}{name}.")
        elif value != []:  # --set knows no empty list
            text = f"{{{','.join(value)}}}" if isinstance(value, list) else str(value).lower()
            found.append(f"{path}{name}={text}")
    return found


def test_no_agent_runs_twice_and_none_mounts_another_s_key(kube_binary: Path) -> None:
    manifests = render(kube_binary, *SETTINGS)
    for one in here(manifests, "Deployment"):
        assert (one["spec"]["replicas"], one["spec"]["strategy"]) == (1, {"type": "Recreate"})
    mounted = {
        volume["secret"]["secretName"] for pod in pods(manifests) for volume in pod["volumes"] if "secret" in volume
    }
    assert mounted == {"reembed-panel-stores"}


def test_no_upgrade_and_no_uninstall_takes_a_key_away(kube_binary: Path) -> None:
    for one in here(render(kube_binary, *SETTINGS), "Secret"):
        assert not {"data", "stringData"} & one.keys()
        assert one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_an_agent_s_pod_is_restricted_and_small(kube_binary: Path) -> None:
    for pod in pods(render(kube_binary, *SETTINGS)):
        (container,) = pod["containers"]
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"] == {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}


def test_agents_spread_over_the_nodes_all_eight_together(kube_binary: Path) -> None:
    manifests = render(kube_binary, *SETTINGS)
    for one in here(manifests, "Deployment"):
        template_ = one["spec"]["template"]
        (spread,) = template_["spec"]["topologySpreadConstraints"]
        common = spread["labelSelector"]["matchLabels"]
        assert (spread["maxSkew"], spread["whenUnsatisfiable"], "reembed.dev/agent" in common) == (
            1,
            "DoNotSchedule",
            False,
        )
        assert common.items() <= template_["metadata"]["labels"].items()
        assert one["spec"]["selector"]["matchLabels"] == template_["metadata"]["labels"]
    (budget,) = here(manifests, "PodDisruptionBudget")
    assert (budget["spec"]["maxUnavailable"], budget["spec"]["selector"]["matchLabels"]) == (2, common)


def test_an_agent_has_rights_on_its_own_lease_and_secret_and_shares_the_others(kube_binary: Path) -> None:
    manifests = render(kube_binary, *SETTINGS)
    roles = {one["metadata"]["name"]: one for one in here(manifests, "Role")}
    for agent in AGENTS:
        name = f"reembed-panel-{agent}"
        assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in roles[name]["rules"]] == [
            (["secrets"], [name], ["get", "update", "patch"]),
            (["leases"], [name], ["update", "patch"]),
        ]
    shared = roles["reembed-panel-agents"]["rules"]
    assert not [rule for rule in shared if {"secrets", "serviceaccounts"} & set(rule["resources"])]


def test_the_operator_proposes_and_reads_and_nothing_else(kube_binary: Path) -> None:
    manifests = render(kube_binary, *SETTINGS)
    (role,) = (one for one in here(manifests, "Role") if not one["metadata"]["name"].startswith("reembed-panel"))
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for (group, resource), verbs in rights({"rules": [rule]}).items():
            found.setdefault((group, resource), set()).update(verbs)
    assert found == {
        ("reembed.dev", "panels"): READS,
        ("reembed.dev", "ballots"): READS,
        ("reembed.dev", "decisions"): READS | {"create"},
        ("coordination.k8s.io", "leases"): READS,
    }


def test_agents_only_read_where_the_indexes_are(kube_binary: Path) -> None:
    manifests = render(kube_binary, *SETTINGS)
    readers = [one for one in of_kind(manifests, "Role") if one["metadata"]["name"] == "reembed-panel-reader"]
    assert [one["metadata"]["namespace"] for one in readers] == ["a", "b"]
    for one in readers:
        assert set(rights(one).values()) == {READS}
        assert not {"secrets", "configmaps"} & {resource for _, resource in rights(one)}


def test_agents_read_the_config_maps_with_labels_that_are_named_and_no_others(kube_binary: Path) -> None:
    def roles(*settings: str) -> list[Manifest]:
        found = of_kind(render(kube_binary, *SETTINGS, *settings), "Role")
        return [one for one in found if one["metadata"]["name"] == "reembed-panel-labels"]

    assert roles() == []
    made = roles("panel.labelConfigMaps={functions-labels,others}")
    assert [one["metadata"]["namespace"] for one in made] == ["a", "b"]
    for one in made:
        assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in one["rules"]] == [
            (["configmaps"], ["functions-labels", "others"], ["get"])
        ]


def test_the_operator_is_told_where_the_panel_is(kube_binary: Path) -> None:
    manifests = [one for one in render(kube_binary, *SETTINGS) if one["metadata"].get("namespace") == "reembed-system"]
    (container,) = operator_pod(manifests)["containers"]
    assert {"name": "REEMBED_PANEL_NAMESPACE", "value": "reembed-panel"} in container["env"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("panel.namespace=a",), "could make pods there that read the agents' keys"),
        (("policies.enabled=false",), "without the policies one agent could vote as another"),
    ],
)
def test_a_panel_that_would_mean_nothing_is_refused(kube_binary: Path, settings: tuple[str, ...], why: str) -> None:
    done = template(kube_binary, *SETTINGS, *settings)
    assert (done.returncode != 0, why in done.stderr) == (True, True)


def test_the_namespace_is_made_on_request_and_kept(kube_binary: Path) -> None:
    assert not list(of_kind(render(kube_binary, *SETTINGS), "Namespace"))
    (namespace,) = of_kind(render(kube_binary, *SETTINGS, "panel.createNamespace=true"), "Namespace")
    assert namespace["metadata"]["name"] == "reembed-panel"
    assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
