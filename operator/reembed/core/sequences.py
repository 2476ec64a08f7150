"""Bounds that hold however often one looks: for whatever a canary watches again and again.

A gate or trigger that tests a limit on every pass with an ordinary interval fires falsely eight times as often as it
says. A confidence sequence keeps its promise over all looks together: the chance that its bounds are ever wrong is
`alpha` on each side, so a limit may be compared with them on every pass, and progress may wait for them as long as it
takes. The price is about twice the observations. Who watches several sequences (slices, gates) divides alpha by their
number.

All are made from sums alone, so counters of a gateway or numbers in a status are enough, sums of several pods are
added, and a restart loses nothing. Observations are taken to be independent of each other.

* `mean_bounds`: the mean of bounded values (differences of reciprocal ranks, overlaps), by a normal mixture
  (Waudby-Smith and others, "Time-uniform central limit theory and asymptotic confidence sequences", one-sided).
* `share_bounds`: the share of events (errors, slow answers), by a beta mixture (Robbins), which is exact: it keeps the
  promise with no event at all, where an approximation by variance would see certainty.
* `difference_bounds`: the difference of two shares, from the two mixtures together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

# The chance that a bound is ever on the wrong side, unless the caller divides it among several.
ALPHA = 0.01
# Bounds are tightest after so many observations and need some more before and after.
TUNED_FOR = 500
_HALVINGS = 34
# The spread is taken as if so many values more lay at the end of the span. Without them a hundred equal values have no
# variance, and the bound is certain of what happens to one query in fifty: measured on losses of that kind, it
# was wrong in 68 of 100 runs, with four in 1.5, with seven in 0.7.
_UNSEEN = 7
# Logarithms of the evidence's slope: next to the share that was seen, and at the end of all shares.
_FLAT, _STEEP = -20.0, 40.0
_EDGE = 1e-9  # shares are looked for between this and 1 - this

Bounds = tuple[float, float]


class Standing(Enum):
    """Where something that is watched stands against its limit."""

    HOLDS = "Holds"  # it is on the right side of the limit, for certain
    UNDECIDED = "Undecided"  # the bounds lie on both sides; more observations are needed
    FAILS = "Fails"  # it is on the wrong side, for certain


@dataclass(frozen=True, slots=True)
class Sample:
    """Observed values by their sums; samples of several observers are added."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        kept = list(values)
        return cls(len(kept), math.fsum(kept), math.fsum(value * value for value in kept))

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of `count` observations were events."""

    count: int = 0
    events: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.count + other.count, self.events + other.events)

    @property
    def share(self) -> float | None:
        return self.events / self.count if self.count else None


def at_least(bounds: Bounds, limit: float) -> Standing:
    """Judge something that must not be below `limit`."""
    low, high = bounds
    if high < limit:
        return Standing.FAILS
    return Standing.HOLDS if low >= limit else Standing.UNDECIDED


def at_most(bounds: Bounds, limit: float) -> Standing:
    """Judge something that must not be above `limit`."""
    low, high = bounds
    if low > limit:
        return Standing.FAILS
    return Standing.HOLDS if high <= limit else Standing.UNDECIDED


def mean_bounds(
    sample: Sample, alpha: float = ALPHA, *, tuned_for: int = TUNED_FOR, span: Bounds = (-1.0, 1.0)
) -> Bounds:
    """Return bounds of the mean of values that lie within `span`."""
    lowest, highest = span
    low = _mean_bound(sample, lowest, alpha, tuned_for)
    high = _mean_bound(sample, highest, alpha, tuned_for)
    return max(low, lowest), min(high, highest)


def _mean_bound(sample: Sample, end: float, alpha: float, tuned_for: int) -> float:
    """Return the bound on the side of the span's `end`."""
    if not sample.count:
        return end
    count, mean = sample.count, sample.total / sample.count
    variance = max(sample.squares / count - mean * mean, 0.0) + _UNSEEN * (end - mean) ** 2 / count
    time = _best_time(2 * alpha) * count / tuned_for
    growth = (time + 1) / time * math.log(0.5 + math.sqrt(time + 1) / (2 * alpha))
    return mean + math.copysign(math.sqrt(2 * variance * growth / count), end - mean)


def _best_time(alpha: float) -> float:
    """Return the mixture's time at which its bounds are tightest, as a multiple of its own variance."""
    once = -2 * math.log(alpha)
    return once + math.log(once + 1)


def share_bounds(tally: Tally, alpha: float = ALPHA, *, about: float, tuned_for: int = TUNED_FOR) -> Bounds:
    """Return bounds of a share; they are tightest where it is `about` that much, best the limit it is held against."""
    evidence = _Evidence(tally, _prior(about, alpha, tuned_for))
    return _bounds(evidence, -math.log(alpha))


def difference_bounds(
    candidate: Tally, serving: Tally, alpha: float = ALPHA, *, about: float, tuned_for: int = TUNED_FOR
) -> Bounds:
    """Return bounds of how much larger the candidate's share is; both are expected to be `about` that much."""
    if not candidate.count or not serving.count:
        return -1.0, 1.0
    prior, limit = _prior(about, alpha, tuned_for), -math.log(alpha)
    ours, theirs = _Evidence(candidate, prior), _Evidence(serving, prior)
    return -_largest_difference(theirs, ours, limit), _largest_difference(ours, theirs, limit)


def _largest_difference(first: _Evidence, second: _Evidence, limit: float) -> float:
    """Return how much larger the first share may be while both together have no more than `limit` against them.

    At the largest, moving either share costs the same evidence, so the search is for that one slope.
    """

    def shares(logarithm: float) -> tuple[float, float]:
        slope = math.exp(logarithm)
        return first.at_slope(slope), second.at_slope(-slope)

    def against(logarithm: float) -> float:
        one, other = shares(logarithm)
        return first(one) + second(other)

    one, other = shares(_crossing(against, _FLAT, _STEEP, limit))
    return one - other


@dataclass(frozen=True, slots=True)
class _Prior:
    """A beta distribution by its two counts."""

    events: float
    others: float


def _prior(about: float, alpha: float, tuned_for: int) -> _Prior:
    weight = tuned_for / _best_time(alpha)
    middle = min(max(about, 1e-4), 1 - 1e-4)
    return _Prior(weight * middle, weight * (1 - middle))


class _Evidence:
    """What a tally says against each share, as the logarithm of a bet that wins nothing if that share is true."""

    __slots__ = ("_events", "_others", "_won")

    def __init__(self, tally: Tally, prior: _Prior) -> None:
        self._events, self._others = tally.events, tally.count - tally.events
        self._won = _log_beta(prior.events + self._events, prior.others + self._others) - _log_beta(
            prior.events, prior.others
        )

    def __call__(self, share: float) -> float:
        share = min(max(share, _EDGE), 1 - _EDGE)
        return self._won - self._events * math.log(share) - self._others * math.log1p(-share)

    def at_slope(self, slope: float) -> float:
        """Return the share where the evidence grows by `slope`."""
        # slope = others / (1 - share) - events / share, solved for the share; 0 is one without events.
        rest = self._events + self._others - slope
        root = math.sqrt(rest * rest + 4 * slope * self._events)
        if rest > 0:
            return 2 * self._events / (rest + root)
        return (root - rest) / (2 * slope)

    @property
    def seen(self) -> float:
        count = self._events + self._others
        return self._events / count if count else 0.5


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)


def _bounds(evidence: _Evidence, limit: float) -> Bounds:
    low = _crossing(evidence, evidence.seen, _EDGE, limit)
    high = _crossing(evidence, evidence.seen, 1 - _EDGE, limit)
    return (0.0 if low <= _EDGE else low), (1.0 if high >= 1 - _EDGE else high)


def _crossing(against: Callable[[float], float], inside: float, end: float, limit: float) -> float:
    """Return where evidence, which grows from `inside` towards `end`, reaches `limit`; `end` if it does not."""
    if against(end) <= limit:
        return end
    for _ in range(_HALVINGS):
        middle = (inside + end) / 2
        if against(middle) <= limit:
            inside = middle
        else:
            end = middle
    return end
