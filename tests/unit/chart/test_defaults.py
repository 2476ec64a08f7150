"""What the chart installs without any value given, and what values change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cache import ROOT
from tests.unit.chart.rendering import CHART, CRDS, of_kind, operator_pod, render, template

GENERATED = [path.name for path in sorted((CHART / "templates" / "crds").glob("*.yaml"))]

POLICIES = [
    "reembed-reembed-system-config-maps-are-classes",
    "reembed-reembed-system-pool-in-use",
    "reembed-reembed-system-promote-needs-approve",
    "reembed-reembed-system-services-are-ours",
    "reembed-reembed-system-spec-is-the-users",
    "reembed-reembed-system-stores-are-theirs",
    "reembed-reembed-system-workloads-are-ours",
]

DEFAULTS = {
    "ServiceAccount": ["reembed", "reembed-gateway", "reembed-worker"],
    "CustomResourceDefinition": [
        "ballots.reembed.dev",
        "decisions.reembed.dev",
        "embedderpools.reembed.dev",
        "embeddingindexes.reembed.dev",
        "embeddingmigrations.reembed.dev",
        "panels.reembed.dev",
    ],
    "Role": [
        "reembed-gateway",
        "reembed-leader",
        "reembed-leader-reader",
        "reembed-reembed-system",
        "reembed-worker",
        "reembed-workloads",
    ],
    "RoleBinding": [
        "reembed-gateway",
        "reembed-leader",
        "reembed-leader-reader",
        "reembed-reembed-system",
        "reembed-worker",
        "reembed-workloads",
    ],
    "ClusterRole": ["reembed-reembed-system", "reembed-reembed-system-nodes"],
    "ClusterRoleBinding": ["reembed-reembed-system", "reembed-reembed-system-nodes"],
    "Deployment": ["reembed"],
    "PodDisruptionBudget": ["reembed"],
    "ValidatingAdmissionPolicy": POLICIES,
    "ValidatingAdmissionPolicyBinding": POLICIES,
}

ENVIRONMENT = {
    "REEMBED_NAMESPACES": "reembed-system",
    "REEMBED_IMAGE_EMBEDDER": "localhost/reembed-embedder:0.1.0",
    "REEMBED_IMAGE_GATEWAY": "localhost/reembed-gateway:0.1.0",
    "REEMBED_IMAGE_BACKFILL": "localhost/reembed-backfill:0.1.0",
    "REEMBED_PULL_POLICY": "IfNotPresent",
    "REEMBED_LEASE": "reembed-operator",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_NAME": "metadata.name",
}


def names(kube_binary: Path, *settings: str) -> dict[str, list[str]]:
    manifests = render(kube_binary, *settings)
    kinds = {one["kind"] for one in manifests}
    return {kind: sorted(one["metadata"]["name"] for one in of_kind(manifests, kind)) for kind in kinds}


def environment(kube_binary: Path, *settings: str) -> dict[str, str]:
    (container,) = operator_pod(render(kube_binary, *settings))["containers"]
    return {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"]}


def test_the_defaults_install_these_objects_and_no_others(kube_binary: Path) -> None:
    assert names(kube_binary) == DEFAULTS


def test_the_defaults_watch_the_release_s_own_namespace(kube_binary: Path) -> None:
    assert environment(kube_binary) == ENVIRONMENT


def test_the_operator_is_told_its_namespaces_and_images(kube_binary: Path) -> None:
    settings = ("watchNamespaces={a,b}", "images.gateway.repository=r/g", "images.gateway.tag=v7")
    changed = {"REEMBED_NAMESPACES": "a,b", "REEMBED_IMAGE_GATEWAY": "r/g:v7"}
    assert environment(kube_binary, *settings) == {**ENVIRONMENT, **changed}


def test_an_image_may_be_pinned_by_its_digest(kube_binary: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    settings = (f"images.embedder.digest={digest}", "images.embedder.tag=v7")
    changed = {"REEMBED_IMAGE_EMBEDDER": f"localhost/reembed-embedder@{digest}"}
    assert environment(kube_binary, *settings) == {**ENVIRONMENT, **changed}


def test_an_image_for_gpus_is_told_where_there_is_one(kube_binary: Path) -> None:
    settings = ("images.embedderGpu.repository=r/gpu", "images.embedderGpu.tag=v7")
    assert environment(kube_binary, *settings) == {**ENVIRONMENT, "REEMBED_IMAGE_EMBEDDER_GPU": "r/gpu:v7"}


@pytest.mark.parametrize(
    ("setting", "kinds"),
    [
        ("crds.enabled=false", {"CustomResourceDefinition"}),
        ("policies.enabled=false", {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}),
    ],
)
def test_what_is_switched_off_is_not_installed(kube_binary: Path, setting: str, kinds: set[str]) -> None:
    assert names(kube_binary, setting) == {kind: of for kind, of in DEFAULTS.items() if kind not in kinds}


@pytest.mark.parametrize(
    "setting",
    [
        "replicas=2",
        "operator.replicas=0",
        "operator.replicas=two",
        "images.operator.tga=1",
        "images.registry=r",
        "images.gateway.digest=7",
        "images.gateway.tag=a b",
        "operator.resources.claims=x",
        "crds.installed=true",
        "policies.enabled=maybe",
        "images.pullPolicy=Sometimes",
        "watchNamespaces={a,a}",
        "watchNamespaces={A_B}",
        "panel.enabled=perhaps",
        "panel.faulty=2",
        "panel.namespace=A_B",
        "panel.whenUnsatisfiable=Never",
        "policies.hookImages=any",
    ],
)
def test_a_value_that_would_do_nothing_or_harm_is_refused(kube_binary: Path, setting: str) -> None:
    done = template(kube_binary, setting)
    assert (done.returncode != 0, "specifications of the schema" in done.stderr) == (True, True)


def test_every_crd_is_in_the_chart() -> None:
    assert [path.name for path in sorted(CRDS.glob("*.yaml"))] == GENERATED


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", GENERATED)
def test_a_crd_of_the_chart_is_that_of_the_repository(kube_binary: Path, name: str, keep: bool) -> None:
    expected = yaml.safe_load((CRDS / name).read_text())
    if keep:
        expected["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep"
    manifests = render(kube_binary, f"crds.keep={str(keep).lower()}")
    assert expected in list(of_kind(manifests, "CustomResourceDefinition"))


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if schema.get("type") == "object":
        yield schema
    for inner in (*schema.get("properties", {}).values(), *schema.get("definitions", {}).values()):
        yield from objects(inner)


def test_no_object_of_the_values_takes_keys_that_nobody_reads() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Labels, annotations and quantities have keys of the user's choice; their values have a type.
    assert [one for one in objects(schema) if one.get("additionalProperties", True) is True] == []


def test_the_chart_names_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
