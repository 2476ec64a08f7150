"""What is made of measurements: ratios with their spread, and lines through memory. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Neighbouring samples of memory tell the same; means over so many spans are nearly independent.
_SPANS = 20
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of what rounds found, and the least and the most of it."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> list[float]:
        return [self.low, self.high]


def figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float], factor: float = 1.0) -> Figure | None:
    """Return the median over rounds of two figures of one round; None where one side did nothing."""
    pairs = list(zip(ours, theirs, strict=True))
    if not pairs or any(other == 0 for _, other in pairs):
        return None
    return figure([factor * mine / other for mine, other in pairs])


def variation(seconds: Sequence[float]) -> float:
    """Return the standard deviation by the mean, in percent."""
    return 100 * statistics.stdev(seconds) / statistics.fmean(seconds)


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return the growth in an hour by a line through the means of spans, and its standard error."""
    spans = [np.asarray(part) for part in np.array_split(np.column_stack((times, values)), _SPANS)]
    x, y = np.array([part.mean(axis=0) for part in spans if len(part)]).T
    if len(x) < 3:
        raise ValueError(f"{len(times)} samples make no line: at least three are needed")
    from_mean = x - x.mean()
    squares = float(from_mean @ from_mean)
    grows = float(from_mean @ y) / squares
    left = y - y.mean() - grows * from_mean
    error = math.sqrt(float(left @ left) / (len(x) - 2) / squares)
    return grows * _HOUR, error * _HOUR
