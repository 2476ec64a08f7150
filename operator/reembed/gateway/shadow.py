"""Puts a sample of the queries to the other side as well, after they were answered, and compares what both found.

Nobody waits for it and nothing fails by it: at most a few comparisons run at a time, what comes meanwhile is passed
over, embedders are asked at background priority, and whatever goes wrong is counted here and nowhere else. The share is
part of the routing (`shadow`), so that the operator ends it with one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from reembed.core.buckets import shadowed
from reembed.core.model import Arm, Routing
from reembed.gateway.answer import Answer
from reembed.gateway.meter import Meter
from reembed.gateway.queries import Queries
from reembed.stores.protocol import Hit

_AT_ONCE = 4
_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Shadow:
    """The comparisons of one gateway process."""

    def __init__(self, queries: Queries, meter: Meter) -> None:
        self._queries = queries
        self._meter = meter
        self._running: set[asyncio.Task[None]] = set()

    def consider(self, routing: Routing, query: str, k: int, answer: Answer[list[Hit]]) -> None:
        """Compare the answer with the other side's, if the query is one of the sample and there is room."""
        serving, candidate = routing.serving, routing.candidate
        if serving is None or candidate is None or answer.fell_back or not shadowed(query, routing.shadow):
            return
        if len(self._running) >= _AT_ONCE:
            self._meter.shadow(candidate, "passed_over")
            return
        other = candidate if answer.arm == serving else serving
        found = [hit.id for hit in answer.value]
        task = asyncio.create_task(self._compare(candidate, other, query, k, found))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _compare(self, candidate: Arm, other: Arm, query: str, k: int, found: Sequence[str]) -> None:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_SECONDS):
                hits = await self._queries.search(query, k, background=True)(other)
        except Exception as error:  # noqa: BLE001 - whatever breaks here must not be seen by any caller
            self._meter.shadow(candidate, "failed")
            _log.debug("a shadow query to %s failed: %s", other.pool, error)
            return
        seconds = asyncio.get_running_loop().time() - began
        theirs = [hit.id for hit in hits]
        self._meter.compared(candidate, overlap(found, theirs, k), average_overlap(found, theirs, k), seconds)


def overlap(first: Sequence[str], second: Sequence[str], k: int) -> float:
    """Return the share of the first `k` places that both lists fill with the same documents, in whatever order."""
    return len(set(first[:k]) & set(second[:k])) / k


def average_overlap(first: Sequence[str], second: Sequence[str], k: int) -> float:
    """Return the mean overlap over all depths up to `k`, in which early places weigh more.

    Fagin, Kumar and Sivakumar, "Comparing top k lists", 2003.
    """
    return sum(overlap(first, second, depth) for depth in range(1, k + 1)) / k
