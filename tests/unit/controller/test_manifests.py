"""What the operator makes is restricted, deterministic, and no owner's garbage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reembed.backfill.shard import STOPPED
from reembed.controller.manifests import backfill, embedder, index, inspection, pod
from reembed.controller.settings import Images
from reembed.core.desired import BackfillJob
from reembed.core.inspection_orders import Order
from reembed.core.model import DownloadSpec, SecretKey
from tests import builders as b

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")
POOL = b.pool("new")
INDEX = b.index()
JOB = BackfillJob("move", "uid-move", 1, "docs", b.NEW.collection, b.NEW.fingerprint, "new", 8, 2, "backfill:1")
ORDER = Order("o-1", "docs", "uid-docs", b.OLD.collection, b.OLD.fingerprint, "old")


def made() -> dict[str, pod.Manifest]:
    return {
        "embedder": embedder.deployment(POOL.meta, POOL.spec, POOL.spec.variants[0], 1, IMAGES),
        "gateway": index.gateway(INDEX.meta, INDEX.spec, IMAGES),
        "worker": index.worker(INDEX.meta, INDEX.spec, IMAGES),
        "backfill": backfill.job(JOB, "rag", SecretKey("store", "owner"), "IfNotPresent"),
        "inspect": inspection.job(ORDER, "rag", SecretKey("store", "owner"), "backfill:1", "IfNotPresent"),
    }


@pytest.mark.parametrize("component", ["embedder", "gateway", "worker", "backfill", "inspect"])
def test_every_pod_passes_the_restricted_level(component: str) -> None:
    spec = made()[component]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {
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


@pytest.mark.parametrize(
    ("component", "account"),
    [
        ("embedder", None),
        ("gateway", "reembed-gateway"),
        ("worker", "reembed-worker"),
        ("backfill", None),
        ("inspect", None),
    ],
)
def test_only_who_reads_the_api_gets_a_token(component: str, account: str | None) -> None:
    spec = made()[component]["spec"]["template"]["spec"]
    assert (spec.get("serviceAccountName"), spec["automountServiceAccountToken"]) == (account, account is not None)


@pytest.mark.parametrize("component", ["embedder", "gateway", "worker"])
def test_what_serves_has_no_owner_that_could_take_it_along(component: str) -> None:
    assert "ownerReferences" not in made()[component]["metadata"]


def test_a_job_goes_with_the_migration_that_it_worked_for() -> None:
    (owner,) = made()["backfill"]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("EmbeddingMigration", "move", "uid-move")


def test_secrets_are_referred_to_and_never_held() -> None:
    (container,) = made()["backfill"]["spec"]["template"]["spec"]["containers"]
    dsn = next(one for one in container["env"] if one["name"] == "REEMBED_DSN")
    assert dsn == {"name": "REEMBED_DSN", "valueFrom": {"secretKeyRef": {"name": "store", "key": "owner"}}}


def test_a_prefix_reaches_the_embedder_as_it_was_written() -> None:
    spec = replace(POOL.spec, model=replace(POOL.spec.model, query_prefix="$(HOME) costs 5$: "))
    made = embedder.deployment(POOL.meta, spec, spec.variants[0], 1, IMAGES)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    prefix = next(one["value"] for one in container["env"] if one["name"] == "REEMBED_QUERY_PREFIX")
    assert prefix == "$$(HOME) costs 5$$: "


def test_a_jobs_parallelism_changes_in_place_and_its_template_never_does() -> None:
    paused, other = (
        backfill.job(one, "rag", SecretKey("store", "owner"), "IfNotPresent")
        for one in (replace(JOB, parallelism=0), replace(JOB, image="backfill:2"))
    )
    name = made()["backfill"]["metadata"]["name"]
    assert (paused["metadata"]["name"], paused["spec"]["parallelism"]) == (name, 0)
    assert other["metadata"]["name"] != name


def test_a_pod_that_was_sent_away_is_no_try_of_its_shard() -> None:
    rules = made()["backfill"]["spec"]["podFailurePolicy"]["rules"]
    codes = [rule["onExitCodes"] for rule in rules if rule["action"] == "Ignore" and "onExitCodes" in rule]
    assert codes == [{"operator": "In", "values": [STOPPED]}]


def test_pods_of_a_variant_go_to_different_nodes_where_they_can() -> None:
    template = made()["embedder"]["spec"]["template"]
    (spread,) = template["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    assert spread["labelSelector"]["matchLabels"] == template["metadata"]["labels"]


def test_the_same_input_gives_the_same_manifest() -> None:
    assert made() == made()


def _embedder(uri: str, **fields: Any) -> pod.Manifest:
    spec = replace(POOL.spec, model=replace(POOL.spec.model, uri=uri), **fields)
    made = embedder.deployment(POOL.meta, spec, spec.variants[0], 1, IMAGES)
    found: pod.Manifest = made["spec"]["template"]["spec"]
    return found


DOWNLOAD = DownloadSpec("who", "http://mirror", "eu-west-3")
HUB = {"HF_ENDPOINT": "http://mirror", "HF_TOKEN": {"name": "who", "key": "HF_TOKEN"}}
BUCKET = {
    "AWS_ENDPOINT_URL": "http://mirror",
    "AWS_ACCESS_KEY_ID": {"name": "who", "key": "AWS_ACCESS_KEY_ID"},
    "AWS_SECRET_ACCESS_KEY": {"name": "who", "key": "AWS_SECRET_ACCESS_KEY"},
    "AWS_SESSION_TOKEN": {"name": "who", "key": "AWS_SESSION_TOKEN", "optional": True},
}


@pytest.mark.parametrize(("uri", "given"), [("hf://o/r/f", HUB), ("s3://b/k", BUCKET), ("http://h/f", {})])
def test_a_pod_gets_the_credentials_of_its_source_alone(uri: str, given: dict[str, object]) -> None:
    (container,) = _embedder(uri, download=DOWNLOAD)["containers"]
    found = {
        one["name"]: one["valueFrom"]["secretKeyRef"] if "valueFrom" in one else one["value"]
        for one in container["env"]
    }
    assert {name: value for name, value in found.items() if name in {**HUB, **BUCKET}} == given


def test_pods_may_share_a_claim_of_model_files() -> None:
    shared = _embedder("http://h/f", cache_claim="files")
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "files"}} in shared["volumes"]
    assert {"name": "cache", "mountPath": "/cache"} in shared["containers"][0]["volumeMounts"]


def test_an_inspection_is_a_job_of_its_index_and_of_its_order() -> None:
    job = made()["inspect"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value") for one in container["env"]}
    (owner,) = job["metadata"]["ownerReferences"]
    assert (container["image"], container["args"]) == ("backfill:1", ["inspect"])
    assert given == {
        "REEMBED_INSPECTION": "o-1",
        "REEMBED_COLLECTION": b.OLD.collection,
        "REEMBED_FINGERPRINT": b.OLD.fingerprint,
        "REEMBED_EMBEDDER_URL": "http://reembed-embedder-old.rag.svc:8080",
        "REEMBED_DSN": None,
    }
    assert (owner["kind"], owner["uid"]) == ("EmbeddingIndex", "uid-docs")
    another = inspection.job(replace(ORDER, id="o-2"), "rag", SecretKey("store", "owner"), "backfill:1", "Always")
    assert another["metadata"]["name"] != job["metadata"]["name"]
    assert job["metadata"]["name"].startswith("reembed-inspect-docs-")


def test_without_a_pool_an_inspection_asks_nobody_for_vectors() -> None:
    alone = inspection.job(replace(ORDER, pool=None), "rag", SecretKey("store", "owner"), "backfill:1", "Always")
    (container,) = alone["spec"]["template"]["spec"]["containers"]
    assert "REEMBED_EMBEDDER_URL" not in {one["name"] for one in container["env"]}
