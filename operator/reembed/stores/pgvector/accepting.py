"""The row that says which routing an index's gateways accepted; only they write it, by functions of the store's own.

The functions keep two promises to whoever may call them: an epoch that is lower than the row's, or the same, changes
nothing, and the newest members of one panel are never followed by older ones. So gateways that race end with one row.
"""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from reembed.api.fields import Fields, InvalidField
from reembed.api.routing import parse_arm, render_arm
from reembed.core.acceptance import Accepted
from reembed.core.model import PointerPlan, Routing
from reembed.stores.pgvector.connection import Pool, using
from reembed.stores.protocol import StoreError

_SECONDS = 5.0
_ACCEPTED = """
SELECT epoch, routing, panel, membership, collection, fingerprint, generation FROM reembed.accepted_of(%s, %s)"""
_ACCEPT = "SELECT epoch, routing, panel, membership FROM reembed.accept(%s, %s, %s, %s, %s, %s)"


async def accepted(connections: Pool, index_key: str, uid: str) -> tuple[Accepted | None, PointerPlan | None]:
    """Return the row of an index, None if there is none yet, and its pointer."""
    async with using(connections, _SECONDS) as connection:
        cursor = await connection.execute(_ACCEPTED, [index_key, uid])
        row = await cursor.fetchone()
    if row is None:
        return None, None
    *first, collection, fingerprint, generation = row
    pointer = None if collection is None else PointerPlan(collection, fingerprint, generation)
    return None if first[0] is None else _parsed(*first), pointer


async def accept(connections: Pool, index_key: str, uid: str, wanted: Accepted) -> Accepted:
    """Write `wanted` over a row of a lower epoch, and return the row as it is then."""
    routing = wanted.routing
    sides = {"serving": render_arm(routing.serving), "candidate": render_arm(routing.candidate)}
    given = Jsonb({"weight": routing.weight, **sides})
    async with using(connections, _SECONDS) as connection:
        cursor = await connection.execute(
            _ACCEPT, [index_key, uid, routing.epoch, given, wanted.anchor, wanted.version]
        )
        row = await cursor.fetchone()
    if row is None:
        raise StoreError("what gateways accepted was deleted in the moment in which it was written; it is tried again")
    return _parsed(*row)


def _parsed(epoch: int, routing: Any, panel: str, membership: int) -> Accepted:
    try:
        fields = Fields(routing, "routing")
        sides = parse_arm(fields.maybe("serving")), parse_arm(fields.maybe("candidate"))
        return Accepted(Routing(epoch, *sides, fields.number("weight")), panel, membership)
    except InvalidField as error:
        raise StoreError(
            f"the row of reembed.accepted cannot be understood: {error}; was it written by hand?"
        ) from error
