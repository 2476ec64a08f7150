"""How documents are cut: into shards by their ids, into pages that are stored at once, and how fast that goes.

The store worker asks for the shards' boundaries when it makes a collection and for the rate when it reports; a backfill
pod asks for the order of its pages. Documents are numbered in the order they were read. Nothing here knows a document's
text, and nothing waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

Item = TypeVar("Item")

# The order of the pipeline, in which a tie for the slowest stage is named.
STAGES = ("read", "embed", "validate", "write")
# Busy for a smaller share of its time, a stage holds nobody up: the shards wait for each other's pods, or for work.
_BUSY = 0.05


@dataclass(frozen=True, slots=True)
class Range:
    """A shard's documents: lower < id <= upper, where None is no bound; `empty` holds none at all."""

    lower: str | None
    upper: str | None
    empty: bool = False


def fractions(shards: int) -> tuple[float, ...]:
    """Return at which shares of the ordered ids the boundaries of so many equal shards lie."""
    return tuple([n / shards for n in range(1, shards)])


def ranges(boundaries: Sequence[str], shards: int) -> tuple[Range, ...]:
    """Return exactly `shards` ranges that hold every id once; the last is open, for ids that are yet to come.

    Boundaries repeat where there are fewer documents than shards: what is left over then are empty shards.
    """
    distinct = list(dict.fromkeys(boundaries))
    bounds: list[str | None] = [None, *distinct, None]
    cut = [Range(bounds[n], bounds[n + 1]) for n in range(len(distinct) + 1)]
    return tuple(cut + [Range(None, None, empty=True)] * (shards - len(cut)))


class InOrder(Generic[Item]):
    """Gives items back in the order of their numbers, whatever the order in which they come."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, Item] = {}

    def add(self, items: Iterable[tuple[int, Item]]) -> list[Item]:
        """Take numbered items and return those that are next in line."""
        self._waiting.update(items)
        ready: list[Item] = []
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next += 1
        return ready


class Pace:
    """Documents per second over a sliding window of readings of a counter."""

    def __init__(self, window: timedelta) -> None:
        self._window = window.total_seconds()
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, now: float, count: int) -> float:
        """Add a reading (seconds of any clock) and return the rate; 0 until there are two of them."""
        if self._readings and count < self._readings[-1][1]:
            self._readings.clear()
        self._readings.append((now, count))
        while len(self._readings) > 2 and self._readings[1][0] <= now - self._window:
            self._readings.popleft()
        since, before = self._readings[0]
        return (count - before) / (now - since) if now > since else 0.0


def bottleneck(shards: Iterable[Mapping[str, float]]) -> str | None:
    """Return the stage that was busy for the largest share of its time over all shards, None if none was."""
    busy = dict.fromkeys(STAGES, 0.0)
    count = 0
    for shard in shards:
        count += 1
        for stage in STAGES:
            busy[stage] += shard.get(stage, 0.0)
    slowest = max(STAGES, key=busy.__getitem__)
    return slowest if count and busy[slowest] / count >= _BUSY else None
