"""A cluster as far as the demo looks at it: what pods say under a path, which pods there are, how a migration goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.kubectl import Failed, Kubectl

_SUMMARY = "/api/v1/nodes/only/proxy/stats/summary"


@dataclass(frozen=True, slots=True)
class FakePod:
    """A ready pod and what its /metrics say; None if it does not answer."""

    namespace: str
    name: str
    metrics: str | None = None
    anonymous_mib: int = 0

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}:8080/proxy/metrics"


@dataclass(frozen=True, slots=True)
class FakeKubectl(Kubectl):
    """Answers for one node with `pods`; `course` is what a migration goes through and the pods there are meanwhile.

    It stays in a state until the pods were asked, where a state is in `waits`.
    """

    pods: list[FakePod] = field(default_factory=list)
    course: Mapping[str, Sequence[FakePod]] = field(default_factory=dict)
    waits: frozenset[str] = frozenset()
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, *arguments: str, stdin: str | None = None) -> str:
        if arguments[:2] == ("get", "nodes"):
            return "node/only\n"
        if arguments[:2] == ("get", "pods"):
            return json.dumps({"items": [_listed(pod) for pod in self.pods]})
        if arguments[:3] == ("get", "--raw", _SUMMARY):
            return json.dumps({"pods": [_summed_up(pod) for pod in self.pods]})
        for pod in self.pods:
            if arguments[:3] == ("get", "--raw", pod.path) and pod.metrics is not None:
                self.asked.set()
                return pod.metrics
        raise Failed(f"kubectl {' '.join(arguments)}: nobody answers")

    async def watch(self, kind: str, name: str) -> AsyncIterator[dict[str, Any]]:
        for state in self.course if kind == "embeddingmigration" else ():
            self.pods[:] = self.course[state]
            self.asked.clear()
            yield {"status": {"state": state}}
            if state in self.waits:
                await self.asked.wait()
        await asyncio.Event().wait()


def _listed(pod: FakePod) -> dict[str, Any]:
    return {"metadata": {"name": pod.name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def _summed_up(pod: FakePod) -> dict[str, Any]:
    containers = [{"memory": {"rssBytes": pod.anonymous_mib * 2**20, "workingSetBytes": 0}}]
    return {"podRef": {"namespace": pod.namespace, "name": pod.name}, "containers": containers}
