"""What collections and their database take on disk, as PostgreSQL counts it; the store worker's side.

The functions that measure open each table, so they would wait behind whoever drops one: that wait is short, and the
worker measures beside its passes.
"""

from __future__ import annotations

from reembed.core.model import LeftReport
from reembed.stores.pgvector.connection import Pool, transaction
from reembed.stores.protocol import Space

_SECONDS = 30.0
_SIZES = """
SELECT name, state, uid = %s, pg_total_relation_size(to_regclass(format('reembed.%%I', name)))
FROM reembed.collection WHERE index_key = %s ORDER BY created_at, name"""


async def measure(connections: Pool, owner: tuple[str, str]) -> Space:
    """Return the bytes of the index's collections with their indexes, of those left by others, and of all."""
    key, uid = owner
    async with transaction(connections, _SECONDS) as connection:
        rows = await (await connection.execute(_SIZES, [uid, key])).fetchall()
        found = await (await connection.execute("SELECT pg_database_size(current_database())")).fetchone()
    return Space(
        database=int(found[0]) if found else 0,
        collections={name: size for name, _, own, size in rows if own and size is not None},
        left=tuple([LeftReport(name, state, size) for name, state, own, size in rows if not own]),
    )
