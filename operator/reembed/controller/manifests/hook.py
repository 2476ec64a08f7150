"""The Jobs of hooks, made and read: a POST by our own runner, or what a CronJob of the user's describes.

A Job hook names a CronJob and nothing else: whoever may write migrations, but no pods, gets no pod of their own that
way. What both kinds are told is the same, as `REEMBED_HOOK_*` in the environment; the runner sends it as its body. The
operator reads neither the Secret that signs nor the user's address; Kubernetes gives both to the pod.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from reembed.controller import pods
from reembed.controller.cache import Object
from reembed.controller.manifests import pod
from reembed.core import names
from reembed.core.hooks import Hook, HookReport, HttpHook, On, RunHook, RunState
from reembed.core.migration import Migration
from reembed.core.model import Arm, SecretKey

ANNOTATION_KEY = f"{names.GROUP}/hook-key"
LABEL_HOOK = f"{names.GROUP}/hook"
_COMPONENT = "hook"
_JOB_LABEL = "batch.kubernetes.io/job-name"

# The runner judges its timeout itself and says why; the Job's deadline is for a pod that does not come so far.
_START_SECONDS = 30
# Pods that end without a word of the runner's (killed, out of memory) are replaced so often.
_REPLACED = 3
# What the runner found is final: it has retried by itself.
_FINAL_STATUSES = [1, 2]
_LONGEST_MESSAGE = 1024


class CannotRun(Exception):
    """The Job of a hook cannot be made as things are; another pass may find them better."""


def job(run: RunHook, migration: Migration, image: str, pull_policy: str, cron_job: Object | None) -> pod.Manifest:
    """Return the Job of a run; `cron_job` is the one that a Job hook names, None if there is none.

    `image` is any of ours that has aiohttp; the gateway's is the smallest.

    Raises:
        CannotRun: the hook names a CronJob that does not exist.

    """
    if run.hook.http is not None:
        return _http_job(run, run.hook.http, migration, image, pull_policy)
    return _template_job(run, migration, cron_job)


def _http_job(run: RunHook, http: HttpHook, migration: Migration, image: str, pull_policy: str) -> pod.Manifest:
    container = pod.Container(
        name="hook",
        image=image,
        pull_policy=pull_policy,
        environment={**environment(run, migration), **_target(run.hook, http)},
        secrets={"REEMBED_HOOK_HMAC_SECRET": SecretKey(*http.hmac_secret)} if http.hmac_secret is not None else {},
        requests={"cpu": "10m", "memory": "48Mi"},
        limits={"memory": "96Mi"},
        serves=False,
    )
    labels = _labels(run, migration)
    made = pod.template(container, labels, spec={"restartPolicy": "Never", "enableServiceLinks": False})
    # Whatever the image runs otherwise; and nobody can scrape what is gone within seconds.
    made["spec"]["containers"][0]["command"] = ["python", "-m", "reembed.hooks"]
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "hook", "operator": "In", "values": _FINAL_STATUSES},
        },
    ]
    spec = {
        "backoffLimit": _REPLACED,
        "activeDeadlineSeconds": _seconds(run) + _START_SECONDS,
        "podFailurePolicy": {"rules": rules},
        "template": {"metadata": {"labels": labels}, "spec": made["spec"]},
    }
    return {"metadata": _metadata(run, migration, {}, {}), "spec": spec}


def _template_job(run: RunHook, migration: Migration, cron_job: Object | None) -> pod.Manifest:
    """Return what `kubectl create job --from=cronjob/NAME` makes, with our facts in it."""
    if cron_job is None or cron_job["metadata"].get("deletionTimestamp"):
        raise CannotRun(
            f"there is no CronJob {run.hook.cron_job!r} in namespace {migration.meta.namespace!r}; create it, with "
            "spec.suspend: true if it shall not run by its schedule, or correct spec.hooks"
        )
    template = copy.deepcopy(cron_job["spec"]["jobTemplate"])
    spec, own = template["spec"], template.get("metadata") or {}
    spec["activeDeadlineSeconds"] = min(_seconds(run), spec.get("activeDeadlineSeconds") or _seconds(run))
    # What became of it is read once it has ended, maybe by an operator that was away; it goes with the migration.
    spec.pop("ttlSecondsAfterFinished", None)
    pods_own = spec["template"].setdefault("metadata", {})
    pods_own["labels"] = {**(pods_own.get("labels") or {}), **_labels(run, migration)}
    facts = environment(run, migration)
    for kind in ("initContainers", "containers"):
        for container in spec["template"]["spec"].get(kind) or []:
            container["env"] = _told(facts, container.get("env") or [])
    return {
        "metadata": _metadata(run, migration, own.get("labels") or {}, own.get("annotations") or {}),
        "spec": spec,
    }


def environment(run: RunHook, migration: Migration) -> dict[str, str]:
    """Return what a hook is told; what does not apply is empty."""
    facts = payload(run, migration)
    told = {
        "REEMBED_HOOK_NAME": run.hook.name,
        "REEMBED_HOOK_WHEN": run.moment.on.value,
        "REEMBED_HOOK_KEY": run.key,
        "REEMBED_HOOK_NAMESPACE": migration.meta.namespace,
        "REEMBED_HOOK_MIGRATION": migration.meta.name,
        "REEMBED_HOOK_MIGRATION_UID": migration.meta.uid,
        "REEMBED_HOOK_PAYLOAD": json.dumps(facts, separators=(",", ":")),
    }
    told |= {f"REEMBED_HOOK_{name.upper()}": _word(facts[name]) for name in _PLAIN}
    for side in ("serving", "candidate"):
        arm = facts[side] or {}
        told |= {f"REEMBED_HOOK_{side.upper()}_{part.upper()}": arm.get(part, "") for part in _PARTS}
    return told


_PLAIN = ("attempt", "state", "step", "weight", "index")
_PARTS = ("pool", "collection", "fingerprint")


def payload(run: RunHook, migration: Migration) -> dict[str, Any]:
    """Return the body of an HTTP hook. With EachStep, `step` and `weight` are those that it lets begin."""
    status, meta, step = migration.status, migration.meta, run.moment.step
    weight = status.weight
    if run.moment.on is On.EACH_STEP and step is not None:
        weight = migration.spec.steps[step].weight
    return {
        "hook": run.hook.name,
        "when": run.moment.on.value,
        "migration": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
        "attempt": run.moment.attempt,
        "state": status.state.value,
        "step": step,
        "weight": weight,
        "index": migration.spec.index,
        "serving": _side(status.serving),
        "candidate": _side(status.candidate),
        "idempotencyKey": run.key,
    }


def report(job: Object, own_pods: Iterable[Object]) -> HookReport:
    """Return how a hook's Job is; `own_pods` may hold pods of others."""
    name = job["metadata"]["name"]
    own = [one for one in own_pods if (one["metadata"].get("labels") or {}).get(_JOB_LABEL) == name]
    found = pods.job_report(job, own)
    if found.complete:
        return HookReport(RunState.SUCCEEDED, _last_words(own, failed=False))
    if found.exhausted:
        return HookReport(RunState.FAILED, _last_words(own, failed=True) or _line(found.message))
    return HookReport(RunState.RUNNING, _line(found.problem.message) if found.problem is not None else "")


def _metadata(
    run: RunHook, migration: Migration, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> pod.Manifest:
    owner = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": "EmbeddingMigration",
        "name": migration.meta.name,
        "uid": migration.meta.uid,
        "controller": True,
    }
    return {
        "name": run.job,
        "namespace": migration.meta.namespace,
        "labels": {**labels, **_labels(run, migration)},
        "annotations": {**annotations, ANNOTATION_KEY: run.key},
        # Nothing serves from it: it may go with its migration, at once. The CronJob must not own it, since it would
        # count it among its own runs and remove it with them.
        "ownerReferences": [owner],
    }


def _labels(run: RunHook, migration: Migration) -> dict[str, str]:
    owner = {names.LABEL_MIGRATION: migration.meta.name, LABEL_HOOK: run.hook.name}
    return pod.labels(_COMPONENT, **owner)


def _target(hook: Hook, http: HttpHook) -> dict[str, str]:
    return {
        "REEMBED_HOOK_URL": http.url,
        "REEMBED_HOOK_TIMEOUT": f"{hook.timeout.total_seconds():g}",
        "REEMBED_HOOK_RETRIES": str(http.retries),
    }


def _told(facts: Mapping[str, str], theirs: Iterable[Object]) -> list[Object]:
    """Return a container's environment with ours first, so that its own variables may refer to it."""
    # Kubernetes would expand $(NAME) in a value.
    ours = [{"name": name, "value": value.replace("$", "$$")} for name, value in sorted(facts.items())]
    return [*ours, *(one for one in theirs if one["name"] not in facts)]


def _seconds(run: RunHook) -> int:
    return max(math.ceil(run.hook.timeout.total_seconds()), 1)


def _side(arm: Arm | None) -> dict[str, str] | None:
    if arm is None:
        return None
    return {"pool": arm.pool, "collection": arm.collection, "fingerprint": arm.fingerprint}


def _word(value: object) -> str:
    return "" if value is None else str(value)


def _last_words(own: Iterable[Object], *, failed: bool) -> str:
    """Return the termination message of the pod that ended last, of those that failed or of those that did not."""
    found = [
        (ended.get("finishedAt") or "", ended["message"])
        for one in own
        for container in one.get("status", {}).get("containerStatuses") or []
        if (ended := container.get("state", {}).get("terminated")) is not None
        and ended.get("message")
        and (ended.get("exitCode") != 0) == failed
    ]
    return _line(max(found)[1]) if found else ""


def _line(text: str) -> str:
    """Return the first line that says something, of what may be anything that a user's container wrote."""
    lines = (line for one in text.splitlines() if (line := "".join(c for c in one if c.isprintable()).strip()))
    return next(lines, "")[:_LONGEST_MESSAGE]
