"""The pointer of an index: which collection, of which fingerprint, answers whoever asks the store; one row.

It moves by compare-and-set on its generation, which only grows: a worker that acts on an old plan cannot move it back.
It never names a collection that does not answer.
"""

from __future__ import annotations

from reembed.core.model import PointerPlan
from reembed.stores.pgvector import capture
from reembed.stores.pgvector.connection import Connection, Pool, transaction, using

_SECONDS = 15.0
_MOVE = """
INSERT INTO reembed.pointer (index_key, collection, fingerprint, generation)
SELECT c.index_key, c.name, c.fingerprint, %s FROM reembed.collection c
WHERE c.index_key = %s AND c.uid = %s AND c.name = %s AND c.fingerprint = %s AND c.state = 'Indexed'
ON CONFLICT (index_key) DO UPDATE
SET collection = excluded.collection, fingerprint = excluded.fingerprint, generation = excluded.generation
WHERE pointer.generation < excluded.generation"""
_RELEASE = (
    "UPDATE reembed.collection SET state = 'Withdrawn' WHERE index_key = %(key)s",
    "DELETE FROM reembed.owed o USING reembed.collection c WHERE c.name = o.collection AND c.index_key = %(key)s",
    "DELETE FROM reembed.watched w USING reembed.collection c WHERE c.name = w.collection AND c.index_key = %(key)s",
    "DELETE FROM reembed.pointer WHERE index_key = %(key)s",
    "DELETE FROM reembed.evaluation WHERE index_key = %(key)s",
    "DELETE FROM reembed.accepted WHERE index_key = %(key)s",
    "DELETE FROM reembed.claim WHERE index_key = %(key)s",
)


async def current(connections: Pool, index_key: str) -> PointerPlan | None:
    async with using(connections, _SECONDS) as connection:
        cursor = await connection.execute(
            "SELECT collection, fingerprint, generation FROM reembed.pointer WHERE index_key = %s", [index_key]
        )
        row = await cursor.fetchone()
        return PointerPlan(*row) if row else None


async def move(connections: Pool, owner: tuple[str, str], plan: PointerPlan) -> None:
    """Move the pointer unless its generation is this one or a later one, or the collection does not answer."""
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(_MOVE, [plan.generation, *owner, plan.collection, plan.fingerprint])


async def claim(connections: Pool, owner: tuple[str, str]) -> None:
    """Say that the rows of this index_key are this UID's; who holds it already keeps it."""
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(
            "INSERT INTO reembed.claim (index_key, uid) VALUES (%s, %s) ON CONFLICT DO NOTHING", list(owner)
        )


async def held_by(connections: Pool, owner: tuple[str, str]) -> bool:
    """Return whether the rows of the index are this UID's."""
    async with using(connections, _SECONDS) as connection:
        return await _holds(connection, *owner)


async def release(connections: Pool, owner: tuple[str, str]) -> None:
    """Forget the index if it is this UID's; its collections stay for who wants to look at them, and answer no more.

    Capture goes first: were the rest gone before it, nobody would know whose triggers they are.
    """
    key, uid = owner
    if await held_by(connections, owner):
        await capture.remove(connections, key)
    async with transaction(connections, _SECONDS) as connection:
        if await _holds(connection, key, uid):
            for statement in _RELEASE:
                await connection.execute(statement, {"key": key})


async def _holds(connection: Connection, key: str, uid: str) -> bool:
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM reembed.claim WHERE index_key = %s AND uid = %s)", [key, uid]
    )
    return await cursor.fetchone() == (True,)
