"""What the pods of a pool carry, from what their /metrics said at the last looks.

The controller scrapes every pod of a pool in use every few seconds and adds it here; `core.scaling` judges the
readings, `core.leaks` the memory of single pods. A pod that did not answer has no reading, which is never "nothing to
do". All of it lives in memory: after a restart of the operator the first readings come after two looks.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reembed.core.measures import PROCESS, p95

_PREFIX = "reembed_embedder_"
REQUEST_SECONDS = f"{_PREFIX}request_seconds_bucket"
QUEUE_TOKENS = f"{_PREFIX}queue_tokens"
TEXTS = f"{_PREFIX}texts_total"
TOKENS = f"{_PREFIX}tokens_total"
PACK_TOKENS = f"{_PREFIX}pack_tokens_total"
PACK_SECONDS = f"{_PREFIX}pack_seconds_total"
CONTEXTS = f"{_PREFIX}contexts_peak"
WEIGHTS = f"{_PREFIX}weights"
KEPT_BYTES = f"{_PREFIX}text_cache_bytes"
MEMORY = "reembed_memory_"

# What the names of all series begin with that are read here.
SERIES = (
    REQUEST_SECONDS,
    QUEUE_TOKENS,
    TEXTS,
    TOKENS,
    PACK_TOKENS,
    PACK_SECONDS,
    CONTEXTS,
    WEIGHTS,
    KEPT_BYTES,
    MEMORY,
)

# Rates and percentiles are of this long.
WINDOW = timedelta(seconds=30)
# A pod that was silent for longer is not measured.
_SILENT = timedelta(seconds=20)
# The line of the next minute goes through so much.
_LATELY = timedelta(minutes=3)
# Memory is kept for so long, a point in so much.
_MEMORY = timedelta(hours=1)
_MEMORY_STEP = timedelta(seconds=20)
# The query rate's peak is that of the last hour, minute by minute.
_PEAK_MINUTES = 60
# A burst of a few seconds is no rate: migrations' floors would never fall below it.
_SHORTEST = 10.0
# A context that computed for a smaller share of the time says nothing of what it can do.
_BUSY_ENOUGH = 0.02
# No answer takes a day, and nothing that pods count or measure is as much as this: who says so is not measured.
_LONGEST = 86_400.0
_MOST = 1e18
# As types are called: F16, Q4_K.
_LONGEST_TYPE = 8

Scraped = tuple[str, Mapping[str, str], float]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One scrape of one pod. Counts are since its process began."""

    memory: float | None = None  # share of its room that cannot be reclaimed
    room: float | None = None  # bytes: its limit, less what is mapped
    kept: float = 0.0  # share of its room that vectors of texts take, which ends at `textCache`
    queue: float | None = None  # tokens
    seconds: Mapping[float, int] = field(default_factory=dict)  # of live requests, cumulative by upper bound
    live_texts: float = 0.0
    texts: float = 0.0
    tokens: float = 0.0
    computed: float = 0.0  # tokens
    busy: float | None = None  # seconds in calls of the engine, all contexts
    contexts: float = 1.0
    process: float | None = None  # when it began
    weights: str = ""  # the type in which they are multiplied

    def goes_on_from(self, before: Sampled) -> bool:
        """Return whether it is the same process that was asked before: its counts never fall."""
        counts = ((self.texts, before.texts), (self.computed, before.computed), (self.busy or 0.0, before.busy or 0.0))
        fell = any(now < then for now, then in counts)
        return self.process == before.process and not fell and _whole(self.seconds) >= _whole(before.seconds)

    def rested_since(self, before: Sampled) -> bool:
        """Return whether it computed nothing since then, as far as it says what it computes, and has nothing to do."""
        return self.busy is not None and self.busy == before.busy and not self.queue


@dataclass(frozen=True, slots=True)
class Reading:
    """One pod of late. `p95` is in seconds, 0 with too few requests to tell; None everywhere is not measured."""

    memory: float | None = None
    p95: float | None = None
    queue: float | None = None
    busy: float | None = None  # share of its contexts' time
    live: float | None = None  # live texts a second


@dataclass(frozen=True, slots=True)
class Track:
    """A pod's scrapes within the last window, the newest last, and its memory over the last hour.

    `grown` is its memory without the texts that it keeps: these fill up, and that is no leak. `rest` is the least that
    it had between two looks in which it computed nothing.
    """

    marks: tuple[tuple[datetime, Sampled], ...]
    memory: Points = ()
    grown: Points = ()
    rest: float | None = None

    @classmethod
    def begin(cls, sampled: Sampled, now: datetime) -> Track:
        return cls(((now, sampled),), *_memory((), (), sampled, now))

    def add(self, sampled: Sampled, now: datetime) -> Track:
        at, last = self.marks[-1]
        if now < at or not sampled.goes_on_from(last):
            return Track.begin(sampled, now)  # memory of a process before this one says nothing of this one's leak
        marks = (*(mark for mark in self.marks if now - mark[0] <= WINDOW), (now, sampled))
        found = [self.rest, sampled.memory if sampled.rested_since(last) else None]
        rest = min((one for one in found if one is not None), default=None)
        return Track(marks, *_memory(self.memory, self.grown, sampled, now), rest)

    def reading(self, now: datetime) -> Reading:
        at, last = self.marks[-1]
        if now - at > _SILENT:
            return Reading()
        queues = [one.queue for _, one in self.marks if one.queue is not None]
        queue = math.fsum(queues) / len(queues) if queues else None
        first_at, first = self.marks[0]
        span = (at - first_at).total_seconds()
        if span <= 0:
            return Reading(last.memory, None, queue)
        slowest = p95({bound: count - first.seconds.get(bound, 0) for bound, count in last.seconds.items()})
        return Reading(
            memory=last.memory,
            p95=slowest.total_seconds() if slowest is not None else 0.0,
            queue=queue,
            busy=min(_more(first.busy, last.busy) / span / max(last.contexts, 1.0), 1.0),
            live=(last.live_texts - first.live_texts) / span if span >= _SHORTEST else None,
        )

    def speed(self) -> float | None:
        """Return the tokens that the pod computes in a second of which it loses none; None if it hardly computed."""
        (first_at, first), (at, last) = self.marks[0], self.marks[-1]
        busy, contexts = _more(first.busy, last.busy), max(last.contexts, 1.0)
        if busy <= _BUSY_ENOUGH * (at - first_at).total_seconds() * contexts or busy <= 0:
            return None
        return (last.computed - first.computed) / busy * contexts


@dataclass(frozen=True, slots=True)
class Series:
    """Means over the ready pods, as seconds and value, since the last pod came or went."""

    pods: frozenset[str] = frozenset()
    memory: Points = ()
    p95: Points = ()
    queue: Points = ()


@dataclass(frozen=True, slots=True)
class Load:
    """All pods of a pool that are ready."""

    tracks: Mapping[str, Track] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)  # one for each ready pod
    series: Series = Series()
    peaks: tuple[tuple[int, float], ...] = ()  # minute and live texts a second, the largest of each minute
    speed: float | None = None  # tokens a second of one pod that is never idle, as last measured
    tokens_a_text: float | None = None
    idle: float = 0.0  # the share of its memory that a pod has used at least, whatever it did
    rest: float | None = None  # the same of the pods that computed nothing; None if each has been at work

    def add(self, scraped: Mapping[str, Sampled], ready: Collection[str], now: datetime) -> Load:
        """Return the load with one more look; pods that did not answer are left out of `scraped`."""
        tracks = {pod: self._track(pod, scraped.get(pod), now) for pod in ready}
        known = {pod: track for pod, track in tracks.items() if track is not None}
        readings = {pod: track.reading(now) if track is not None else Reading() for pod, track in tracks.items()}
        speeds = [speed for track in known.values() if (speed := track.speed()) is not None]
        return Load(
            tracks=known,
            readings=readings,
            series=_longer(self.series, readings, known, now),
            peaks=_peaks(self.peaks, readings.values(), now),
            speed=math.fsum(speeds) / len(speeds) if speeds else self.speed,
            tokens_a_text=_tokens_a_text(known.values()) or self.tokens_a_text,
            idle=_idle(known.values()),
            rest=min((track.rest for track in known.values() if track.rest is not None), default=None),
        )

    @property
    def peak(self) -> float:
        """Return the most live texts a second of the last hour."""
        return max((rate for _, rate in self.peaks), default=0.0)

    def _track(self, pod: str, sampled: Sampled | None, now: datetime) -> Track | None:
        before = self.tracks.get(pod)
        if sampled is None:
            return before
        return before.add(sampled, now) if before is not None else Track.begin(sampled, now)


def sampled(samples: Iterable[Scraped]) -> Sampled:
    """Sort one pod's scraped samples; others are passed over."""
    plain: dict[str, float] = {}
    seconds: dict[float, int] = {}
    live = texts = 0.0
    weights = ""
    for name, labels, value in samples:
        if not 0 <= value <= _MOST:
            continue
        if name == REQUEST_SECONDS:
            if labels.get("priority", "live") == "live" and (bound := _bound(labels.get("le", ""))) is not None:
                seconds[bound] = seconds.get(bound, 0) + round(value)
        elif name == TEXTS:
            texts += value
            live += value if labels.get("priority") == "live" else 0.0
        elif name == WEIGHTS:
            weights = labels.get("type", "")[:_LONGEST_TYPE]
        else:
            plain[name] = value
    room = plain.get("reembed_memory_limit_bytes", 0.0) - plain.get("reembed_memory_mapped_bytes", 0.0)
    used = plain.get("reembed_memory_used_bytes")
    return Sampled(
        memory=used / room if used is not None and room >= 1 else None,
        room=room if room >= 1 else None,
        kept=plain.get(KEPT_BYTES, 0.0) / room if room >= 1 else 0.0,
        queue=plain.get(QUEUE_TOKENS),
        seconds=seconds,
        live_texts=live,
        texts=texts,
        tokens=plain.get(TOKENS, 0.0),
        computed=plain.get(PACK_TOKENS, 0.0),
        busy=plain.get(PACK_SECONDS),
        contexts=plain.get(CONTEXTS, 1.0),
        process=plain.get(PROCESS),
        weights=weights,
    )


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return bound if 0 < bound <= _LONGEST or bound == math.inf else None


def _whole(seconds: Mapping[float, int]) -> int:
    return max(seconds.values(), default=0)


def _more(before: float | None, after: float | None) -> float:
    return (after or 0.0) - (before or 0.0)


def _memory(memory: Points, grown: Points, sampled: Sampled, now: datetime) -> tuple[Points, Points]:
    """Return a pod's memory, and that without the texts that it keeps, with one more point of each if it is time."""
    at = now.timestamp()
    if sampled.memory is None or (memory and at - memory[-1][0] < _MEMORY_STEP.total_seconds()):
        return memory, grown
    oldest = at - _MEMORY.total_seconds()
    added = ((memory, sampled.memory), (grown, sampled.memory - sampled.kept))
    one, other = (((*(point for point in points if point[0] >= oldest), (at, value))) for points, value in added)
    return one, other


def _longer(series: Series, readings: Mapping[str, Reading], tracks: Mapping[str, Track], now: datetime) -> Series:
    """Add a point to each series; another number of pods carries another share each, which is no trend.

    A queue's points are not the means of readings: those would make a slope of every step.
    """
    pods = frozenset(readings)
    if pods != series.pods:
        series = Series(pods)
    found = readings.values()
    return Series(
        pods,
        _point(series.memory, [one.memory for one in found], now),
        _point(series.p95, [one.p95 for one in found], now),
        _point(
            series.queue,
            [tracks[pod].marks[-1][1].queue for pod, one in readings.items() if one.queue is not None],
            now,
        ),
    )


def _point(points: Points, values: Iterable[float | None], now: datetime) -> Points:
    at, known = now.timestamp(), [value for value in values if value is not None]
    kept = tuple(one for one in points if 0 <= at - one[0] <= _LATELY.total_seconds())
    return (*kept, (at, math.fsum(known) / len(known))) if known else kept


def _peaks(
    peaks: tuple[tuple[int, float], ...], readings: Iterable[Reading], now: datetime
) -> tuple[tuple[int, float], ...]:
    rates = [one.live for one in readings if one.live is not None]
    if not rates:
        return peaks
    minute, rate = int(now.timestamp() // 60), math.fsum(rates)
    if peaks and peaks[-1][0] == minute:
        rate = max(rate, peaks[-1][1])
    return (*(one for one in peaks if minute - _PEAK_MINUTES < one[0] < minute), (minute, rate))


def _idle(tracks: Iterable[Track]) -> float:
    least = [min(value for _, value in track.memory) for track in tracks if track.memory]
    return math.fsum(least) / len(least) if least else 0.0


def _tokens_a_text(tracks: Iterable[Track]) -> float | None:
    ends = [(track.marks[0][1], track.marks[-1][1]) for track in tracks]
    texts = math.fsum(last.texts - first.texts for first, last in ends)
    tokens = math.fsum(last.tokens - first.tokens for first, last in ends)
    return tokens / texts if texts > 0 and tokens > 0 else None
