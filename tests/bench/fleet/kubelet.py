"""Brings up what Deployments ask for: the pods of a fleet as real objects, and the Deployments' own status.

What controllers and kubelets of a real cluster write is written here through the real API server, in the same shape, so
that the operator has as much to hold in memory as it would have there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core import names
from tests.bench.fleet import shape
from tests.bench.fleet.shape import Role

Object = dict[str, Any]

_AT_ONCE = 12
_SINCE = "2026-01-05T09:00:00Z"
_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


class Kubelet:
    """Watches the Deployments of a fleet until it is closed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._under_way: set[str] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                async for _, deployment in self._cluster.watch(kinds.DEPLOYMENT, shape.NAMESPACE):
                    name, wanted = deployment["metadata"]["name"], deployment["spec"]["replicas"]
                    if deployment.get("status", {}).get("readyReplicas", 0) != wanted and name not in self._under_way:
                        self._under_way.add(name)
                        tasks.create_task(self._bring_up(deployment))

    async def _bring_up(self, deployment: Object) -> None:
        async with self._turn:
            await bring_up(self._cluster, deployment)
            self._under_way.discard(deployment["metadata"]["name"])


async def bring_up(cluster: Cluster, deployment: Object) -> None:
    """Make a Deployment's pods, and say that all of them are ready."""
    meta, wanted = deployment["metadata"], deployment["spec"]["replicas"]
    for number in range(wanted):
        await run_pod(cluster, deployment, _role(meta, number), _member(meta))
    status = {
        "observedGeneration": meta["generation"],
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": wanted,
        "availableReplicas": wanted,
        "conditions": [_condition("Available"), _condition("Progressing")],
    }
    body = {"metadata": {"namespace": meta["namespace"], "name": meta["name"]}, "status": status}
    await cluster.apply(kinds.DEPLOYMENT, body, manager="kube-controller-manager", subresource="status")


async def run_pod(cluster: Cluster, deployment: Object, role: Role, member: int, *, phase: str = "Running") -> None:
    """Make a pod from a Deployment's template, and say that it is in `phase`."""
    name, template = f"{deployment['metadata']['name']}-{role.value}", deployment["spec"]["template"]
    meta = {"namespace": shape.NAMESPACE, "name": name, "labels": template["metadata"]["labels"]}
    pod = {"metadata": meta, "spec": {**template["spec"], "nodeName": "node-1"}}
    await cluster.apply(kinds.POD, pod, manager="kube-controller-manager")
    await say(cluster, name, role, member, phase)


async def say(cluster: Cluster, name: str, role: Role, member: int, phase: str) -> None:
    """Write a pod's status as its kubelet would."""
    ip = shape.address(role, member)
    started = {"state": {"running": {"startedAt": _SINCE}}, "lastState": {}, "ready": True, "restartCount": 0}
    status = {
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": "10.1.0.7",
        "startTime": _SINCE,
        "conditions": [_condition(kind) for kind in _CONDITIONS],
        "containerStatuses": [{"name": "main", "image": "image:1", "imageID": f"sha256:{'0' * 64}", **started}],
    }
    body = {"metadata": {"namespace": shape.NAMESPACE, "name": name}, "status": status}
    await cluster.apply(kinds.POD, body, manager="kubelet", subresource="status")


def _condition(kind: str) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": _SINCE}


def _role(meta: Object, number: int) -> Role:
    component = meta["labels"][names.LABEL_COMPONENT]
    if component == "gateway":
        return (Role.GATEWAY, Role.OTHER_GATEWAY)[number]
    if component == "worker":
        return Role.WORKER
    return Role.SERVING_POOL if meta["labels"][names.LABEL_POOL].endswith("-a") else Role.TARGET_POOL


def _member(meta: Object) -> int:
    labels = meta["labels"]
    return shape.member_of(labels.get(names.LABEL_INDEX) or labels[names.LABEL_POOL])
