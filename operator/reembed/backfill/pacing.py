"""When the pipeline may send its next request: as `core.throttle` says, by what the pod measured since it last asked.

The pipeline tells how long each commit took; p95 of callers' queries comes from whoever watches them (`queries.py`), or
from nobody. Requests are let in one after the other, since the pipeline takes its batches so.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable

from reembed.backfill.metrics import Metrics
from reembed.core.throttle import Reading, Throttle

log = logging.getLogger(__name__)

Queries = Callable[[], float | None]

# Shorter spans say little, and what was decided must have had its effect before it is judged.
_JUDGE_SECONDS = 1.0
# A rest is for the others' sake; it must not look like a pod that hangs.
_LONGEST_REST = 30.0


class Pacing:
    """The requests of one pipeline that are under way. It belongs to one event loop."""

    def __init__(self, metrics: Metrics, queries: Queries, clock: Callable[[], float] = time.monotonic) -> None:
        self._throttle = Throttle()
        self._metrics = metrics
        self._queries = queries
        self._clock = clock
        self._under_way = 0
        self._ended = asyncio.Event()
        self._not_before = clock()
        self._judged = clock()
        self._commits: list[float] = []
        metrics.requests_limit.set(self._throttle.limit)

    @property
    def throttled_by(self) -> str | None:
        """Return what suffered when it was last looked at."""
        return self._throttle.by

    @property
    def limit(self) -> float:
        """Return how many requests may be under way; below one there are rests between them."""
        return self._throttle.limit

    async def begin(self) -> None:
        """Wait until one more request may be sent. Only one may wait at a time."""
        while self._under_way >= self._throttle.under_way:
            self._ended.clear()
            await self._ended.wait()
        if (rest := self._not_before - self._clock()) > 0:
            await asyncio.sleep(rest)
        self._under_way += 1

    def end(self, seconds: float | None = None) -> None:
        """Say that a request has ended; None where none was sent."""
        self._under_way -= 1
        self._ended.set()
        if seconds is not None:
            self._not_before = self._clock() + min(self._throttle.rest(seconds), _LONGEST_REST)
        self._judge()

    def committed(self, seconds: float) -> None:
        """Say how long the store took for a page."""
        self._commits.append(seconds)
        self._judge()

    def _judge(self) -> None:
        if (spent := self._clock() - self._judged) < _JUDGE_SECONDS:
            return
        before = self._throttle
        commit = statistics.median(self._commits) if self._commits else None
        self._throttle = before.judged(Reading(commit, self._queries(), spent))
        self._judged, self._commits = self._judged + spent, []
        self._metrics.requests_limit.set(self._throttle.limit)
        if before.by is not None:
            self._metrics.throttled_seconds.labels(before.by).inc(spent)
        if self._throttle.by != before.by:
            _tell(self._throttle)


def _tell(now: Throttle) -> None:
    if now.by == "store":
        log.info("commits take much longer than %.3f s, so less is embedded until they do not", now.usual_commit)
    elif now.by == "queries":
        log.info("p95 of queries is well above %.3f s, so less is embedded until it is not", now.usual_queries)
    else:
        log.info("nobody suffers any more; more is embedded again")
