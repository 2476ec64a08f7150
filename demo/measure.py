"""What a migration costs and whether work was done twice: the kubelets' memory figures and the embedders' counters.

Memory is the kubelet's `rssBytes`: anonymous memory, which no pressure can reclaim; a model file's mapped pages are not
in it. One read of a node's summary has all its pods, so sampling costs little on the busy machine that it measures.
Counters are read from /metrics with the few rules of the Prometheus format that our own metrics use.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from demo.install import SYSTEM
from demo.kubectl import KEY, Kubectl, ready

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Peaks:
    """The largest anonymous memory of a pod of each kind, in MiB; None if none was ever seen."""

    operator: float | None = None
    gateway: float | None = None
    embedder: float | None = None

    def and_also(self, summary: Mapping[str, Any], namespace: str) -> Peaks:
        """Return the peaks after one more summary of a node."""
        pods = [(pod["podRef"]["namespace"], pod["podRef"]["name"], _anonymous(pod)) for pod in summary["pods"]]

        def largest(peak: float | None, where: str, prefix: str) -> float | None:
            seen = [mib for space, name, mib in pods if space == where and name.startswith(prefix) and mib > 0]
            return max([*seen, *([] if peak is None else [peak])], default=None)

        return replace(
            self,
            operator=largest(self.operator, SYSTEM, "reembed-"),
            gateway=largest(self.gateway, namespace, "reembed-gateway-"),
            embedder=largest(self.embedder, namespace, "reembed-embedder-"),
        )


async def peaks(before: Peaks, work: Kubectl) -> Peaks:
    """Look at every node once."""
    nodes = (await work.run("get", "nodes", "--output=name")).split()
    for node in nodes:
        summary = json.loads(await work.raw(f"/api/v1/nodes/{node.removeprefix('node/')}/proxy/stats/summary"))
        before = before.and_also(summary, work.namespace)
    return before


async def embedded_documents(work: Kubectl, pool: str) -> int:
    """Return how many documents the pods of a pool have embedded since they started."""
    pods = ready(await work.list("pods", f"{KEY}/pool={pool}"))
    texts = await asyncio.gather(*(work.pod(pod, "/metrics") for pod in pods))
    return int(sum(total(text, "reembed_embedder_texts_total", {"input_type": "document"}) for text in texts))


def total(text: str, name: str, labels: Mapping[str, str]) -> float:
    """Return the sum of a metric's samples that carry all of `labels`."""
    samples = [sample for line in text.splitlines() if (sample := _SAMPLE.match(line)) and sample["name"] == name]
    return sum(
        float(sample["value"])
        for sample in samples
        if labels.items() <= dict(_LABEL.findall(sample["labels"] or "")).items()
    )


def _anonymous(pod: Mapping[str, Any]) -> float:
    containers: Iterable[Mapping[str, Any]] = pod.get("containers", ())
    return sum(float(container.get("memory", {}).get("rssBytes", 0)) for container in containers) / _MIB
