"""How many pods of each variant a pool should have.

The rule is that of Kubernetes' HorizontalPodAutoscaler, for three metrics at once: what all ready pods carry, in units
of what one should carry, is the number of pods that is needed; a tenth more or less changes nothing. The largest of
memory, latency and queue counts, now or within a minute by its line. Then, in this order:

* A pod that is silent carries what it should, one that answered for the first time nothing, and no pod goes while one
  is not measured.
* Up at once, at most to twice the ready pods or four more: those that start have not taken their share yet.
* Down to what was needed at most within the window, and to no fewer than the computing that is done now needs: latency
  says nothing of how much slower fewer pods would be. Memory that an idle pod has keeps none of the others, and brings
  none: where it is above the target by itself, only what work adds to it counts.
* No fewer than a migration needs (`floors`), whatever was measured.
* Variants are filled in their order. Pods that no node has room for are wanted all the same, so that they run when one
  has; others take their place until then, and until those are ready.

Pure: what must outlive the operator, the larger numbers of the last window, comes in and goes out as `standing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from reembed.core.forecast import line
from reembed.core.load import Load, Points, Reading
from reembed.core.model import PoolSpec, Problem, Recommendation, Scaling, Variant
from reembed.core.stabilising import stabilised
from reembed.core.stabilising import standing as still

# As the HPA's: what is nearer to its target is on it.
TOLERANCE = 0.1
# Lines are followed so far.
AHEAD_SECONDS = 60.0
# Of the contexts' time: with fewer pods they may be as busy as this.
_BUSY = 0.7
_MORE_AT_ONCE = 4
# A number just above a whole one by rounding alone is that one.
_ROUNDING = 1e-9

FIXED, PAUSED, MINIMUM, FEWER = "Fixed", "Paused", "Minimum", "Fewer"
MEMORY, LATENCY, QUEUE, MIGRATION = "Memory", "Latency", "Queue", "MigrationNeeds"
AT_MAXIMUM, NO_METRICS = "AtMaximum", "NoMetrics"
# With these every variant keeps what it has: nobody knows what could take its place.
_KEEPING = frozenset({PAUSED, NO_METRICS})


@dataclass(frozen=True, slots=True)
class Crew:
    """The pods of one variant. `stuck` are those that no node has had room for during half a minute."""

    desired: int = 0
    ready: int = 0
    stuck: int = 0
    refused: Problem | None = None  # why it can have no pods at all

    @property
    def lacking(self) -> int:
        """Return how many of the desired pods have no node. One beyond these may wait for one too: a surge."""
        return max(min(self.stuck, self.desired - self.ready), 0)

    @property
    def placed(self) -> int:
        return self.desired - self.lacking


@dataclass(frozen=True, slots=True)
class Size:
    """Pods by variant, why, and the larger numbers that stand until their window has passed."""

    replicas: Mapping[str, int]
    reason: str
    message: str
    standing: tuple[Recommendation, ...] = ()
    wanted: Mapping[str, int] = field(default_factory=dict)  # what the pods that there are carry needs, window or not


@dataclass(frozen=True, slots=True)
class _Wish:
    """So many pods, because of this."""

    pods: int
    reason: str
    message: str


def pods(count: int) -> str:
    """Return a number of pods in words."""
    return f"{count} pod{'' if count == 1 else 's'}"


def least(spec: PoolSpec, floor: int = 0) -> int:
    """Return how many pods have to be ready for the pool to be: no pool is held to more than it may have."""
    return min(max(lowest(spec), floor), highest(spec))


def lowest(spec: PoolSpec) -> int:
    return sum(variant.min_replicas for variant in spec.variants)


def highest(spec: PoolSpec) -> int:
    return sum(variant.max_replicas for variant in spec.variants)


def scales(spec: PoolSpec) -> bool:
    """Return whether the pool's number of pods depends on what they carry."""
    return highest(spec) > lowest(spec)


def blind(load: Load) -> int:
    """Return how many ready pods were not measured."""
    values = ((one.memory, one.p95, one.queue) for one in load.readings.values())
    return sum(any(value is None for value in one) for one in values)


def size(
    spec: PoolSpec,
    crews: Mapping[str, Crew],
    load: Load,
    floor: int,
    standing: Sequence[Recommendation],
    now: datetime,
) -> Size:
    """Return the pods that a pool in use should have now."""
    wish = _limited(_wished(spec, crews, load, floor), spec)
    if wish.reason in _KEEPING:
        present = {one.name: _crew(crews, one).desired for one in spec.variants}
        needed = _filled(spec.variants, crews, least(spec, floor))
        window = spec.scaling.scale_down_window
        stands = tuple(found for one in spec.variants for found in still(standing, one, now, window))
        keeps = _at_least(present, needed, spec)
        return Size(keeps, wish.reason, wish.message, stands, keeps)
    wanted = _filled(spec.variants, crews, wish.pods)
    window = spec.scaling.scale_down_window
    kept = [
        stabilised(one, wanted[one.name], _crew(crews, one).desired, standing, (now, window)) for one in spec.variants
    ]
    lasting = {one.name: count for one, (count, _) in zip(spec.variants, kept, strict=True)}
    replicas = _answered(spec.variants, crews, lasting)
    stands = tuple(found for _, entries in kept for found in entries)
    if sum(replicas.values()) > sum(wanted.values()):
        when = "that was so for the whole window" if lasting == replicas else "those that take their place are ready"
        wish = _Wish(wish.pods, FEWER, f"{wish.message}; {pods(wish.pods)} would do, and others go when {when}")
    return Size(replicas, wish.reason, wish.message, stands, wanted)


def _crew(crews: Mapping[str, Crew], variant: Variant) -> Crew:
    return crews.get(variant.name, Crew())


def _wished(spec: PoolSpec, crews: Mapping[str, Crew], load: Load, floor: int) -> _Wish:
    """Return how many pods are needed, by what they carry, by the spec, and by migrations; the first largest counts."""
    if spec.scaling.paused:
        return _Wish(0, PAUSED, "spec.scaling.paused keeps the pods that there are")
    known = [_crew(crews, one) for one in spec.variants]
    present = sum(crew.placed for crew in known if crew.refused is None)
    ready = sum(crew.ready for crew in known)
    minimum = _Wish(lowest(spec), MINIMUM, f"the minimum is enough for what is asked of the pool: {pods(lowest(spec))}")
    if not scales(spec):
        return _Wish(lowest(spec), FIXED, "no variant has a maxReplicas above its minReplicas")
    needed = _Wish(floor, MIGRATION, f"a migration needs {pods(floor)}, since its queries may all come here")
    measured = _measured(spec.scaling, load, present, ready)
    found = _largest([minimum, needed, measured])
    # Pods that wait for a node are not present, and are not to go either.
    return measured if measured.reason == NO_METRICS and found.pods < sum(crew.desired for crew in known) else found


def _largest(wishes: Sequence[_Wish]) -> _Wish:
    return max(wishes, key=lambda one: one.pods)


def _limited(wish: _Wish, spec: PoolSpec) -> _Wish:
    top = highest(spec)
    if wish.pods <= top:
        return wish
    return _Wish(top, AT_MAXIMUM, f"{wish.message}; maxReplicas allow {top} in all variants")


def _measured(scaling: Scaling, load: Load, present: int, ready: int) -> _Wish:
    """Return the pods that are needed for what the ready ones carry."""
    readings = tuple(load.readings.values())
    if not readings or ready == 0:
        return _Wish(present, NO_METRICS, "no ready pod was measured yet")
    wish = _largest([metric.wish(scaling, load, readings, present) for metric in _METRICS])
    if wish.pods <= present:
        if (unknown := blind(load)) and wish.pods < present:
            return _Wish(present, NO_METRICS, f"{unknown} of {len(readings)} ready pods were not measured: none goes")
        working = math.ceil(math.fsum(one.busy or 0.0 for one in readings) / _BUSY - _ROUNDING)
        # More pods answer than there should be where a variant was renamed: what the old ones compute goes on.
        wish = _Wish(min(max(wish.pods, working), max(present, len(readings))), wish.reason, wish.message)
    step = max(2 * ready, ready + _MORE_AT_ONCE, present)
    return _Wish(min(wish.pods, step), wish.reason, wish.message)


@dataclass(frozen=True, slots=True)
class _Range:
    """Values of a metric that are no pod's work at all, and all that one should carry."""

    none: float
    full: float

    def units(self, value: float) -> float:
        return (value - self.none) / (self.full - self.none)


@dataclass(frozen=True, slots=True)
class _Metric:
    """One of the three, in units of its target; with the points that its line goes through.

    `idle` is what a pod has of it without any work: fewer pods would not have more of that.
    """

    reason: str
    value: Callable[[Reading], float | None]
    points: Callable[[Load], Points]
    span: Callable[[Scaling, Load], _Range]
    words: Callable[[float, _Range], str]
    idle: Callable[[Load], float] = lambda load: 0.0

    def wish(self, scaling: Scaling, load: Load, readings: Sequence[Reading], present: int) -> _Wish:
        span = self.span(scaling, load)
        found = [self.value(one) for one in readings]
        known = [value for value in found if value is not None]
        if not known:
            return _Wish(present, NO_METRICS, "no ready pod was measured yet")
        pairs = zip(readings, found, strict=True)
        units = [max(span.units(value), 0.0) if value is not None else _unmeasured(one) for one, value in pairs]
        mean, coming = math.fsum(known) / len(known), self._coming(load)
        carried, text = math.fsum(units) / len(units), self.words(mean, span)
        if span.units(coming) > max(carried, 1 + TOLERANCE):
            carried, text = span.units(coming), f"{text}, and {self.words(coming, span)} in a minute"
        if abs(carried - 1) <= TOLERANCE:
            return _Wish(max(present, len(readings)), self.reason, text)
        if carried < 1:
            idle = min(max(span.units(self.idle(load)), 0.0), carried)
            carried = (carried - idle) / (1 - idle)
        needed = math.ceil(carried * len(readings) - _ROUNDING)
        return _Wish(needed, self.reason, f"{text}, which needs {pods(needed)}")

    def _coming(self, load: Load) -> float:
        found = line(self.points(load))
        return found.ahead(AHEAD_SECONDS) if found is not None and found.steady > 0 else 0.0


def _of_memory(scaling: Scaling, load: Load) -> _Range:
    """Return what of a pod's memory is its work: more pods take nothing of what an idle one has.

    Where that is on the target by itself, or above it, the target is halfway from there to the limit. No target is so
    near the limit that a pod is killed there before it is beyond the tolerance.
    """
    target = min(scaling.memory_target, 1 - TOLERANCE)
    if load.rest is None or load.rest < target * (1 - TOLERANCE):
        return _Range(0.0, target)
    return _Range(load.rest, (load.rest + max(1.0, load.rest)) / 2 + _ROUNDING)


def _memory_told(value: float, span: _Range) -> str:
    idle = f" (an idle pod has {span.none:.0%})" if span.none else ""
    return f"memory {value:.0%} of the limit for {span.full:.0%}{idle}"


def _unmeasured(reading: Reading) -> float:
    """Return what counts for a pod that a metric lacks: it is on its target, or came just now and has no share yet."""
    return 1.0 if reading == Reading() else 0.0


_METRICS = (
    _Metric(
        LATENCY,
        lambda one: one.p95,
        lambda load: load.series.p95,
        lambda scaling, _: _Range(0.0, scaling.latency_target.total_seconds()),
        lambda value, span: f"p95 of live requests {value * 1000:.0f} ms for {span.full * 1000:.0f} ms",
    ),
    _Metric(
        MEMORY,
        lambda one: one.memory,
        lambda load: load.series.memory,
        _of_memory,
        _memory_told,
        lambda load: load.idle,
    ),
    _Metric(
        QUEUE,
        lambda one: one.queue,
        lambda load: load.series.queue,
        lambda scaling, _: _Range(0.0, float(scaling.queue_target)),
        lambda value, span: f"{value:.0f} tokens in a pod's queue for {span.full:.0f}",
    ),
)


def _filled(variants: Sequence[Variant], crews: Mapping[str, Crew], running: int) -> dict[str, int]:
    """Divide so many running pods among variants, in order; each has its minimum, and the last are for the rest."""
    left = running
    later = sum(variant.min_replicas for variant in variants)
    found: dict[str, int] = {}
    for variant in variants:
        later -= variant.min_replicas
        crew = _crew(crews, variant)
        if crew.refused is not None:
            found[variant.name] = 0
            continue
        take = min(variant.max_replicas, max(variant.min_replicas, left - later))
        found[variant.name] = take
        left -= min(take, crew.placed) if crew.lacking else take
    return found


def _answered(variants: Sequence[Variant], crews: Mapping[str, Crew], wanted: Mapping[str, int]) -> dict[str, int]:
    """Return what is wanted with the pods that answer in place of some that are not ready yet, but may soon be."""
    found = dict(wanted)
    crew = {one.name: _crew(crews, one) for one in variants}
    waits = sum(max(count - crew[name].lacking - crew[name].ready, 0) for name, count in found.items())
    for one in variants:
        kept = min(waits, max(min(crew[one.name].ready, one.max_replicas) - found[one.name], 0))
        found[one.name] += kept
        waits -= kept
    return found


def _at_least(present: Mapping[str, int], wanted: Mapping[str, int], spec: PoolSpec) -> dict[str, int]:
    """Return the present pods, within each variant's limits, and no fewer than is wanted."""
    return {one.name: min(max(present[one.name], wanted[one.name]), one.max_replicas) for one in spec.variants}
