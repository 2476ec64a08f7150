"""From what gateways count to what an arm did lately: errors and p95 of the last minute, over all pods.

The controller scrapes each gateway pod, turns the samples of a scrape into `Counters` by collection with `counted`,
and keeps one `Window` per arm. Counters only grow while a process lives, so what happened is the difference of two
scrapes; a process that began at another time than the one scraped before started again at zero. A pod that is seen for
the first time only sets the mark from which it is counted: its past may be hours long.

Callers' queries and the gateways' own probes (one every few seconds and arm, at weight 0 too) are told apart: probes
show that an arm lives before it gets traffic, but their text is always the same, so their latency is not the callers'.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reembed.core.model import ArmMeasure
from reembed.core.sequences import Sample

# Metric families of the gateway, as it names them; samples carry the suffixes of Prometheus' text format.
ARM_REQUESTS = "reembed_gateway_arm_requests"
ARM_SECONDS = "reembed_gateway_arm_seconds"

# When the process began, in seconds: what tells a restart from growth. A small counter may pass its old value within
# one scrape, and the difference of two lives would be nonsense, such as a mean overlap of 200 %.
PROCESS = "process_start_time_seconds"

# Counters of compared queries; SHADOW_COMPARED is the outcome whose count belongs to the sums.
SHADOW = "reembed_gateway_shadow"
SHADOW_COMPARED = "compared"
SHADOW_OVERLAP = "reembed_gateway_shadow_overlap"
SHADOW_OVERLAP_SQUARES = "reembed_gateway_shadow_overlap_squares"

# What the names of all series begin with that are read here.
SERIES = (f"{ARM_REQUESTS}_total", f"{ARM_SECONDS}_bucket", f"{SHADOW}_total", SHADOW_OVERLAP, PROCESS)

# One line of a scrape: name, labels, value.
Scraped = tuple[str, Mapping[str, str], float]

# Below this a p95 is the accident of one slow answer.
MIN_ANSWERS = 20
_QUANTILE = 0.95
# No answer takes a day.
_LONGEST = 86_400.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Cumulative counts, or the difference of two such. `buckets` maps upper bounds in seconds to counts up to them."""

    ok: int = 0
    errors: int = 0
    buckets: Mapping[float, int] = field(default_factory=dict)

    def plus(self, other: Counts) -> Counts:
        buckets = dict(self.buckets)
        for bound, count in other.buckets.items():
            buckets[bound] = buckets.get(bound, 0) + count
        return Counts(self.ok + other.ok, self.errors + other.errors, buckets)

    def minus(self, other: Counts) -> Counts:
        buckets = dict(self.buckets)
        for bound, count in other.buckets.items():
            buckets[bound] = buckets.get(bound, 0) - count
        return Counts(self.ok - other.ok, self.errors - other.errors, buckets)

    @property
    def smallest(self) -> int:
        return min(self.ok, self.errors, *self.buckets.values())


@dataclass(frozen=True, slots=True)
class Counters:
    """What one pod counted of one arm since its process began; `process` is when that was, None if it does not say."""

    live: Counts = Counts()
    probes: Counts = Counts()
    process: float | None = None

    def plus(self, other: Counters) -> Counters:
        return replace(self, live=self.live.plus(other.live), probes=self.probes.plus(other.probes))

    def minus(self, other: Counters) -> Counters:
        return replace(self, live=self.live.minus(other.live), probes=self.probes.minus(other.probes))

    def since(self, before: Counters) -> Counters:
        """Return what was counted after `before`; everything, if the process began anew in between."""
        live, probes = self.live.minus(before.live), self.probes.minus(before.probes)
        # One counter that shrank tells of all, where the process does not say when it began.
        anew = self.process != before.process or min(live.smallest, probes.smallest) < 0
        return self if anew else replace(self, live=live, probes=probes)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a pod had counted at one scrape, since it was scraped first."""

    at: datetime
    total: Counters


@dataclass(frozen=True, slots=True)
class Track:
    """A pod's last scrape, what it counted up to that over all lives of its process, and marks of that on the way.

    What it counted since a mark is one difference, however many scrapes lie between.
    """

    last: Counters
    now: Mark
    marks: tuple[Mark, ...] = ()

    def since(self, horizon: datetime) -> Counters | None:
        """Return what was counted after the first mark that is not before `horizon`, None if there is none."""
        mark = next((mark for mark in self.marks if mark.at >= horizon), None)
        return self.now.total.minus(mark.total) if mark is not None else None


@dataclass(frozen=True, slots=True)
class Window:
    """The latest scrapes of one arm by pod; immutable, so that a pass can keep the one it judged by.

    It looks back for `length`; where callers are few, twice as far: the probes of a single gateway, one in five
    seconds, are too few within a minute to tell a p95. How far it looks back is true to a sixth of `length`. What was
    lately is its last third.
    """

    length: timedelta = timedelta(seconds=60)
    pods: Mapping[str, Track] = field(default_factory=dict)
    looked: datetime | None = field(default=None, compare=False)  # the last time, whether anybody answered or not

    def add(self, scraped: Mapping[str, Counters], now: datetime) -> Window:
        """Return the window with one more scrape; pods that did not answer are left out of `scraped`."""
        tracks: dict[str, Track] = {}
        for pod in self.pods.keys() | scraped.keys():
            before = self.pods.get(pod)
            if before is not None and now - before.now.at > 2 * self.length:
                before = None
            if pod in scraped:
                tracks[pod] = self._longer(before, scraped[pod], now)
            elif before is not None:
                tracks[pod] = before
        return Window(self.length, tracks, now)

    def live(self) -> ArmMeasure | None:
        """Return what callers saw of the arm within the window; None until some pod was scraped twice."""
        return self._measure(lambda counters: counters.live, self.length)

    def probes(self) -> ArmMeasure | None:
        """Return what the gateways' own queries saw; None until some pod was scraped twice."""
        return self._measure(lambda counters: counters.probes, self.length)

    def judged(self) -> ArmMeasure | None:
        """Return what an arm is judged by: its callers alone where they are enough, else they and the probes."""
        live = self.live()
        if live is not None and live.requests >= MIN_ANSWERS:
            return live
        return self._measure(lambda counters: counters.live.plus(counters.probes), 2 * self.length)

    def _longer(self, before: Track | None, scraped: Counters, now: datetime) -> Track:
        if before is None:
            return Track(scraped, Mark(now, Counters()))
        # After a clock was set back, what was marked lies ahead.
        marks = tuple(mark for mark in before.marks if timedelta(0) <= now - mark.at <= 2 * self.length)
        if before.now.at <= now and (not marks or now - marks[-1].at > self.length / 6):
            marks = (*marks, before.now)
        return Track(scraped, Mark(now, before.now.total.plus(scraped.since(before.last))), marks)

    def _measure(self, pick: Callable[[Counters], Counts], within: timedelta) -> ArmMeasure | None:
        if self.looked is None:
            return None
        found = [since for track in self.pods.values() if (since := track.since(self.looked - within)) is not None]
        if not found:
            return None
        counts = functools.reduce(Counts.plus, map(pick, found))
        lately = self._measure(pick, self.length / 3) if within > self.length / 3 else None
        return ArmMeasure(counts.ok + counts.errors, counts.errors, p95(counts.buckets), lately)


@dataclass(frozen=True, slots=True)
class Since:
    """What callers saw of one arm since a mark, over all pods: what gates judge a step by.

    The first scrape of a pod only sets its mark, so nothing is counted twice; what a process counted between its last
    scrape and its end is lost. It lives in memory: after a restart of the operator it begins anew. Evidence is lost by
    that and never made, so a gate needs as many answers again; as each beginning is a trial of its own, a gate is wrong
    with at most (restarts within the step + 1) times its alpha.
    """

    last: Mapping[str, Counters] = field(default_factory=dict)
    counts: Counts = Counts()

    def add(self, scraped: Mapping[str, Counters]) -> Since:
        """Return the same with one more scrape; pods that did not answer are left out and keep their mark."""
        total = self.counts
        for pod, counters in scraped.items():
            if pod in self.last:
                total = total.plus(counters.since(self.last[pod]).live)
        return Since({**self.last, **scraped}, total)


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What one pod counted of a candidate's comparisons with what serves; `process` as in `Counters`."""

    overlap: Sample = field(default_factory=Sample)
    process: float | None = None

    def since(self, before: Comparisons) -> Sample:
        """Return what was compared after `before`; everything, if the process began anew in between."""
        now, then = self.overlap, before.overlap
        count, total, squares = now.count - then.count, now.total - then.total, now.squares - then.squares
        anew = self.process != before.process or min(count, total, squares) < 0
        return now if anew else Sample(count, total, squares)


@dataclass(frozen=True, slots=True)
class Compared:
    """The overlaps of a candidate's results with the serving side's since a mark, over all pods; as `Since`.

    A candidate stands beside one serving side for as long as a step lasts, so the sample is of that pair alone.
    """

    last: Mapping[str, Comparisons] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)

    def add(self, scraped: Mapping[str, Comparisons]) -> Compared:
        """Return the same with one more scrape; pods that did not answer are left out and keep their mark."""
        total = self.sample
        for pod, comparisons in scraped.items():
            if pod in self.last:
                total += comparisons.since(self.last[pod])
        return Compared({**self.last, **scraped}, total)


def overlaps(samples: Iterable[Scraped]) -> dict[str, Comparisons]:
    """Sort one pod's scraped samples into the overlaps of each candidate, by its collection."""
    found: dict[str, Sample] = {}
    process = None
    for name, labels, value in samples:
        if not math.isfinite(value):
            continue
        if name == PROCESS:
            process = value
        elif (one := _comparisons(name, labels, value)) is not None:
            candidate = labels["candidate"]
            found[candidate] = found.get(candidate, Sample()) + one
    return {candidate: Comparisons(overlap, process) for candidate, overlap in found.items()}


def _comparisons(name: str, labels: Mapping[str, str], value: float) -> Sample | None:
    if "candidate" not in labels:
        return None
    if name == f"{SHADOW}_total" and labels.get("outcome") == SHADOW_COMPARED:
        return Sample(count=round(value))
    if name == f"{SHADOW_OVERLAP}_total":
        return Sample(total=value)
    if name == f"{SHADOW_OVERLAP_SQUARES}_total":
        return Sample(squares=value)
    return None


def counted(samples: Iterable[Scraped]) -> dict[str, Counters]:
    """Sort one pod's scraped samples into counters by collection; others are passed over."""
    found: dict[str, tuple[_Tally, _Tally]] = {}
    process = None
    for name, labels, value in samples:
        if not math.isfinite(value):
            continue
        if name == PROCESS:
            process = value
        elif "collection" in labels and name in _TALLIED:
            live, probes = found.setdefault(labels["collection"], (_Tally(), _Tally()))
            _TALLIED[name](probes if labels.get("probe") == "true" else live, labels, round(value))
    return {
        collection: Counters(live.counts(), probes.counts(), process) for collection, (live, probes) in found.items()
    }


def p95(buckets: Mapping[float, int]) -> timedelta | None:
    """Return the 95th percentile, linear inside its bucket; None below MIN_ANSWERS answers.

    What lies above the last finite bound is told as that bound: at least so slow.
    """
    total = buckets.get(math.inf, 0)
    if total < MIN_ANSWERS:
        return None
    rank = _QUANTILE * total
    below, count_below = 0.0, 0
    for bound, count in sorted(buckets.items()):
        if count >= rank:
            if bound == math.inf:
                break
            share = (rank - count_below) / (count - count_below)
            return timedelta(seconds=below + (bound - below) * share)
        below, count_below = bound, count
    return timedelta(seconds=below)


@dataclass(slots=True)
class _Tally:
    """Counts on their way: a page of a hundred lines is summed without a hundred sums."""

    outcomes: dict[str, int] = field(default_factory=dict)
    buckets: dict[float, int] = field(default_factory=dict)

    def requests(self, labels: Mapping[str, str], count: int) -> None:
        outcome = labels.get("outcome", "")
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count

    def seconds(self, labels: Mapping[str, str], count: int) -> None:
        bound = _bound(labels.get("le", ""))
        if bound is not None:
            self.buckets[bound] = self.buckets.get(bound, 0) + count

    def counts(self) -> Counts:
        return Counts(self.outcomes.get("ok", 0), self.outcomes.get("error", 0), self.buckets)


@functools.lru_cache(maxsize=256)
def _bound(text: str) -> float | None:
    """Return a bucket's upper bound in seconds, None if it is none."""
    try:
        bound = float(text)
    except ValueError:
        return None
    return bound if 0 < bound <= _LONGEST or bound == math.inf else None


_TALLIED = {f"{ARM_REQUESTS}_total": _Tally.requests, f"{ARM_SECONDS}_bucket": _Tally.seconds}
