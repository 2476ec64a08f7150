"""What Prometheus and the operator read of an embedder."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from reembed import cgroup
from reembed.embedder.process import Engine

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry; gauges are read when it is scraped."""

    def __init__(self, engine: Engine, mapped_bytes: int) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("reembed_embedder_requests", "Answered requests", ["code"])
        self.texts = self._counter("reembed_embedder_texts", "Embedded texts", ["input_type", "priority"])
        self.tokens = self._counter("reembed_embedder_tokens", "Tokens of embedded texts", [])
        self.truncated = self._counter("reembed_embedder_truncated_texts", "Texts whose end was cut off", [])
        self.seconds = Histogram(
            "reembed_embedder_request_seconds", "Time to answer", buckets=_SECONDS, registry=self.registry
        )
        self._gauge("reembed_embedder_queue_tokens", "Tokens that wait, estimated", lambda: engine.tokens)
        self._gauge("reembed_embedder_child_restarts", "Times the engine's process died", lambda: engine.restarts)
        self._gauge("reembed_memory_used_bytes", "Memory that cannot be reclaimed", lambda: cgroup.memory().used)
        self._gauge("reembed_memory_limit_bytes", "Memory limit of the container", lambda: cgroup.memory().limit)
        self._gauge("reembed_memory_mapped_bytes", "Mapped model file", lambda: mapped_bytes)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, read: Callable[[], int]) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)
