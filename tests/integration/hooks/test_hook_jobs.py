"""The API server takes the Jobs of both kinds of hooks, once each, and their pods are restricted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cache import ROOT
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Conflict
from reembed.controller.manifests import hook
from reembed.core import hooks
from reembed.core.hooks import Hook, HttpHook, Moment, On, RunHook
from reembed.core.migration import Migration
from reembed.core.transitions import State
from tests import builders as b
from tests.integration.crds.objects import Kubectl

SIGNED = HttpHook("https://hooks.example/in", hmac_secret=("hook-keys", "announce"))
ANNOUNCE = Hook("announce", On.EACH_STEP, timedelta(seconds=20), http=SIGNED)
SMOKE = Hook("smoke-test", On.EACH_STEP, timedelta(minutes=10), cron_job="smoke-test")
STEP = Moment(On.EACH_STEP, 1, 1)


@pytest.fixture
def kubectl(kube_binary: Path, apiserver: Path, namespace: str) -> Kubectl:
    """Return kubectl for a namespace whose pods must be restricted."""
    own = Kubectl(kube_binary, apiserver, namespace)
    own.ok("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    own.ok("create", "serviceaccount", "default")
    return own


def migration(namespace: str) -> Migration:
    moving = b.migration(State.CANARY)
    return replace(moving, meta=replace(moving.meta, namespace=namespace))


def job(of: Hook, namespace: str, cron_job: dict[str, Any] | None = None) -> dict[str, Any]:
    key = hooks.idempotency_key("uid-move", STEP, of.name)
    run = RunHook(of, STEP, hooks.job_name("move", of.name, key), key)
    return hook.job(run, migration(namespace), "gateway:1", "IfNotPresent", cron_job)


def documented_cron_job() -> dict[str, Any]:
    """Return the CronJob that docs/hooks.md shows."""
    text = (ROOT / "docs/hooks.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    (found,) = (one for block in blocks if (one := yaml.safe_load(block)).get("kind") == "CronJob")
    return dict(found)


async def test_a_hook_is_made_once_however_often_it_is_asked_for(kubectl: Kubectl) -> None:
    made = job(ANNOUNCE, kubectl.namespace)
    async with Cluster.connect(str(kubectl.kubeconfig)) as cluster:
        await cluster.create(kinds.JOB, kubectl.namespace, made, manager="test")
        with pytest.raises(Conflict, match="already exists"):
            await cluster.create(kinds.JOB, kubectl.namespace, job(ANNOUNCE, kubectl.namespace), manager="test")
    (found,) = json.loads(kubectl.ok("get", "jobs", "-l", "reembed.dev/hook=announce", "-o", "json"))["items"]
    assert found["metadata"]["annotations"]["reembed.dev/hook-key"] == "uid-move/1/EachStep/1/announce"


def test_the_runners_pod_is_let_into_a_restricted_namespace(kubectl: Kubectl) -> None:
    template = job(ANNOUNCE, kubectl.namespace)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "hook"}
    assert "created" in kubectl.ok("create", "--dry-run=server", "-f", "-", stdin=pod)


def test_the_documented_cron_job_becomes_a_job_as_kubectl_makes_it(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=documented_cron_job())
    cron_job = json.loads(kubectl.ok("get", "cronjob", "smoke-test", "-o", "json"))
    made = {"apiVersion": "batch/v1", "kind": "Job", **job(SMOKE, kubectl.namespace, cron_job)}
    ours = json.loads(kubectl.ok("create", "-o", "json", "-f", "-", stdin=made))
    words = ("create", "job", "theirs", "--from=cronjob/smoke-test", "-o", "json")
    theirs = json.loads(kubectl.ok(*words))
    assert ours["spec"].pop("activeDeadlineSeconds") == 600
    assert bare(ours) == bare(theirs)


def bare(made: dict[str, Any]) -> dict[str, Any]:
    """Return a Job's spec without what is told to a hook and what differs between any two Jobs."""
    spec = dict(made["spec"])
    del spec["selector"]
    spec["template"]["metadata"].pop("labels")
    for container in spec["template"]["spec"]["containers"]:
        container.pop("env", None)
    return spec
