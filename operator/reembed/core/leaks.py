"""Finds the pod whose memory grows without end, before it is killed at its limit.

A pod's memory grows while it warms up, and up and down with its work; a leak is a slope that is there for certain, over
many minutes, and still in the last third of them. Its line says when the limit is reached: a pod that has less than
half an hour is replaced gracefully, one at a time (`controller.pools`), instead of being killed among its queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reembed.core.forecast import Points, line
from reembed.core.load import Load, Track

# A pod that starts fills its caches.
_WARM_UP = 120.0
_SHORTEST = 480.0  # seconds of measurements after that
_HORIZON = 1800.0
# Below this nothing is urgent, whatever the line says: steps of a cache look like slopes.
_CALM = 0.5
# Of the limit: at 1 the kernel ends the process.
_LIMIT = 1.0


@dataclass(frozen=True, slots=True)
class Leak:
    """A pod that leaks: shares of its limit now and per hour with their standard error, and seconds left."""

    pod: str
    memory: float
    per_hour: float
    error: float
    left: float

    def told(self) -> str:
        grows = f"grows by {self.per_hour:.0%} of its limit an hour (standard error {self.error:.1%})"
        return f"memory of pod {self.pod} is at {self.memory:.0%} and {grows}: full in {self.left / 60:.0f} min"


def worst(load: Load) -> Leak | None:
    """Return the leaking pod that has the least time left, None if none leaks."""
    return min(_leaks(load.tracks), key=lambda one: (one.left, one.pod), default=None)


def _leaks(tracks: Mapping[str, Track]) -> list[Leak]:
    return [leak for pod, track in tracks.items() if (leak := _leak(pod, track.memory)) is not None]


def _leak(pod: str, memory: Points) -> Leak | None:
    points = [one for one in memory if one[0] - memory[0][0] >= _WARM_UP]
    if not points or points[-1][0] - points[0][0] < _SHORTEST or points[-1][1] < _CALM:
        return None
    whole = line(points)
    late = line(points[-max(len(points) // 3, 8) :])
    if whole is None or late is None or whole.steady <= 0 or late.slope < whole.slope / 2:
        return None
    left = whole.until(_LIMIT)
    if left > _HORIZON:
        return None
    return Leak(pod, points[-1][1], whole.slope * 3600, whole.error * 3600, left)
