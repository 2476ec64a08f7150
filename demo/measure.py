"""What a migration costs and whether work was done twice: memory of our processes and the embedders' counters.

The operator's and the gateways' memory is the resident memory of which their /metrics tell. An embedder's is the
kubelet's `rssBytes`: anonymous memory, which no pressure can reclaim; a model file's mapped pages are not in it. One
read of a node's summary has all its pods and their names, so a look costs little on the busy machine that it measures.
A pod that does not answer, since it was rolled or killed just now, is passed over.
Metrics are read with the few rules of the Prometheus format that our own metrics use.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from demo.install import SYSTEM
from demo.kubectl import KEY, Failed, Kubectl, ready

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MIB = 1 << 20

# Documents embedded, by process: its pod and its start in seconds. A restarted container counts from zero again.
Counts = Mapping[tuple[str, float], int]


@dataclass(frozen=True, slots=True)
class Peaks:
    """The largest memory of a pod of each kind, in MiB: resident, but the embedder's anonymous; None if never seen."""

    operator: float | None = None
    gateway: float | None = None
    embedder: float | None = None

    def and_also(self, now: Peaks) -> Peaks:
        """Return the peaks after one more look."""
        return Peaks(
            operator=_largest(self.operator, now.operator),
            gateway=_largest(self.gateway, now.gateway),
            embedder=_largest(self.embedder, now.embedder),
        )


async def peaks(before: Peaks, work: Kubectl) -> Peaks:
    """Look at every node once."""
    nodes = (await work.run("get", "nodes", "--output=name")).split()
    for node in nodes:
        summary = json.loads(await work.raw(f"/api/v1/nodes/{node.removeprefix('node/')}/proxy/stats/summary"))
        before = before.and_also(await _seen(summary, work))
    return before


async def _seen(summary: Mapping[str, Any], work: Kubectl) -> Peaks:
    system = replace(work, namespace=SYSTEM)
    return Peaks(
        operator=_largest(*[await _resident(system, pod) for pod in _pods(summary, SYSTEM, "reembed-")]),
        gateway=_largest(*[await _resident(work, pod) for pod in _pods(summary, work.namespace, "reembed-gateway-")]),
        embedder=_largest(*_pods(summary, work.namespace, "reembed-embedder-").values()),
    )


async def embedded_documents(work: Kubectl, pool: str) -> Counts:
    """Return how many documents each process of a pool's ready pods has embedded since it started."""
    pods = ready(await work.list("pods", f"{KEY}/pool={pool}"))
    texts = await asyncio.gather(*(_metrics(work, pod) for pod in pods))
    return {
        (pod, total(text, "process_start_time_seconds", {})): int(
            total(text, "reembed_embedder_texts_total", {"input_type": "document"})
        )
        for pod, text in zip(pods, texts, strict=True)
        if text
    }


def embedded(readings: Sequence[Counts]) -> int | None:
    """Return how many documents were embedded from the first reading to the last.

    None if that is unknown: a process that was seen is gone, and what it embedded after it was last read with it.
    """
    first, last = readings[0], readings[-1]
    seen = {process for reading in readings for process in reading}
    return sum(last.values()) - sum(first.values()) if seen and seen <= last.keys() else None


def total(text: str, name: str, labels: Mapping[str, str]) -> float:
    """Return the sum of a metric's samples that carry all of `labels`."""
    samples = [sample for line in text.splitlines() if (sample := _SAMPLE.match(line)) and sample["name"] == name]
    return sum(
        float(sample["value"])
        for sample in samples
        if labels.items() <= dict(_LABEL.findall(sample["labels"] or "")).items()
    )


async def _metrics(work: Kubectl, pod: str) -> str:
    """Return what a pod's /metrics say; nothing if it does not answer."""
    try:
        return await work.pod(pod, "/metrics")
    except Failed:
        return ""


async def _resident(work: Kubectl, pod: str) -> float:
    return total(await _metrics(work, pod), "process_resident_memory_bytes", {}) / _MIB


def _pods(summary: Mapping[str, Any], namespace: str, prefix: str) -> dict[str, float]:
    """Return the anonymous memory, in MiB, of a namespace's pods whose names begin like this."""
    of = ((pod["podRef"], pod) for pod in summary["pods"])
    return {
        ref["name"]: _anonymous(pod)
        for ref, pod in of
        if ref["namespace"] == namespace and ref["name"].startswith(prefix)
    }


def _anonymous(pod: Mapping[str, Any]) -> float:
    containers: Iterable[Mapping[str, Any]] = pod.get("containers", ())
    return sum(float(container.get("memory", {}).get("rssBytes", 0)) for container in containers) / _MIB


def _largest(*mib: float | None) -> float | None:
    """Return the largest figure; a pod that uses nothing did not say what it uses."""
    return max((one for one in mib if one), default=None)
