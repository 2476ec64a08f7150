"""The operator's account makes the pods that its code makes, and no others, on a real API server."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from hack.cache import ROOT
from reembed.cluster import kinds
from reembed.controller.manifests import backfill, embedder, hook, index, inspection
from reembed.controller.settings import Images
from reembed.core.hooks import Hook, HttpHook, Moment, On, RunHook
from reembed.core.model import ConfigMapKey, DownloadSpec, External, Hosted, SecretKey, Validation
from reembed.core.transitions import State
from tests import builders as b
from tests.integration.crds.objects import Kubectl, Object, changed
from tests.integration.crds.releases import PATIENCE_SECONDS, account, helm
from tests.unit.controller.test_manifests import JOB, ORDER

# Of the values' repositories, in any version: pods of an older release are kept.
IMAGES = Images(
    "localhost/reembed-embedder:7", "localhost/reembed-gateway:7", "localhost/reembed-backfill@sha256:7", "Never"
)
DRY = "--dry-run=server"
CRON_JOB: Object = {
    "metadata": {"name": "smoke"},
    "spec": {
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "smoke", "image": "example.org/smoke:1"}],
                    }
                }
            }
        }
    },
}


def run(hook_of: Hook) -> RunHook:
    return RunHook(hook_of, Moment(On.EACH_STEP, 1, 1), "hook-1", "key")


def made(namespace: str = "rag") -> dict[str, Object]:
    """Return what the operator makes, by the names of its kinds; only what names its namespace is of it."""
    pool, seen = b.pool("new"), b.index()
    secret = SecretKey("store", "owner")
    migration = b.migration(State.CANARY)
    http = Hook("announce", On.EACH_STEP, timedelta(seconds=20), http=HttpHook("https://hooks.example/in"))
    users = Hook("smoke", On.EACH_STEP, timedelta(minutes=5), cron_job="smoke")
    jobs = {
        "backfill": backfill.job(replace(JOB, image=IMAGES.backfill), namespace, secret, "Never"),
        "inspect": inspection.job(ORDER, namespace, secret, IMAGES.backfill, "Never"),
        "announce": hook.job(run(http), migration, IMAGES.gateway, "Never", None),
        "smoke": hook.job(run(users), migration, IMAGES.gateway, "Never", copy.deepcopy(CRON_JOB)),
    }
    specs = {
        # Whatever a pool can bring into its pods: claims, credentials, references, a key.
        "loading": replace(
            pool.spec,
            model=replace(pool.spec.model, uri="s3://b/k"),
            claim_name="models",
            cache_claim="files",
            download=DownloadSpec("who", "http://mirror", "eu-west-3"),
            validation=Validation(ConfigMapKey("references", "texts")),
        ),
        "external": replace(
            pool.spec,
            model=replace(pool.spec.model, uri="https://api.example/v1", hosted=Hosted("small", 8000)),
            external=External(SecretKey("key", "key"), 60, 1000, 10**6),
        ),
    }
    pools = {name: embedder.deployment(pool.meta, spec, spec.variants[0], 1, IMAGES) for name, spec in specs.items()}
    deployments = pools | {
        "embedder": embedder.deployment(pool.meta, pool.spec, pool.spec.variants[0], 1, IMAGES),
        "gateway": index.gateway(seen.meta, seen.spec, IMAGES, "reembed-system/reembed-operator"),
        "worker": index.worker(seen.meta, seen.spec, IMAGES),
    }
    return {
        name: _here(one, kinds.DEPLOYMENT if name in deployments else kinds.JOB)
        for name, one in (deployments | jobs).items()
    }


def _here(one: Object, kind: kinds.Kind) -> Object:
    meta = {name: value for name, value in one["metadata"].items() if name != "namespace"}
    return {"apiVersion": kind.api_version, "kind": kind.name, **one, "metadata": meta}


def pod(one: Object) -> Object:
    found: Object = one["spec"]["template"]["spec"]
    return found


def container(one: Object) -> Object:
    found: Object = pod(one)["containers"][0]
    return found


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Iterator[Kubectl]:
    """Install the chart; return kubectl once the policy is in force."""
    helm(kubectl, "install", "reembed", str(ROOT / "charts" / "reembed"), "--set", "crds.enabled=false")
    patient_until = time.monotonic() + PATIENCE_SECONDS
    operator, foreign = replace(kubectl, user=account(kubectl, "reembed")), made()["gateway"]
    container(foreign)["image"] = "example.org/other:1"
    while operator.run("create", "-f", "-", DRY, stdin=foreign).returncode == 0:
        assert time.monotonic() < patient_until, "the policy is not in force"
    yield kubectl
    helm(kubectl, "uninstall", "reembed")


@pytest.fixture
def operator(installed: Kubectl) -> Kubectl:
    return replace(installed, user=account(installed, "reembed"))


@pytest.mark.parametrize("name", sorted(made()))
def test_the_operator_makes_what_its_code_makes(operator: Kubectl, name: str) -> None:
    operator.ok("create", "-f", "-", DRY, stdin=made(operator.namespace)[name])


def foreign_image(one: Object) -> None:
    container(one)["image"] = "example.org/other:1"


def similar_image(one: Object) -> None:
    container(one)["image"] = "localhost/reembed-gateway-evil:1"


def second_image(one: Object) -> None:
    pod(one)["initContainers"] = [{"name": "more", "image": "example.org/other:1"}]


def command(one: Object) -> None:
    container(one)["command"] = ["sh", "-c", "env"]


def arguments(one: Object) -> None:
    container(one)["args"] = ["shell"]


def python_path(one: Object) -> None:
    container(one)["env"].append({"name": "PYTHONPATH", "value": "/tmp"})


def file_over_code(one: Object) -> None:
    container(one)["volumeMounts"].append({"name": "tmp", "mountPath": "/opt/reembed"})


def directory(one: Object) -> None:
    container(one)["workingDir"] = "/tmp"


def probe(one: Object) -> None:
    container(one)["livenessProbe"] = {"exec": {"command": ["sh"]}}


def hook_after_start(one: Object) -> None:
    container(one)["lifecycle"] = {"postStart": {"exec": {"command": ["sh"]}}}


def all_of_a_secret(one: Object) -> None:
    container(one)["envFrom"] = [{"secretRef": {"name": "x"}}]


def other_account(one: Object) -> None:
    pod(one)["serviceAccountName"] = "admin"


def worker_s_account(one: Object) -> None:
    pod(one)["serviceAccountName"] = "reembed-worker"


def token(one: Object) -> None:
    pod(one).pop("serviceAccountName", None)
    pod(one)["automountServiceAccountToken"] = True


def store_of_its_own(one: Object) -> None:
    environment = [each for each in container(one)["env"] if each["name"] != "REEMBED_DSN"]
    container(one)["env"] = [*environment, {"name": "REEMBED_DSN", "value": "postgresql://elsewhere"}]


def other_index(one: Object) -> None:
    next(each for each in container(one)["env"] if each["name"] == "REEMBED_INDEX")["value"] = "another"


def two_indexes(one: Object) -> None:
    container(one)["env"].append({"name": "REEMBED_INDEX", "value": "docs"})


def projected(one: Object) -> None:
    pod(one)["volumes"].append({"name": "more", "projected": {"sources": [{"secret": {"name": "x"}}]}})


def host_path(one: Object) -> None:
    pod(one)["volumes"].append({"name": "node", "hostPath": {"path": "/"}})


def host_network(one: Object) -> None:
    pod(one)["hostNetwork"] = True


def privileged(one: Object) -> None:
    container(one)["securityContext"] = {"allowPrivilegeEscalation": True}


NO_CODE = "The operator may bring no code of its own into pods"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (foreign_image, "no image but those of the chart's values, which this is not: 'example.org/other:1'"),
        (similar_image, "no image but those of the chart's values"),
        (second_image, "no image but those of the chart's values"),
        (command, "no commands in its pods but those of its own images"),
        (arguments, "no commands in its pods but those of its own images"),
        (python_path, NO_CODE),
        (file_over_code, NO_CODE),
        (directory, NO_CODE),
        (probe, NO_CODE),
        (hook_after_start, NO_CODE),
        (all_of_a_secret, NO_CODE),
        (store_of_its_own, NO_CODE),
        (other_account, "no account but those of gateways and workers, in their images"),
        (worker_s_account, "no account but those of gateways and workers, in their images"),
        (token, "Without an account a pod has no token"),
        (other_index, "work for another index than its label"),
        (two_indexes, "work for another index than its label"),
        (projected, "nothing of the node's"),
        (host_path, "nothing of the node's"),
        (host_network, "nothing of the node's"),
        (privileged, "nothing of the node's"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_operator_makes_no_other_pods(operator: Kubectl, spoil: Callable[[Object], None], why: str) -> None:
    spoilt = made()["gateway"]
    spoil(spoilt)
    assert why in operator.refused("create", "-f", "-", DRY, stdin=spoilt)


@pytest.mark.parametrize("name", ["backfill", "inspect"])
@pytest.mark.parametrize(
    "url",
    ["http://elsewhere.example:8080", "http://reembed-embedder-new.other.svc:8080", "http://other.NAMESPACE.svc:8080"],
    ids=["outside", "in another namespace", "another Service"],
)
def test_texts_go_to_no_pods_but_the_operator_s(operator: Kubectl, name: str, url: str) -> None:
    """What comes back is stored as the documents' vectors, also of what answers now."""
    spoilt = made(operator.namespace)[name]
    of = next(each for each in container(spoilt)["env"] if each["name"] == "REEMBED_EMBEDDER_URL")
    of["value"] = url.replace("NAMESPACE", operator.namespace)
    told = operator.refused("create", "-f", "-", DRY, stdin=spoilt)
    assert "nowhere but to Services of its own in their namespace" in told


@pytest.fixture(scope="module")
def with_index(installed: Kubectl) -> Kubectl:
    """Return kubectl as the operator, where there is the index whose pods the operator makes."""
    installed.ok("create", "-f", "-", stdin=changed("index", "metadata.name", "docs"))
    seen = changed("index", "metadata.name", "docs")["spec"]["store"]
    assert (seen["ownerSecretRef"], seen["gatewaySecretRef"]) == (OWNER, GATEWAY)
    operator, patient_until = (
        replace(installed, user=account(installed, "reembed")),
        time.monotonic() + PATIENCE_SECONDS,
    )
    while operator.run("create", "-f", "-", DRY, stdin=given(made()["gateway"], OWNER)).returncode == 0:
        assert time.monotonic() < patient_until, "the policy is not in force"
    return operator


OWNER = {"name": "functions-store", "key": "owner"}
GATEWAY = {"name": "functions-store", "key": "gateway"}


def given(one: Object, secret: dict[str, str], name: str = "REEMBED_DSN") -> Object:
    """Return a pod whose variable comes from a Secret."""
    environment = [each for each in container(one)["env"] if each["name"] != name]
    container(one)["env"] = [*environment, {"name": name, "valueFrom": {"secretKeyRef": secret}}]
    return one


def mounting(one: Object, secret: dict[str, object]) -> Object:
    pod(one)["volumes"].append({"name": "given", "secret": secret})
    return one


def test_an_index_s_pods_have_its_store(with_index: Kubectl) -> None:
    for name, secret in (("gateway", GATEWAY), ("worker", OWNER), ("backfill", OWNER), ("inspect", OWNER)):
        with_index.ok("create", "-f", "-", DRY, stdin=given(made(with_index.namespace)[name], secret))
    key = {"secretName": "functions-store", "items": [{"key": "openai", "path": "key"}]}
    for one in (made()["loading"], mounting(made()["external"], key)):
        with_index.ok("create", "-f", "-", DRY, stdin=one)


@pytest.mark.parametrize(
    ("name", "secret"), [("gateway", OWNER), ("gateway", {"name": "other", "key": "gateway"}), ("worker", GATEWAY)]
)
def test_an_index_s_pods_have_no_other_store(with_index: Kubectl, name: str, secret: dict[str, str]) -> None:
    refusal = with_index.refused("create", "-f", "-", DRY, stdin=given(made(with_index.namespace)[name], secret))
    assert "pods of EmbeddingIndex 'docs' no store but the one that the index names" in refusal


def test_a_store_s_connection_string_is_given_to_nothing_that_would_send_it_away(with_index: Kubectl) -> None:
    away = (
        mounting(made()["external"], {"secretName": "functions-store"}),
        mounting(made()["external"], {"secretName": "functions-store", "items": [{"key": "gateway", "path": "key"}]}),
        given(made()["announce"], GATEWAY, "REEMBED_HOOK_HMAC_SECRET"),
        given(made()["embedder"], GATEWAY, "HF_TOKEN"),
    )
    for one in away:
        refusal = with_index.refused("create", "-f", "-", DRY, stdin=one)
        assert "the store's connection string of EmbeddingIndex 'docs' to no pod but as REEMBED_DSN" in refusal


def services() -> list[Object]:
    """Return the Services that the operator makes, with short and with long names."""
    # Cut where it has dashes, which a name cannot end with.
    long = f"{'n' * 36}--{'n' * 20}"
    found = [
        embedder.service(b.pool("new").meta),
        embedder.service(b.pool(long).meta),
        index.gateway_service(b.index().meta),
        index.gateway_service(replace(b.index().meta, name=long)),
    ]
    return [_here(one, kinds.SERVICE) for one in found]


def test_the_operator_makes_its_services(operator: Kubectl) -> None:
    for one in services():
        operator.ok("create", "-f", "-", DRY, stdin=one)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"type": "ExternalName", "externalName": "example.org"}, "send nobody out of the cluster"),
        ({"type": "NodePort"}, "send nobody out of the cluster"),
        ({"externalIPs": ["192.0.2.1"]}, "send nobody out of the cluster"),
        ({"selector": {"app": "other"}}, "to no pods but those of the index or pool that it is named for"),
        ({"selector": {}}, "to no pods but those of the index or pool that it is named for"),
    ],
)
def test_the_operator_sends_callers_nowhere_else(operator: Kubectl, change: dict[str, object], why: str) -> None:
    _, _, gateway, _ = services()
    gateway["spec"] = gateway["spec"] | change
    assert why in operator.refused("create", "-f", "-", DRY, stdin=gateway)


def test_a_service_leads_to_pods_of_its_own_index(operator: Kubectl) -> None:
    _, _, gateway, _ = services()
    gateway["spec"]["selector"]["reembed.dev/index"] = "another"
    assert "that it is named for" in operator.refused("create", "-f", "-", DRY, stdin=gateway)


def test_a_running_pod_s_template_is_not_changed_to_another_s(installed: Kubectl, operator: Kubectl) -> None:
    old = made()["embedder"]
    foreign_image(old)
    installed.ok("create", "-f", "-", stdin=old)
    name = old["metadata"]["name"]
    operator.ok("patch", "deployment", name, "--type=merge", '--patch={"spec": {"replicas": 2}}')
    change = '--patch=[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.org/x:1"}]'
    assert "no image but those" in operator.refused("patch", "deployment", name, "--type=json", change)


def test_a_hook_s_pod_has_no_account_of_a_gateway_or_worker(operator: Kubectl) -> None:
    spoilt = made()["smoke"]
    worker_s_account(spoilt)
    assert "and to hooks none of these two" in operator.refused("create", "-f", "-", DRY, stdin=spoilt)


def test_people_make_what_they_like(installed: Kubectl) -> None:
    other = made()["gateway"]
    foreign_image(other)
    installed.ok("create", "-f", "-", DRY, stdin=other)


def test_with_a_panel_hooks_run_only_listed_images(kubectl: Kubectl) -> None:
    own = replace(kubectl, namespace=f"{kubectl.namespace}-hooks")
    own.ok("create", "namespace", own.namespace)
    chart, panel = str(ROOT / "charts" / "reembed"), f"panel.namespace={own.namespace}-panel"
    values = f"crds.enabled=false,panel.enabled=true,panel.createNamespace=true,{panel}"
    helm(own, "install", "reembed", chart, "--set", values)
    operator, patient_until = replace(own, user=account(own, "reembed")), time.monotonic() + PATIENCE_SECONDS
    while (done := operator.run("create", "-f", "-", DRY, stdin=made()["smoke"])).returncode == 0:
        assert time.monotonic() < patient_until, "the policy is not in force"
    assert "no image but those of policies.hookImages of the chart" in " ".join(done.stderr.split())
    operator.ok("create", "-f", "-", DRY, stdin=made()["announce"])
    helm(own, "upgrade", "reembed", chart, "--reuse-values", "--set", "policies.hookImages={example.org/smoke:1}")
    while (done := operator.run("create", "-f", "-", DRY, stdin=made()["smoke"])).returncode != 0:
        assert time.monotonic() < patient_until, done.stderr
    helm(own, "uninstall", "reembed")
