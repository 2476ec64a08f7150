"""What callers of the gateways see while a backfill pod works: p95 of their queries, for `pacing.py`.

A gateway's own figures are read, through its Service, since they hold all that a caller waits for: the serving model's
pool, the search in the store, and cores that all of them share with the backfill. The candidate's pool, which the pod
asks, may answer no caller at all. Kept connections lead to the same gateway pod for as long as it lives; another one
is known by when its process began. A gateway that does not answer says nothing, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterator

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from reembed.core import measures
from reembed.core.measures import Counters

log = logging.getLogger(__name__)

_EVERY_SECONDS = 2.0
_SECONDS = 1.5
# With too few answers for a p95 after so long, hardly anybody asks.
_PATIENCE_SECONDS = 20.0
_READ = tuple(name.encode() for name in (f"{measures.ARM_SECONDS}_", measures.PROCESS))


class CallersQueries:
    """p95 of callers' queries since it was last asked for."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/")
        self._clock = clock
        self._since: Counters | None = None
        self._last: Counters | None = None
        self._at = clock()

    async def watch(self) -> None:
        """Read a gateway's figures until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    async with session.get(f"{self._url}/metrics") as response:
                        if response.status == 200:
                            self.saw(await response.read())
                except (aiohttp.ClientError, TimeoutError) as error:
                    log.debug("no gateway answered: %s", type(error).__name__)
                await asyncio.sleep(_EVERY_SECONDS)

    def saw(self, page: bytes) -> None:
        """Take a page of figures."""
        samples = list(_samples(page))
        found = functools.reduce(Counters.plus, measures.counted(samples).values(), Counters())
        process = next((value for name, _, value in samples if name == measures.PROCESS), None)
        self._last = Counters(found.live, process=process)
        if self._since is None or self._since.process != process:
            self._since, self._at = self._last, self._clock()

    def p95(self) -> float | None:
        """Return seconds, 0 where hardly anybody asks, None as long as there is nothing to tell."""
        if self._last is None or self._since is None:
            return None
        slowest = measures.p95(self._last.since(self._since).live.buckets)
        if slowest is None and self._clock() - self._at < _PATIENCE_SECONDS:
            return None
        self._since, self._at = self._last, self._clock()
        return slowest.total_seconds() if slowest is not None else 0.0


def _samples(page: bytes) -> Iterator[measures.Scraped]:
    # Of hundreds of lines a few are read: the parser is slow, and this process has better things to do.
    lines = [line for line in page.split(b"\n") if line.startswith(_READ)]
    for family in text_string_to_metric_families(b"\n".join([*lines, b""]).decode(errors="replace")):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
