"""Finds the pod whose memory grows without end, before it is killed at its limit.

A pod's memory grows while it warms up, and up and down with its work; a leak is a slope that is there for certain, over
many minutes, and still in both halves of their last third: load that rises at once makes a step. The texts that a pod
keeps fill up as well, to a size that the pool's spec sets, and are left out. The line says when the limit is reached: a
pod that has less than half an hour is replaced gracefully, one at a time (`controller.pools`), instead of being killed
among its queries. How fast memory grows is told of every pool, whether that is a leak or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reembed.core.forecast import Line, Points, line
from reembed.core.load import Load, Track

# A pod that starts fills its caches.
_WARM_UP = 120.0
_SHORTEST = 480.0  # seconds of measurements after that
_LATE = 12  # measurements
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


@dataclass(frozen=True, slots=True)
class Growth:
    """How the memory of a pool's pods grows: of the fastest one, and when the first one is full if that goes on."""

    per_hour: float  # bytes; 0 if it is certain of none
    left: float  # seconds; infinite if none grows for certain


def growth(load: Load) -> Growth | None:
    """Return how memory grows, None as long as no pod was measured for long enough."""
    found = [
        (whole, room)
        for track in load.tracks.values()
        if (whole := _whole(_warm(track.memory))) is not None and (room := track.marks[-1][1].room) is not None
    ]
    if not found:
        return None
    grows = [(whole, room) for whole, room in found if whole.steady > 0]
    return Growth(
        per_hour=max((whole.slope * room * 3600 for whole, room in grows), default=0.0),
        left=min((whole.until(_LIMIT) for whole, _ in grows), default=math.inf),
    )


def worst(load: Load) -> Leak | None:
    """Return the leaking pod that has the least time left, None if none leaks."""
    return min(_leaks(load.tracks), key=lambda one: (one.left, one.pod), default=None)


def _leaks(tracks: Mapping[str, Track]) -> list[Leak]:
    return [leak for pod, track in tracks.items() if (leak := _leak(pod, track)) is not None]


def _warm(memory: Points) -> Points:
    """Return a pod's memory from the time on when its caches are full."""
    return [one for one in memory if one[0] - memory[0][0] >= _WARM_UP]


def _whole(points: Points) -> Line | None:
    """Return the line through a warm pod's memory, None if it was not measured for long enough."""
    return line(points) if points and points[-1][0] - points[0][0] >= _SHORTEST else None


def _late(points: Points) -> tuple[Line | None, Line | None]:
    """Return the lines through the halves of the last third, None of too few measurements."""
    late = points[-max(len(points) // 3, _LATE) :]
    return line(late[: len(late) // 2]), line(late[len(late) // 2 :])


def _leak(pod: str, track: Track) -> Leak | None:
    points = _warm(track.grown)
    if not points or track.memory[-1][1] < _CALM or (whole := _whole(points)) is None:
        return None
    if whole.steady <= 0 or not all(part is not None and part.slope >= whole.slope / 2 for part in _late(points)):
        return None
    memory = track.memory[-1][1]
    left = whole.until(_LIMIT - (memory - points[-1][1]))
    if left > _HORIZON:
        return None
    return Leak(pod, memory, whole.slope * 3600, whole.error * 3600, left)
