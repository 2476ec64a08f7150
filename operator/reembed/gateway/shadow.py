"""Puts a sample of the queries to the other side as well, after they were answered, and compares what both found.

Nobody waits for it and nothing fails by it. It begins when the answer has left; a few comparisons run at a time, and
what comes meanwhile is passed over; embedders are asked at background priority, the store only in places that no caller
needs; and whatever goes wrong is counted here and nowhere else: neither an arm's counters nor the guard's hear of it.
The share is part of the routing (`shadow`), so that the operator ends it with one write, which what is under way obeys,
too. A query whose arm failed is not compared: its caller's error was counted, and the arm has work enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from starlette.background import BackgroundTask

from reembed.client import EmbedderBusy
from reembed.core.buckets import shadowed
from reembed.core.model import Arm, Routing
from reembed.gateway.answer import Answer
from reembed.gateway.meter import Fate, Meter, Sides
from reembed.gateway.patience import Patience
from reembed.gateway.queries import Crowded, Queries
from reembed.gateway.requests import SearchRequest
from reembed.stores.protocol import Hit

_AT_ONCE = 4
_SECONDS = 10.0
# While comparisons run, the routing in force is looked at so often.
_LOOK_EVERY = 0.2

_log = logging.getLogger(__name__)


class Shadow:
    """The comparisons of one gateway process; `in_force` gives the routing as it is now."""

    def __init__(self, queries: Queries, meter: Meter, in_force: Callable[[], Routing]) -> None:
        self._queries = queries
        self._meter = meter
        self._in_force = in_force
        self._patience = Patience()
        self._running: dict[asyncio.Task[None], Sides] = {}
        self._watching: asyncio.Task[None] | None = None

    def after(
        self, routing: Routing, caller_key: str, asked: SearchRequest, answer: Answer[list[Hit]]
    ) -> BackgroundTask | None:
        """Return what has to be done when the answer has left, None if the query is not of the sample."""
        if answer.fell_back or not shadowed(routing, caller_key, asked.query):
            return None
        return BackgroundTask(self._begin, routing, asked, answer)

    async def close(self) -> None:
        tasks = [*self._running, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, routing: Routing, asked: SearchRequest, answer: Answer[list[Hit]]) -> None:
        """Start the comparison if there is room; a coroutine so that it runs in the event loop, not in a thread."""
        sides = Sides.of(routing)
        if sides is None:
            return
        if len(self._running) >= _AT_ONCE:
            self._meter.shadow(sides, Fate.PASSED_OVER)
            return
        other = sides.candidate if answer.arm == sides.serving else sides.serving
        task = asyncio.create_task(self._run(sides, other, asked, [hit.id for hit in answer.value]))
        self._running[task] = sides
        task.add_done_callback(self._running.pop)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Stop what the routing does not ask for any more, for as long as anything runs."""
        while self._running:
            await asyncio.sleep(_LOOK_EVERY)
            routing = self._in_force()
            wanted = Sides.of(routing) if routing.shadow else None
            for task, sides in self._running.items():
                if sides != wanted:
                    task.cancel()

    async def _run(self, sides: Sides, other: Arm, asked: SearchRequest, found: Sequence[str]) -> None:
        try:
            await self._compare(sides, other, asked, found)
        except asyncio.CancelledError:
            self._meter.shadow(sides, Fate.STOPPED)
            raise
        except (Crowded, EmbedderBusy):
            self._meter.shadow(sides, Fate.PASSED_OVER)
        except Exception as error:  # noqa: BLE001 - whatever breaks here must not be seen by any caller
            self._meter.shadow(sides, Fate.FAILED)
            _log.debug("a shadow query to %s failed: %s", other.pool, error)

    async def _compare(self, sides: Sides, other: Arm, asked: SearchRequest, found: Sequence[str]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        work = self._queries.search(asked.query, asked.k, asked.within, background=True)
        hits = await self._patience.wait(work(other), _SECONDS)
        theirs = [hit.id for hit in hits]
        overlap, rank = overlap_at(asked.k, found, theirs), average_overlap(asked.k, found, theirs)
        self._meter.compared(sides, other, overlap, rank, clock() - began)


def overlap_at(k: int, first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of the first `k` places that both lists fill with the same documents, in whatever order.

    Where there are fewer documents than `k`, the places are those of the longer list: two lists of all three documents
    agree wholly. Two empty lists do, too.
    """
    places = min(k, max(len(first), len(second)))
    return len(set(first[:places]) & set(second[:places])) / places if places else 1.0


def average_overlap(k: int, first: Sequence[str], second: Sequence[str]) -> float:
    """Return the mean overlap over all depths up to `k`, in which early places weigh more: how alike the orders are.

    It is defined for lists that share only some documents, where Kendall's tau is not: one minus the intersection
    metric of Fagin, Kumar and Sivakumar, "Comparing top k lists", 2003; the name is from Webber, Moffat and Zobel, "A
    similarity measure for indefinite rankings", 2010. It is 0 for lists without a common document, not for unrelated
    orders of the same ones.
    """
    depths = min(k, max(len(first), len(second)))
    ours: set[str] = set()
    theirs: set[str] = set()
    total = 0.0
    for depth in range(1, depths + 1):
        ours.update(first[depth - 1 : depth])
        theirs.update(second[depth - 1 : depth])
        total += len(ours & theirs) / depth
    return total / depths if depths else 1.0
