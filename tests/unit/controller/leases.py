"""A Lease in memory, written by compare-and-set, and the way of one replica to it, with faults to inject."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from reembed.cluster.client import ClusterError, Conflict
from reembed.core.leading import Record


class MemoryLease:
    """What the API server holds."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self._version = 0

    def swap(self, wanted: Record, before: Record | None) -> Record:
        if before != self.record:
            raise Conflict(409, "the API server answered 409: the object has been modified")
        self._version += 1
        self.record = replace(wanted, version=str(self._version))
        return self.record

    def delete(self) -> None:
        self.record = None


class Line:
    """One replica's connection: `cut` loses requests, `hanging` never answers, `deaf` loses the answers alone."""

    def __init__(self, lease: MemoryLease) -> None:
        self._lease = lease
        self.fault = ""
        self.seconds = 0.01  # from the server's answer to its arrival

    def __str__(self) -> str:
        return "system/reembed-operator"

    async def read(self) -> Record | None:
        await self._request()
        return self._lease.record

    async def write(self, wanted: Record, before: Record | None) -> Record:
        await self._request()
        if self._lease.record is None and before is not None:
            raise ClusterError(404, "the API server answered 404: not found")
        written = self._lease.swap(wanted, before)
        if self.fault == "deaf":
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        return written

    async def _request(self) -> None:
        if self.fault == "cut":
            raise ClusterError(0, "connection refused")
        if self.fault == "hanging":
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
