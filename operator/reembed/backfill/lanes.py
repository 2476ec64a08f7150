"""A bounded queue between two stages of the pipeline: it keeps memory flat and shows who waits for whom.

Items weigh, so that a few large documents fill a lane as well as many small ones. Takers get several items at once and
say how many they want when they see them. A lane belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lane(Generic[Item]):
    """Items in order, up to a limit; a single item above the limit passes through an empty lane."""

    def __init__(self, limit: int, weigh: Callable[[Item], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._items: deque[Item] = deque()
        self._weight = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._freed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def weight(self) -> int:
        """Return what all items weigh."""
        return self._weight

    async def put(self, items: Sequence[Item]) -> None:
        """Add items one by one, waiting for room."""
        for item in items:
            weight = self._weigh(item)
            while self._items and self._weight + weight > self._limit:
                self._freed.clear()
                await self._freed.wait()
            self._items.append(item)
            self._weight += weight
            self._filled.set()

    async def take(self, most: int, choose: Callable[[Sequence[Item]], int] = len) -> list[Item]:
        """Return the first items, as many of the first `most` as `choose` says; none once all is taken and closed."""
        while not self._items:
            if self._closed:
                return []
            self._filled.clear()
            await self._filled.wait()
        offered = list(islice(self._items, most))
        taken = [self._items.popleft() for _ in range(choose(offered))]
        self._weight -= sum([self._weigh(item) for item in taken])
        self._freed.set()
        return taken

    def close(self) -> None:
        """Say that nothing more comes."""
        self._closed = True
        self._filled.set()


class Room:
    """So many documents may be under way; who finds no room waits. One waits at a time."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._freed = asyncio.Event()

    async def take(self, count: int) -> None:
        while self._left < count:
            self._freed.clear()
            await self._freed.wait()
        self._left -= count

    def give(self, count: int) -> None:
        self._left += count
        self._freed.set()
