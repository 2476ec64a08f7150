"""A least-squares line through what was measured lately, and what it says of the time to come.

Measurements are noisy, and each depends on the one before it: a line through a random walk looks steep and sure. So
its error is widened by how much neighbours are alike, and whoever acts on a line acts on its cautious end (`steady`),
not on its middle. Used for the next minute (`core.scaling`) and for leaks within the next half an hour (`core.leaks`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

# Seconds and what was measured then, in the order of time.
Points = Sequence[tuple[float, float]]

# Below this a line is an accident.
_LEAST_POINTS = 6
# Standard errors between the line and its cautious end.
_CAUTION = 2.0
# Neighbours that are all alike say as little as one: the error grows at most so many times.
_MOST_ALIKE = 0.95


@dataclass(frozen=True, slots=True)
class Line:
    """A line up to its last point. `slope` and its standard error are per second."""

    slope: float
    error: float
    end: float  # its value at the last point

    @property
    def steady(self) -> float:
        """Return the slope that is there for certain, upwards; 0 if none is."""
        return max(self.slope - _CAUTION * self.error, 0.0)

    def ahead(self, seconds: float) -> float:
        """Return the value to expect for certain in so many seconds."""
        return self.end + self.steady * seconds

    def until(self, limit: float) -> float:
        """Return in how many seconds the limit is reached at the slope itself; infinite if never."""
        if self.end >= limit:
            return 0.0
        return (limit - self.end) / self.slope if self.slope > 0 else math.inf


def line(points: Points) -> Line | None:
    """Return the line through `points`; None if they are too few or of one moment."""
    if len(points) < _LEAST_POINTS:
        return None
    count = len(points)
    # Seconds since the epoch squared would leave no digit for the rest.
    middle = math.fsum(at for at, _ in points) / count
    mean = math.fsum(value for _, value in points) / count
    spread = math.fsum((at - middle) ** 2 for at, _ in points)
    if spread <= 0.0:
        return None
    slope = math.fsum((at - middle) * (value - mean) for at, value in points) / spread
    left = [value - mean - slope * (at - middle) for at, value in points]
    squares = math.fsum(one * one for one in left)
    error = math.sqrt(squares / (count - 2) / spread) * _widening(left, squares)
    return Line(slope, error, mean + slope * (points[-1][0] - middle))


def _widening(left: Sequence[float], squares: float) -> float:
    """Return by how much the error grows because neighbours are alike (an autoregressive process of order one)."""
    if squares <= 0.0:
        return 1.0
    alike = math.fsum(one * other for one, other in itertools.pairwise(left)) / squares
    alike = min(max(alike, 0.0), _MOST_ALIKE)
    return math.sqrt((1 + alike) / (1 - alike))
