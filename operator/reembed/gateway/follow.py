"""Keeps a gateway's routing up to date: a reading every ten seconds, and a watch that tells of changes at once.

Run once per process by the application. Only answered readings prolong the candidate's lease (`lease`); the watch makes
a change arrive in milliseconds instead of seconds. Whatever goes wrong with either ends in the lease running out and
never in an exception: a gateway without the API server serves what served before. The same holds for the operator's
Lease, where the gateway was told of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from reembed.cluster.client import ClusterError
from reembed.core.leading import Record
from reembed.gateway.accepting import Accepting
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.lease import READ_EVERY, Leader, Reading, leaderless, seen

# A reading that takes longer than this is given up, so that three of them fit into a lease.
_READ_SECONDS = 8.0
_WATCH_AGAIN = 2.0
# Until the operator's Lease was seen to change, it is looked at this often; its holder renews it every two seconds.
_LOOK_AGAIN = 2.5

_BACK = "a candidate's traffic goes back to what serves"

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


class LeaderLease(Protocol):
    """The operator's Lease; `cluster.lease` has the real one."""

    async def read(self) -> Record | None:
        """Return what it says, None if there is none, or raise ClusterError."""
        ...


class Follower:
    """Feeds a RoutingInForce from a RoutingSource, and from the operator's Lease if there is one, until cancelled."""

    def __init__(
        self, source: RoutingSource, held: RoutingInForce, accepting: Accepting, leader: LeaderLease | None = None
    ) -> None:
        self._source = source
        self._held = held
        self._accepting = accepting
        self._leader = leader

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._accepting.run())
            if self._leader is not None:
                self._held.lead(Leader())
                tasks.create_task(self._look_for_ever(self._leader))
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
                await self._accepting.renew(reading, asked)
            await asyncio.sleep(asked + READ_EVERY - loop.time())

    async def _look_for_ever(self, lease: LeaderLease) -> None:
        loop = asyncio.get_running_loop()
        leader = Leader()
        while True:
            asked = loop.time()
            was = leaderless(leader, asked)
            leader = await self._look(lease, leader, asked)
            self._held.lead(leader)
            if leaderless(leader, loop.time()) != was:
                _log.warning("an operator leads" if was else f"no operator has led for two minutes: {_BACK}")
            await asyncio.sleep(asked + (READ_EVERY if leader.changed is not None else _LOOK_AGAIN) - loop.time())

    async def _look(self, lease: LeaderLease, leader: Leader, asked: float) -> Leader:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                record = await lease.read()
        except (ClusterError, TimeoutError) as error:
            text = "the operator's lease %s was not read: %s; if that lasts for two minutes, %s"
            _log.warning(text, lease, error or "no answer", _BACK)
            return leader
        # From when it was asked: the answer may have been under way for long.
        return seen(leader, record.version if record is not None else None, asked)

    async def _watch_for_ever(self) -> None:
        while True:
            try:
                async for reading in self._source.changes():
                    await self._accepting.change(reading)
            except SourceError as error:
                _log.info("the watch of the index ended: %s", error)
            # Also after an orderly end: a server that ends each watch at once must not be asked without a pause.
            await asyncio.sleep(_WATCH_AGAIN)
