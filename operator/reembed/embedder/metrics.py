"""What Prometheus and the operator read of an embedder.

Memory is what cannot be reclaimed, so that the mapped model file, which the kernel may drop at any time, raises no
alarm; the operator compares it with the limit less the mapped file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from reembed import cgroup
from reembed.embedder.breaker import State as Breaker
from reembed.embedder.download import Progress
from reembed.embedder.hosted.engine import HostedEngine
from reembed.embedder.membership import Membership
from reembed.embedder.messages import Packs
from reembed.embedder.plan import Plan
from reembed.embedder.protection import Protection
from reembed.embedder.text_cache import TextCache
from reembed.embedder.trial import Trial
from reembed.embedder.weights import Chosen

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class State(Protocol):
    """What is read anew at each scrape."""

    @property
    def queue_tokens(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def mapped_bytes(self) -> int: ...

    @property
    def contexts_peak(self) -> int: ...

    @property
    def contexts_busy(self) -> int: ...

    @property
    def packs(self) -> Packs: ...

    @property
    def offloads(self) -> bool: ...

    @property
    def cosine(self) -> float: ...

    @property
    def weights(self) -> Chosen | None: ...

    @property
    def cache(self) -> TextCache: ...

    @property
    def protection(self) -> Protection: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def plan(self) -> Plan | None: ...

    @property
    def trial(self) -> Trial | None: ...

    @property
    def membership(self) -> Membership: ...

    @property
    def hosted(self) -> HostedEngine | None: ...


class Metrics:
    """One registry; the state's figures are read when it is scraped."""

    def __init__(self, state: State) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Figures(state))
        self.requests = Counter("reembed_embedder_requests", "Answered requests.", ["code"], registry=registry)
        self.texts = Counter("reembed_embedder_texts", "Texts embedded.", ["input_type", "priority"], registry=registry)
        self.tokens = Counter("reembed_embedder_tokens", "Tokens of the texts embedded.", registry=registry)
        self.truncated = Counter("reembed_embedder_truncated_texts", "Texts whose end was cut off.", registry=registry)
        self.seconds = self._histogram("request", "Time to an answer.")
        self.waited = self._histogram("queue", "Time until the first call of the engine for a request began.")
        self.computed = self._histogram("compute", "Time from then until its last call ended.")

    def _histogram(self, name: str, text: str) -> Histogram:
        full = f"reembed_embedder_{name}_seconds"
        return Histogram(full, text, ["priority"], buckets=_SECONDS, registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _Figures(Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        memory, state = cgroup.memory(), self._state
        protection = state.protection
        for name, text, value in (
            ("reembed_embedder_child_restarts", "Times the engine's process died.", state.restarts),
            ("reembed_embedder_emergencies", "Times emergency protection was entered.", protection.entered),
            ("reembed_embedder_packs", "Calls of the engine.", state.packs.calls),
            ("reembed_embedder_pack_texts", "Texts in calls of the engine.", state.packs.texts),
            ("reembed_embedder_pack_tokens", "Tokens that the engine computed.", state.packs.tokens),
            ("reembed_embedder_pack_equal_texts", "Texts that shared another's place in a call.", state.packs.equal),
            ("reembed_embedder_pack_seconds", "Time in calls of the engine, all contexts.", state.packs.seconds),
            ("reembed_embedder_text_cache_hits", "Live texts answered from memory.", state.cache.hits),
            ("reembed_embedder_text_cache_misses", "Live texts that were not in memory.", state.cache.misses),
        ):
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], value)
            yield counter
        for name, text, value in (
            ("reembed_embedder_queue_tokens", "Tokens that wait or are computed, estimated.", state.queue_tokens),
            ("reembed_embedder_emergency", "1 while emergency protection holds.", int(protection.holds)),
            ("reembed_embedder_requests_under_way", "Requests that are being answered.", protection.under_way),
            (
                "reembed_embedder_requests_under_way_peak",
                "Most requests under way at a time since the limits last changed.",
                protection.under_way_peak,
            ),
            (
                "reembed_embedder_contexts_peak",
                "Most contexts that computed side by side since the limits last changed.",
                state.contexts_peak,
            ),
            ("reembed_embedder_contexts_busy", "Contexts that compute now.", state.contexts_busy),
            ("reembed_embedder_text_cache_bytes", "Memory of vectors that are kept of texts.", state.cache.size),
            ("reembed_embedder_offloads", "1 if a GPU computes.", int(state.offloads)),
            ("reembed_embedder_proof_cosine", "Smallest cosine of a probe alone and beside others.", state.cosine),
            ("reembed_memory_used_bytes", "Memory that cannot be reclaimed.", memory.used),
            ("reembed_memory_limit_bytes", "Memory limit of the container.", memory.limit),
            ("reembed_memory_mapped_bytes", "Size of the mapped model file.", state.mapped_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        if state.plan is not None:
            text = "Memory that cannot be reclaimed and is needed at the most, from the model's header."
            yield GaugeMetricFamily("reembed_embedder_memory_plan_bytes", text, value=state.plan.anonymous)
        yield from _of_download(state.progress)
        if state.weights is not None:
            yield from _of_weights(state.weights)
        if state.trial is not None:
            yield from _of_trial(state.trial)
        if (cosine := state.membership.cosine) is not None:
            text = "Smallest cosine of the probes here and in what the first pod of this model found, by sketches."
            yield GaugeMetricFamily("reembed_embedder_class_cosine", text, value=cosine)
        if state.hosted is not None:
            yield from _of_endpoint(state.hosted)


def _of_download(progress: Progress) -> Iterator[Metric]:
    for name, text, value in (
        ("failures", "Times the model's source ended a try before the file was whole.", progress.failures),
        ("breaker_openings", "Times the model's source was left alone for failing.", progress.openings),
    ):
        yield CounterMetricFamily(f"reembed_embedder_download_{name}", text, value=value)
    gauges: tuple[tuple[str, str, float], ...] = (
        ("bytes", "Bytes of the model's file that are here; 0 if it was not fetched.", progress.done),
        ("size_bytes", "Bytes that the model's file has, as its source says.", progress.size),
        # As Prometheus writes what has no bound.
        ("bound_bytes_per_second", "How fast memory lets the file be written.", progress.bytes_per_second or math.inf),
    )
    for name, text, figure in gauges:
        yield GaugeMetricFamily(f"reembed_embedder_download_{name}", text, value=figure)
    breaker = GaugeMetricFamily(
        "reembed_embedder_download_breaker", "1 for the state of the source's circuit breaker.", labels=["state"]
    )
    for one in Breaker:
        breaker.add_metric([one.value], int(one is progress.breaker))
    yield breaker


def _of_trial(trial: Trial) -> Iterator[Metric]:
    if trial.tokens_per_second is not None:
        text = "Tokens a second that the probes were computed with at the start, one at a time."
        yield GaugeMetricFamily("reembed_embedder_probe_tokens_per_second", text, value=trial.tokens_per_second)
    if trial.validated is not None:
        for name, text, value in (
            ("cosine_min", "Smallest cosine of a text's vector and its reference.", trial.validated.cosine_min),
            ("cosine_mean", "Mean cosine of the texts' vectors and their references.", trial.validated.cosine_mean),
            ("accuracy", "Share of texts whose vector is nearest to its own reference.", trial.validated.accuracy),
        ):
            yield GaugeMetricFamily(f"reembed_embedder_validation_{name}", text, value=value)


def _of_endpoint(engine: HostedEngine) -> Iterator[Metric]:
    counters = (
        ("refusals", "Requests that the endpoint refused with 429.", engine.throttle.refusals),
        ("failures", "Requests that the endpoint failed.", engine.restarts),
        ("background_tokens", "Tokens of background texts, as the endpoint counts them.", engine.spent),
        ("checks", "Times the probes were embedded.", engine.checks),
    )
    for name, text, count in counters:
        yield CounterMetricFamily(f"reembed_embedder_endpoint_{name}", text, value=count)
    gauges: tuple[tuple[str, str, float], ...] = (
        ("requests_per_second", "How many requests are sent to the endpoint at the most.", engine.throttle.rate),
        ("probe_cosine", "Smallest cosine of the probes now and at the process's start, by sketches.", engine.cosine),
    )
    for name, text, figure in gauges:
        yield GaugeMetricFamily(f"reembed_embedder_endpoint_{name}", text, value=figure)
    text = "1 for the state of the endpoint's circuit breaker."
    breaker = GaugeMetricFamily("reembed_embedder_endpoint_breaker", text, labels=["state"])
    for one in Breaker:
        breaker.add_metric([one.value], int(one is engine.breaker.state))
    yield breaker


def _of_weights(weights: Chosen) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "reembed_embedder_weights", "1 for the type in which weights are multiplied.", labels=["type"]
    )
    info.add_metric([weights.type], 1)
    yield info
    used = float(weights.tiles is not None)
    yield GaugeMetricFamily("reembed_embedder_tiles", "1 if the CPU's tiles (AMX) compute.", value=used)
    if weights.measured is not None:
        for name, text, value in (
            ("speed_ratio", "Speed of the other way by that of the file as it is.", weights.measured.ratio),
            ("cosine", "Smallest cosine of a probe's vectors by both.", weights.measured.cosine),
        ):
            yield GaugeMetricFamily(f"reembed_embedder_weights_{name}", text, value=value)
