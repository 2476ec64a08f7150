"""What a gateway counts: each arm before any fall-back, what callers got, what it serves, and what its process uses.

The controller turns these counters into errors and p95 of an arm (`core.measures`), and Prometheus scrapes the same.
An arm is counted where it failed, although the caller got an answer from the other one: else a dead candidate would
show no errors and be promoted. Counters are kept per collection, so that they survive the moment at which a candidate
becomes what serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from reembed.core.measures import (
    ARM_REQUESTS,
    ARM_SECONDS,
    SHADOW,
    SHADOW_COMPARED,
    SHADOW_OVERLAP,
    SHADOW_OVERLAP_SQUARES,
)
from reembed.core.model import Arm, Routing

# Seconds, 1 ms to 30 s. Neighbours differ by a factor of two at most, mostly less, which bounds an interpolated p95.
_BOUNDS = (
    *(0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.007),
    *(0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0),
)


_SIDES = ("serving", "candidate")


class Outcome(Enum):
    """How one arm did with one request."""

    OK = "ok"
    ERROR = "error"
    DROPPED = "dropped"  # the caller hung up first; neither the arm's success nor its failure


class Result(Enum):
    """What the caller got."""

    ANSWERED = "answered"
    FELL_BACK = "fell_back"
    FAILED = "failed"


class Fate(Enum):
    """What became of a query of the sample."""

    COMPARED = SHADOW_COMPARED
    FAILED = "failed"  # the other side did not answer, or not in time
    PASSED_OVER = "passed_over"  # there was no room, or what was asked shed it: nothing that the other side did wrong
    STOPPED = "stopped"  # the operator ended the comparisons, or the process ends


@dataclass(frozen=True, slots=True)
class Sides:
    """The two arms that are compared."""

    serving: Arm
    candidate: Arm

    @classmethod
    def of(cls, routing: Routing) -> Sides | None:
        """Return both sides, None where there is only one."""
        if routing.serving is None or routing.candidate is None:
            return None
        return cls(routing.serving, routing.candidate)


class Meter:
    """The metrics of one gateway process, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            ARM_REQUESTS,
            "Requests that an arm was asked to answer, before any fall-back.",
            ("collection", "outcome", "probe"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            ARM_SECONDS,
            "Time an arm took to embed and search one query; where it was given up, the time until then.",
            ("collection", "probe"),
            buckets=_BOUNDS,
            registry=self._registry,
        )
        self._shadows = Counter(
            SHADOW,
            "Queries of the sample by what became of their comparison.",
            (*_SIDES, "outcome"),
            registry=self._registry,
        )
        self._overlaps = {
            name: Counter(name, text, _SIDES, registry=self._registry)
            for name, text in (
                (SHADOW_OVERLAP, "Sum of the shares of results that both sides gave."),
                (SHADOW_OVERLAP_SQUARES, "Sum of their squares."),
                ("reembed_gateway_shadow_rank", "Sum of the average overlaps, in which early places weigh more."),
                ("reembed_gateway_shadow_rank_squares", "Sum of their squares."),
            )
        }
        self._shadow_seconds = Histogram(
            "reembed_gateway_shadow_seconds",
            "Time the side that nobody waited for took, at background priority.",
            (*_SIDES, "side"),
            buckets=_BOUNDS,
            registry=self._registry,
        )
        self._answers = Counter("reembed_gateway_answers", "What callers got.", ("result",), registry=self._registry)
        self._refused = Counter(
            "reembed_gateway_refused",
            "Requests refused for what they ask, or for want of a place.",
            ("code",),
            registry=self._registry,
        )
        self._uncertified = Counter(
            "reembed_gateway_certificates_refused",
            "Raises that are not followed for want of the panel's certificate, each epoch once for each reason.",
            ("reason",),
            registry=self._registry,
        )
        self._weight = Gauge(
            "reembed_gateway_weight_percent",
            "Share of callers that the candidate answers now.",
            registry=self._registry,
        )
        self._epoch = Gauge("reembed_gateway_epoch", "Epoch of the routing in force.", registry=self._registry)

    def arm(self, arm: Arm, outcome: Outcome, *, seconds: float | None, probe: bool) -> None:
        """Count one attempt; `seconds` is None where the time says nothing of the arm's speed."""
        of_probe = "true" if probe else "false"
        self._requests.labels(arm.collection, outcome.value, of_probe).inc()
        if seconds is not None:
            self._seconds.labels(arm.collection, of_probe).observe(seconds)

    def shadow(self, sides: Sides, fate: Fate) -> None:
        """Count a query of the sample by what became of it."""
        self._shadows.labels(*_collections(sides), fate.value).inc()

    def compared(self, sides: Sides, other: Arm, overlap: float, rank: float, seconds: float) -> None:
        """Count a comparison with what `other` found; sums are enough for bounds of the mean (`core.sequences`)."""
        self.shadow(sides, Fate.COMPARED)
        values = (overlap, overlap * overlap, rank, rank * rank)
        for counter, value in zip(self._overlaps.values(), values, strict=True):
            counter.labels(*_collections(sides)).inc(value)
        side = "serving" if other == sides.serving else "candidate"
        self._shadow_seconds.labels(*_collections(sides), side).observe(seconds)

    def answer(self, result: Result) -> None:
        self._answers.labels(result.value).inc()

    def refused(self, code: int) -> None:
        self._refused.labels(str(code)).inc()

    def certificate_refused(self, reason: str) -> None:
        self._uncertified.labels(reason).inc()

    def exposition(self, routing: Routing) -> bytes:
        """Return all metrics in Prometheus' text format, with `routing` as what is served now."""
        self._weight.set(routing.weight)
        self._epoch.set(routing.epoch)
        if routing.shadow and (sides := Sides.of(routing)) is not None:
            self._begin(sides)
        return generate_latest(self._registry)

    def _begin(self, sides: Sides) -> None:
        """Let the counters of a comparison be there at zero, so that its first ones show as growth."""
        for fate in Fate:
            self._shadows.labels(*_collections(sides), fate.value)
        for counter in self._overlaps.values():
            counter.labels(*_collections(sides))


def _collections(sides: Sides) -> tuple[str, str]:
    return sides.serving.collection, sides.candidate.collection
