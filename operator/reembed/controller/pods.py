"""What Kubernetes says of pods, Deployments and Jobs, as the core's reports; pure over cached objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from reembed.controller.cache import Object
from reembed.core import reasons
from reembed.core.fingerprint import fingerprint
from reembed.core.model import JobReport, PoolReport, PoolSpec, Problem

# Exit status of an embedder that found what waiting cannot heal.
_PERMANENT = 2
# A container that waits for one of these has not started, and will not by itself.
_CANNOT_START = frozenset({"ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "InvalidImageName"})


def addresses(pods: Iterable[Object]) -> dict[str, str]:
    """Return name -> IP address of the pods that run and are not on their way out."""
    return running_addresses(pod for pod in pods if not pod["metadata"].get("deletionTimestamp"))


def running_addresses(pods: Iterable[Object]) -> dict[str, str]:
    """Return name -> IP address of the pods that run; one on its way out may still answer queries."""
    return {
        pod["metadata"]["name"]: pod["status"]["podIP"]
        for pod in pods
        if pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIP")
    }


def alive(pods: Iterable[Object]) -> frozenset[str]:
    """Return the names of the pods whose containers run or may run again; evicted ones stay for weeks, and do not."""
    return frozenset(
        pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") not in {"Failed", "Succeeded"}
    )


def ready_addresses(pods: Iterable[Object]) -> dict[str, str]:
    """Return name -> IP address of the pods that pass their readiness probe."""
    return addresses(pod for pod in pods if _condition(pod, "Ready") == "True")


def starting_addresses(pods: Iterable[Object]) -> dict[str, str]:
    """Return name -> IP address of the pods that run and do not pass their readiness probe."""
    return addresses(pod for pod in pods if _condition(pod, "Ready") != "True")


def pool_report(
    spec: PoolSpec, desired: int, deployments: Iterable[Object], pods: Iterable[Object], memory: float | None
) -> PoolReport:
    """Return how a pool is; pods of an older template count as ready too, since they hold the same model."""
    ready = sum(ready_replicas(one) for one in deployments)
    problem, permanent = _first_problem(pods) if ready < desired else (None, False)
    return PoolReport(fingerprint(spec.model), ready, desired, memory, problem, permanent)


def stranger(pods: Iterable[Object]) -> Problem | None:
    """Return why a pod does not belong to its collection's class, where one does not, though others may be enough."""
    found = (problem for pod in pods for problem, _ in _problems(pod))
    return next((one for one in found if one.reason == reasons.MODEL_CLASS_MISMATCH), None)


def unplaced(pod: Object) -> Problem | None:
    """Return why no node has room for a pod, None if one has."""
    found = _no_room(pod)
    if found is None or pod["metadata"].get("deletionTimestamp"):
        return None
    return Problem("Unschedulable", f"pod {pod['metadata']['name']}: {found.get('message', 'no node has room')}")


def unplaced_since(pod: Object) -> datetime | None:
    """Return since when no node has room for a pod, None if one has."""
    found = _no_room(pod)
    stamp = found.get("lastTransitionTime") if found is not None else None
    return datetime.fromisoformat(stamp) if stamp else None


def ready_replicas(deployment: Object) -> int:
    ready: int = deployment.get("status", {}).get("readyReplicas", 0)
    return ready


def is_rolling(deployment: Object) -> bool:
    """Return whether not all pods of a Deployment are of its newest template, as far as it says so."""
    meta, status = deployment["metadata"], deployment.get("status") or {}
    size = deployment["spec"].get("replicas", 0)
    seen = status.get("observedGeneration", meta.get("generation")) == meta.get("generation")
    return not seen or status.get("updatedReplicas", size) < size


def job_report(job: Object, pods: Iterable[Object] = ()) -> JobReport:
    """Return how a Job is; `pods` are its own."""
    status = job.get("status", {})
    failed = next((one for one in _conditions(job) if one["type"] == "Failed" and one["status"] == "True"), None)
    return JobReport(
        name=job["metadata"]["name"],
        active=status.get("active", 0),
        failed=status.get("failed", 0),
        complete=_condition(job, "Complete") == "True",
        exhausted=failed is not None,
        message=failed.get("message", "") if failed is not None else "",
        problem=next((problem for pod in pods for problem in _start_problems(pod)), None),
    )


def _first_problem(pods: Iterable[Object]) -> tuple[Problem | None, bool]:
    """Return what keeps a pod from being ready and whether waiting cannot heal it; the permanent one first."""
    found = sorted((one for pod in pods for one in _problems(pod)), key=lambda one: not one[1])
    return found[0] if found else (None, False)


def _problems(pod: Object) -> Iterator[tuple[Problem, bool]]:
    if pod["metadata"].get("deletionTimestamp"):
        return
    for problem in _start_problems(pod):
        yield problem, False
    for container in pod.get("status", {}).get("containerStatuses") or []:
        for state in ("state", "lastState"):
            ended = container.get(state, {}).get("terminated")
            if ended and not container.get("ready"):
                yield _last_words(pod["metadata"]["name"], ended)


def _start_problems(pod: Object) -> Iterator[Problem]:
    """Yield what keeps a pod from starting: no node has room for it, or its container cannot be made."""
    name = pod["metadata"]["name"]
    if (no_room := unplaced(pod)) is not None:
        yield no_room
    for container in pod.get("status", {}).get("containerStatuses") or []:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _CANNOT_START:
            yield Problem(waiting["reason"], f"pod {name}: {waiting.get('message', 'cannot start')}")


def _last_words(pod: str, ended: Mapping[str, Any]) -> tuple[Problem, bool]:
    """Return why a container ended, by its own termination message where it left one."""
    text = ended.get("message") or ""
    try:
        said = json.loads(text)
        problem = Problem(said["reason"], said["message"])
    except (ValueError, KeyError, TypeError):
        why = ended.get("reason", "Error")
        return Problem(f"Pod{why}", f"pod {pod} ended with status {ended.get('exitCode')} ({why}); see its log"), False
    if problem.reason == reasons.MODEL_CLASS_MISMATCH:  # the pod's own fault, and not its model's
        problem = Problem(problem.reason, f"pod {pod}: {problem.message}")
    return problem, ended.get("exitCode") == _PERMANENT


def _no_room(pod: Object) -> Mapping[str, Any] | None:
    return next(
        (
            one
            for one in _conditions(pod)
            if (one["type"], one["status"], one.get("reason")) == ("PodScheduled", "False", "Unschedulable")
        ),
        None,
    )


def _conditions(obj: Object) -> list[Mapping[str, Any]]:
    return obj.get("status", {}).get("conditions") or []


def _condition(obj: Object, kind: str) -> str | None:
    return next((one["status"] for one in _conditions(obj) if one["type"] == kind), None)
