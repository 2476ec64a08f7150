"""The row that says which routing gateways accepted, as the store of the simulated index keeps it.

It outlives every gateway. As in the store's own functions, an epoch that is lower than the row's or the same changes
nothing, and the newest members of one panel are never followed by older ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from reembed.core.acceptance import Accepted
from reembed.core.model import PointerPlan
from reembed.stores.protocol import StoreError
from tests.sim.api_server import Object


class Rows:
    """The rows by UID of the index."""

    def __init__(self, away: Callable[[], bool], pointer: Callable[[], Object | None]) -> None:
        self._away = away
        self._pointer = pointer
        self.rows: dict[str, Accepted] = {}

    def seen_by(self, chance: Random) -> Connection:
        """Return one gateway's connection."""
        return Connection(self, chance)

    def accept(self, uid: str, wanted: Accepted) -> Accepted:
        row = self.rows.get(uid)
        if row is None or row.routing.epoch < wanted.routing.epoch:
            newest = max(row.version, wanted.version) if row and row.anchor == wanted.anchor else wanted.version
            self.rows[uid] = row = replace(wanted, version=newest)
        return row

    def pointer(self) -> PointerPlan | None:
        found: Any = self._pointer()
        return PointerPlan(found["collection"], found["fingerprint"], found["generation"]) if found else None

    @property
    def away(self) -> bool:
        return self._away()


class Connection:
    """What `gateway.accepting` asks of a store; each request takes a moment, and fails while the database is away."""

    def __init__(self, rows: Rows, chance: Random) -> None:
        self._rows = rows
        self._chance = chance

    async def accepted(self, uid: str) -> tuple[Accepted | None, PointerPlan | None]:
        await self._way()
        return self._rows.rows.get(uid), self._rows.pointer()

    async def accept(self, uid: str, wanted: Accepted) -> Accepted:
        await self._way()
        return self._rows.accept(uid, wanted)

    async def _way(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.002, 0.05))
        if self._rows.away:
            raise StoreError("the database does not answer")
