"""Kubernetes' own controllers, as far as Reembed sees them: Deployments get pods, Jobs get done, owned objects go.

Pods come up after a while, may be lost, and leave a moment after they were told to. Everything it does is a timer of
the virtual loop; it trusts the server and is trusted, as faults on that side would only make it slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reembed.cluster import kinds
from reembed.core import names
from tests.sim.api_server import ApiServer, Change, Object
from tests.sim.chances import Chances


@dataclass(slots=True)
class Pod:
    """A pod and its process."""

    name: str
    deployment: str
    labels: dict[str, str]
    started_at: float
    ready: bool = False
    placed: bool = True  # on a node
    leaving: bool = False

    @property
    def component(self) -> str:
        return self.labels[names.LABEL_COMPONENT]


class Kubelet:
    """Runs pods and Jobs. `came` and `went` tell who plays the processes in them."""

    def __init__(self, server: ApiServer, chances: Chances) -> None:
        self._server = server
        self._chances = chances
        self._numbers = 0
        self.pods: dict[str, Pod] = {}
        self.held: set[str] = set()  # Deployments whose pods do not become ready
        self.full: set[str] = set()  # Deployments for whose pods there is no node
        self.crowded: set[str] = set()  # Deployments whose new pods wait for a node
        self.came: Callable[[Pod], None] = lambda pod: None
        self.evicted: Callable[[Pod], None] = lambda pod: None
        self.went: Callable[[Pod], None] = lambda pod: None
        self.work: Callable[[Object], bool | None] = lambda job: True
        self._working: set[str] = set()
        server.listeners.append(self._changed)
        server.evict = self.evict

    def of(self, component: str, label: str = "", value: str = "") -> list[Pod]:
        """Return the running pods of a component."""
        return [
            pod
            for pod in self.pods.values()
            if pod.component == component and (not label or pod.labels.get(label) == value)
        ]

    def ready(self, pool: str) -> int:
        return sum(pod.ready and not pod.leaving for pod in self.of("embedder", names.LABEL_POOL, pool))

    def lose(self, pod: Pod) -> None:
        """Have a pod be gone at once: its node went. Its Deployment makes another."""
        if pod.name in self.pods:
            self._gone(pod.name)
            self._soon(self._deployment, pod.deployment)

    def room(self, deployment: str) -> None:
        """Have a node for a Deployment's pods again."""
        self.full.discard(deployment)
        self._soon(self._deployment, deployment)

    def evict(self, name: str) -> None:
        """Have a pod end in order; its Deployment makes another where it lacks one then."""
        pod = self.pods.get(name)
        if pod is not None and not pod.leaving:
            self._leave(pod)
            self.evicted(pod)
            self._soon(self._deployment, pod.deployment)

    def place(self, deployment: str) -> None:
        """Have a node for the pods of a Deployment that wait for one."""
        self.crowded.discard(deployment)
        for pod in [pod for pod in self.pods.values() if pod.deployment == deployment and not pod.placed]:
            if not pod.leaving:
                pod.placed = True
                self._begin(pod)

    def restart(self, pod: Pod, out_of_memory: bool) -> None:
        """Have a pod's process die and come again."""
        if pod.name not in self.pods or pod.leaving:
            return
        pod.ready = False
        self.went(pod)
        self._tell(pod, _terminated(out_of_memory))
        self._report(pod.deployment)
        self._later(self._chance(pod.name).uniform(1.0, 3.0), self._up, pod.name)

    def _changed(self, change: Change) -> None:
        if change.kind == kinds.DEPLOYMENT and _spec(change.before) != _spec(change.after):
            self._soon(self._deployment, change.name)
        elif change.kind == kinds.JOB:
            self._soon(self._job, change.name)
        if change.after is None and change.kind == kinds.MIGRATION:
            self._later(0.5, self._collect, change.newest["metadata"]["uid"])

    def _deployment(self, name: str) -> None:
        """Have as many pods as the Deployment asks for."""
        found = self._server.get(kinds.DEPLOYMENT, name)
        wanted = found["spec"]["replicas"] if found is not None else 0
        own = [pod for pod in self.pods.values() if pod.deployment == name and not pod.leaving]
        for _ in range(len(own), wanted if name not in self.full else 0):
            assert found is not None
            self._start(name, found["spec"]["template"]["metadata"]["labels"])
        for pod in sorted(own, key=lambda one: one.ready)[: max(len(own) - wanted, 0)]:
            self._leave(pod)
        self._report(name)

    def _start(self, deployment: str, labels: dict[str, str]) -> None:
        self._numbers += 1
        name = f"{deployment}-{self._numbers}"
        self.pods[name] = pod = Pod(name, deployment, labels, self._now(), placed=deployment not in self.crowded)
        if pod.placed:
            self._begin(pod)
        else:
            self._tell(pod, {"phase": "Pending", "conditions": [_unplaced(self._server.stamp())]})

    def _begin(self, pod: Pod) -> None:
        name = pod.name
        self._tell(pod, {"phase": "Running", "podIP": name, "conditions": [_condition("False")]})
        self.came(pod)
        self._later(self._chance(name).uniform(0.5, 3.0), self._up, name)

    def _up(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is None or pod.leaving or pod.ready:
            return
        if pod.deployment in self.held:
            self._later(1.0, self._up, name)
            return
        pod.ready = True
        self.came(pod)
        self._tell(pod, {"phase": "Running", "podIP": name, "conditions": [_condition("True")]})
        self._report(pod.deployment)

    def _leave(self, pod: Pod) -> None:
        pod.leaving, pod.ready = True, False
        self._server.put(kinds.POD, pod.name, {"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}}, "kubelet")
        self._later(self._chance(pod.name).uniform(0.2, 2.0), self._gone, pod.name)

    def _gone(self, name: str) -> None:
        pod = self.pods.pop(name, None)
        if pod is not None:
            pod.ready = False
            self.went(pod)
            self._server.remove(kinds.POD, name, "kubelet")
            self._report(pod.deployment)

    def _tell(self, pod: Pod, status: Object) -> None:
        self._server.put(kinds.POD, pod.name, {"metadata": {"labels": pod.labels}, "status": status}, "kubelet")

    def _report(self, deployment: str) -> None:
        if self._server.get(kinds.DEPLOYMENT, deployment) is not None:
            ready = sum(pod.ready for pod in self.pods.values() if pod.deployment == deployment)
            self._server.put(kinds.DEPLOYMENT, deployment, {"status": {"readyReplicas": ready}}, "kubelet")

    def _job(self, name: str) -> None:
        found = self._server.get(kinds.JOB, name)
        if found is None or name in self._working:
            return
        active = found["spec"].get("parallelism", 1)
        status = found.get("status", {})
        if status.get("conditions"):
            return
        if status.get("active", 0) != active:
            self._server.put(kinds.JOB, name, {"status": {"active": active}}, "kubelet")
        if active:
            self._working.add(name)
            self._later(self._chance(name).uniform(0.2, 0.8), self._work, name)

    def _work(self, name: str) -> None:
        """Do a piece of a Job's work; None is that it failed for good."""
        self._working.discard(name)
        found = self._server.get(kinds.JOB, name)
        if found is None:
            return
        done = self.work(found)
        if done or done is None:
            end = {"type": "Complete" if done else "Failed", "status": "True", "message": "it was tried often enough"}
            self._server.put(kinds.JOB, name, {"status": {"active": 0, "conditions": [end]}}, "kubelet")
        else:
            self._job(name)

    def _collect(self, owner: str) -> None:
        """Delete what a gone object owned."""
        for job in self._server.all(kinds.JOB):
            if any(one["uid"] == owner for one in job["metadata"].get("ownerReferences", ())):
                self._server.delete(kinds.JOB, job["metadata"]["name"], by="garbage collector")

    def _soon(self, act: Callable[[str], None], name: str) -> None:
        self._later(self._chance(name).uniform(0.02, 0.3), act, name)

    def _chance(self, name: str) -> Any:
        return self._chances.of("kubelet", name)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def _later(seconds: float, act: Callable[[str], None], name: str) -> None:
        asyncio.get_running_loop().call_later(seconds, act, name)


def _spec(obj: Object | None) -> Any:
    return obj.get("spec") if obj is not None else None


def _condition(status: str) -> Object:
    return {"type": "Ready", "status": status}


def _unplaced(stamp: str) -> Object:
    no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": stamp}
    return {**no_room, "message": "0/1 nodes are available: Insufficient memory"}


def _terminated(out_of_memory: bool) -> Object:
    why = "OOMKilled" if out_of_memory else "Error"
    ended = {"terminated": {"exitCode": 137 if out_of_memory else 1, "reason": why}}
    return {"conditions": [_condition("False")], "containerStatuses": [{"ready": False, "lastState": ended}]}
