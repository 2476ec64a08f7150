"""Callers' load on the pods of pools that scale, and what each pod says of its share at /metrics.

Load is told in pods: 2.5 is what two and a half pods carry when each is at its targets. It is divided among the ready
pods of the pools that the index sends queries to. One metric, the `driver`, is at its target with the share 1; the
others are far below theirs. Besides its share a pod may leak memory, and is killed when that is full.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from random import Random

from reembed.controller.scrape import Sample
from reembed.core import load as series
from reembed.core import names
from reembed.core.measures import PROCESS
from tests.sim.api_server import Object
from tests.sim.kubelet import Kubelet, Pod

# Of pods at their targets, and no pod has more than all of its time.
_BUSY = 0.7
_TEXTS_A_SECOND = 10.0
_TOKENS_A_TEXT = 100.0
# The default targets of a pool.
_QUEUE, _SECONDS, _MEMORY = 16_384.0, 0.5, 0.7
# What load alone takes of memory; migrations have triggers above it.
_MOST_MEMORY = 0.8
# Of its target, for what is not the driver: so little that it brings no pods in the driver's place.
_OTHERS = 0.15
_LIMIT = 1000.0
_DIRECTIONS = 64
# So near to each other that a percentile inside one is off by a twentieth at most.
_BOUNDS = [0.02 * 1.05**number for number in range(110)]


@lru_cache(maxsize=256)
def probes_of(fingerprint: str) -> str:
    """Return the sketch of the probes' vectors that every pod of a model finds: a vector of its own."""
    chance = Random(fingerprint)
    values = [chance.gauss(0, 1) for _ in range(_DIRECTIONS)]
    return base64.b64encode(struct.pack(f"<{_DIRECTIONS}e", *values)).decode()


@dataclass
class Process:
    """What one pod's process counted since it began, and its share of the load now."""

    began: float
    share: float = 0.0
    texts: float = 0.0
    busy: float = 0.0  # seconds
    answers: list[float] = field(default_factory=lambda: [0.0] * len(_BOUNDS))  # by bound


@dataclass(frozen=True)
class Leaking:
    """A pod whose memory grows."""

    since: float
    per_second: float  # share of its limit


class Embedders:
    """The processes of all pools, where their load is simulated at all."""

    def __init__(self, kubelet: Kubelet, routing: Callable[[], Object], now: Callable[[], float]) -> None:
        self._kubelet = kubelet
        self._routing = routing
        self._now = now
        self._since = 0.0
        self._live: dict[str, Process] = {}
        self.on = False
        self.load = 0.9
        self.changed_at = 0.0  # when callers last asked another time as much
        self.driver = "queue"
        self.silent: set[str] = set()  # pools or pods whose metrics nobody gets
        self.leaking: dict[str, Leaking] = {}
        self.filled: Callable[[Pod], None] = lambda pod: None

    def ask(self, pods: float) -> None:
        """Have callers ask as much as so many pods carry from now on."""
        self.count()
        self.load, self.changed_at = pods, self._now()

    def demand(self, pool: str) -> float:
        """Return the load of a pool."""
        routing, found = self._routing(), 0.0
        weight = routing.get("weight", 0)
        for side, share in (("serving", 100 - weight), ("candidate", weight)):
            if (routing.get(side) or {}).get("pool") == pool:
                found += self.load * share / 100
        return found

    def count(self) -> None:
        """Count up to now: what pods carry is about to change, or has done so in this moment."""
        if not self.on:
            return
        now = self._now()
        seconds, self._since = now - self._since, now
        pods = {pod.name: pod for pod in self._kubelet.of("embedder")}
        self._live = {name: self._live.get(name) or Process(now) for name in pods}
        for name, pod in pods.items():
            self._add(self._live[name], seconds)
            pool = pod.labels[names.LABEL_POOL]
            answers = pod.ready and not pod.leaving
            self._live[name].share = self.demand(pool) / self._kubelet.ready(pool) if answers else 0.0
        for name in [name for name in self.leaking if name in pods and self.memory(pods[name]) >= 1]:
            del self.leaking[name]
            self.filled(pods[name])

    def went(self, pod: Pod) -> None:
        """Forget a process that ended."""
        self._live.pop(pod.name, None)
        self.leaking.pop(pod.name, None)

    def is_silent(self, pod: Pod) -> bool:
        return bool({pod.name, pod.labels.get(names.LABEL_POOL)} & self.silent)

    def memory(self, pod: Pod) -> float:
        """Return the share of its limit that a pod uses."""
        process, leaking = self._live.get(pod.name), self.leaking.get(pod.name)
        share = process.share if process is not None else 0.0
        used = _MEMORY * share if self.driver == "memory" else 0.1 + _MEMORY * _OTHERS * share
        leaked = (self._now() - leaking.since) * leaking.per_second if leaking is not None else 0.0
        return min(used, _MOST_MEMORY) + leaked

    def samples(self, pod: Pod) -> list[Sample]:
        self.count()
        process = self._live.get(pod.name)
        if process is None:
            return []
        tokens = process.texts * _TOKENS_A_TEXT
        bounds = zip([*map(str, _BOUNDS), "+Inf"], accumulate([*process.answers, 0.0]), strict=True)
        return [
            (PROCESS, {}, process.began),
            ("reembed_memory_used_bytes", {}, self.memory(pod) * _LIMIT),
            ("reembed_memory_limit_bytes", {}, _LIMIT),
            (series.QUEUE_TOKENS, {}, _QUEUE * process.share * self._factor("queue")),
            (series.TEXTS, {"priority": "live"}, process.texts),
            (series.TOKENS, {}, tokens),
            (series.PACK_TOKENS, {}, tokens),
            (series.PACK_SECONDS, {}, process.busy),
            (series.CONTEXTS, {}, 1.0),
            *((series.REQUEST_SECONDS, {"priority": "live", "le": bound}, count) for bound, count in bounds),
        ]

    @staticmethod
    def said_of_class(deployment: Object) -> Object:
        """Return what a pod says of its class: the model is what its Deployment's template gives it."""
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given = {one["name"]: one.get("value", "") for one in container["env"]}
        print_ = given["REEMBED_FINGERPRINT"]
        return {"fingerprint": print_, "probes": probes_of(print_), "weights": "F16", "engine": "simulated"}

    def _add(self, process: Process, seconds: float) -> None:
        busy = min(process.share * _BUSY, 1.0) * seconds
        texts = busy / _BUSY * _TEXTS_A_SECOND
        process.busy += busy
        process.texts += texts
        slow = _SECONDS * process.share * self._factor("latency")
        first = next((number for number, bound in enumerate(_BOUNDS) if bound >= slow), len(_BOUNDS) - 1)
        process.answers[first] += texts

    def _factor(self, metric: str) -> float:
        return 1.0 if self.driver == metric else _OTHERS
