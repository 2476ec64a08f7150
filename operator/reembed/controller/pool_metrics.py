"""What Prometheus reads of pools: their pods, why there are so many, and how their memory grows.

The figures are those of the last pass of each pool in use, and of this term alone: a replica that does not lead knows
none. Counts go on from term to term, as the process does. `controller.web` serves them; docs/scaling.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reembed.core.leaks import Growth
from reembed.core.model import PoolStatus


@dataclass(frozen=True, slots=True)
class Figures:
    """A pool in use as of its last pass."""

    status: PoolStatus
    recommended: Mapping[str, int]  # pods by variant that would do now, without the window that keeps others
    growth: Growth | None  # None until a pod was measured for long enough
    paused: bool
    recycled: bool  # whether a pod was replaced since the pass before


# Namespace and name of each pool in use.
Known = Mapping[tuple[str, str], Figures]


def recycled(registry: CollectorRegistry) -> Counter:
    """Return the counter that outlives terms."""
    text = "Pods that were replaced, since their memory grows or a panel agreed"
    return Counter("reembed_pool_recycled_pods", text, ["namespace", "pool"], registry=registry)


class PoolMetrics:
    """The figures of one term."""

    def __init__(self, recycled: Counter) -> None:
        self._recycled = recycled
        self.known: dict[tuple[str, str], Figures] = {}

    def take(self, namespace: str, pool: str, figures: Figures | None) -> None:
        """Note what a pass made of a pool, None if nobody uses it; told after its status was written."""
        if figures is None:
            self.known.pop((namespace, pool), None)
            return
        self.known[namespace, pool] = figures
        self._recycled.labels(namespace, pool).inc(figures.recycled)

    def forget(self, namespace: str, pool: str) -> None:
        """Drop a pool that is gone, with what was counted of it."""
        self.known.pop((namespace, pool), None)
        self._recycled.remove(namespace, pool)


class PoolCollector(Collector):
    """Asks the operator of the present term at every scrape."""

    def __init__(self) -> None:
        self.known: Callable[[], Known] = dict

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return _families(self.known())


def _families(known: Known) -> list[GaugeMetricFamily]:
    return [*_by_variant(known), *_by_pool(known), _reasons(known)]


def _by_variant(known: Known) -> list[GaugeMetricFamily]:
    desired = _family("desired_replicas", "Pods that a variant should have", "variant")
    ready = _family("ready_replicas", "Pods of a variant that are ready", "variant")
    would_do = _family(
        "recommended_replicas",
        "Pods of a variant that would do now, if the scale-down window kept no others",
        "variant",
    )
    for labels, one in known.items():
        for variant in one.status.variants:
            desired.add_metric([*labels, variant.name], variant.desired)
            ready.add_metric([*labels, variant.name], variant.ready)
            would_do.add_metric([*labels, variant.name], one.recommended.get(variant.name, 0))
    return [desired, ready, would_do]


def _by_pool(known: Known) -> list[GaugeMetricFamily]:
    floor = _family("floor_replicas", "Pods that migrations need at least, whatever was measured")
    paused = _family("scaling_paused", "1 if spec.scaling.paused keeps the pods that there are, else 0")
    grows = _family(
        "memory_growth_bytes_per_hour",
        "By how much the memory of the pod that grows fastest grows in an hour",
    )
    left = _family(
        "memory_full_seconds", "In how many seconds the first pod is at its memory limit if its growth goes on"
    )
    for labels, one in known.items():
        floor.add_metric(labels, one.status.floor)
        paused.add_metric(labels, one.paused)
        if one.growth is not None:
            grows.add_metric(labels, one.growth.per_hour)
            left.add_metric(labels, one.growth.left)
    return [floor, paused, grows, left]


def _reasons(known: Known) -> GaugeMetricFamily:
    found = _family("scaling_reason", "1 for why the pool has as many pods as it has, as its status says", "reason")
    for labels, one in known.items():
        found.add_metric([*labels, one.status.reason], 1)
    return found


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"reembed_pool_{name}", text, labels=["namespace", "pool", *labels])
