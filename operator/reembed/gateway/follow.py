"""Keeps a gateway's routing up to date: a reading every ten seconds, and a watch that tells of changes at once.

Run once per process by the application. Only answered readings prolong the candidate's lease (`lease`); the watch makes
a change arrive in milliseconds instead of seconds. Whatever goes wrong with either ends in the lease running out and
never in an exception: a gateway without the API server serves what served before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from reembed.core.model import Routing
from reembed.gateway.lease import READ_EVERY, Lease, Reading, changed, effective, renewed

# A reading that takes longer than this is given up, so that three of them fit into a lease.
_READ_SECONDS = 8.0
_WATCH_AGAIN = 2.0

_log = logging.getLogger(__name__)


class SourceError(Exception):
    """The index could not be read, or not understood."""


class RoutingSource(Protocol):
    """Where the routing comes from. Both verbs give None where there is no such index."""

    async def read(self) -> Reading | None:
        """Return what the index says, or raise SourceError."""
        ...

    def changes(self) -> AsyncIterator[Reading | None]:
        """Yield each change until the server ends the watch, or raise SourceError."""
        ...


class RoutingInForce:
    """The one place where the routing is held: a single immutable value that each request takes once."""

    def __init__(self) -> None:
        self._lease = Lease()

    @property
    def known(self) -> bool:
        """Whether the index was ever read."""
        return self._lease.answered is not None

    def snapshot(self) -> Routing:
        """Return what a request that starts now has to follow to its end."""
        return effective(self._lease, asyncio.get_running_loop().time())

    def renew(self, reading: Reading | None, asked: float) -> None:
        self._hold(renewed(self._lease, reading, asked))

    def change(self, reading: Reading | None) -> None:
        self._hold(changed(self._lease, reading))

    def _hold(self, lease: Lease) -> None:
        before, self._lease = self._lease, lease
        if lease.routing != before.routing or lease.force_stable != before.force_stable:
            _log.info(
                "routing: epoch %d, serving %s, candidate %s at %d %%%s",
                lease.routing.epoch,
                lease.routing.serving and lease.routing.serving.pool,
                lease.routing.candidate and lease.routing.candidate.pool,
                lease.routing.weight,
                ", held at 0 % by annotation" if lease.force_stable else "",
            )


class Follower:
    """Feeds a RoutingInForce from a RoutingSource until it is cancelled."""

    def __init__(self, source: RoutingSource, held: RoutingInForce) -> None:
        self._source = source
        self._held = held

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_for_ever())
            tasks.create_task(self._watch_for_ever())

    async def _read_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    reading = await self._source.read()
            except (SourceError, TimeoutError) as error:
                _log.warning(
                    "the index was not read: %s; without an answer the candidate's traffic goes back to what serves",
                    error or f"no answer within {_READ_SECONDS:g} s",
                )
            else:
                self._held.renew(reading, asked)
            await asyncio.sleep(asked + READ_EVERY - loop.time())

    async def _watch_for_ever(self) -> None:
        while True:
            try:
                async for reading in self._source.changes():
                    self._held.change(reading)
            except SourceError as error:
                _log.info("the watch of the index ended: %s", error)
            # Also after an orderly end: a server that ends each watch at once must not be asked without a pause.
            await asyncio.sleep(_WATCH_AGAIN)
