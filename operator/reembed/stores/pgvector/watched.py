"""Whether an application still keeps its own column of vectors fresh: the documents by which that is looked at.

`changes` notes documents whose text the application changed, a few at a time, since all of a large update would be too
many to look at and the newest alone would never be old enough. `look` returns those that changed some time ago with
what the column holds of them now; where there is none, a few rows by chance. It writes nothing of the application's,
and reads a bounded number of rows however large the table is.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from reembed.stores.pgvector import rows, sampling, tables
from reembed.stores.pgvector.connection import Pool, transaction
from reembed.stores.pgvector.shape import Shape
from reembed.stores.protocol import Watched, Watching

ROOM = 200  # documents of a collection that are noted; half of them have had their time
AT_ONCE = 20  # of one transaction of marks, so that a burst does not fill the room with what is too young
_BY_CHANCE = 1000  # rows, or so, of which a few are taken
_SECONDS = 30.0

_CHANGED = """
SELECT w.id, t.text, s.{column}::text FROM (
    SELECT id, at FROM reembed.watched
    WHERE collection = %(name)s AND at <= clock_timestamp() - make_interval(secs => %(grace)s)
    ORDER BY at DESC, id LIMIT %(room)s
) w JOIN {table} s ON s.{id} = w.id::{type} CROSS JOIN LATERAL {document} t (text, failed)
WHERE {readable} ORDER BY w.at DESC, w.id LIMIT %(count)s"""
_ANY = """
SELECT s.{id}::text, t.text, s.{column}::text FROM {sample} CROSS JOIN LATERAL {document} t (text, failed)
WHERE {readable} ORDER BY random() LIMIT %(count)s"""
# Of those that have had their time the newest are kept: what comes next finds room.
_FORGET = """
DELETE FROM reembed.watched w USING (
    SELECT id, at FROM reembed.watched
    WHERE collection = %(name)s AND at <= clock_timestamp() - make_interval(secs => %(grace)s)
    ORDER BY at DESC, id OFFSET %(kept)s
) old WHERE w.collection = %(name)s AND w.id = old.id AND w.at = old.at"""


async def look(connections: Pool, shape: Shape, grace: float, count: int) -> Watching:
    """Return up to `count` documents with a text, and what the column holds of each.

    They are those that changed more than `grace` seconds ago, the newest first, or any if there is none.
    """
    source = tables.source_from(shape.source)
    given = {"name": shape.name, "grace": grace, "room": ROOM, "kept": ROOM // 2, "count": count}
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(_FORGET, given)

    async def changed(document: sql.Composable) -> list[Watched]:
        async with transaction(connections, _SECONDS) as connection:
            query = sql.SQL(_CHANGED).format(**_parts(shape), document=document)
            return _watched(await (await connection.execute(query, given)).fetchall())

    async def by_chance(document: sql.Composable) -> list[Watched]:
        async with transaction(connections, _SECONDS) as connection:
            sample = await sampling.few(connection, (source.schema, source.table), "s", _BY_CHANCE)
            query = sql.SQL(_ANY).format(**_parts(shape), document=document, sample=sample)
            return _watched(await (await connection.execute(query, given)).fetchall())

    found = await rows.each(source, shape.id_type, changed)
    if found:
        return Watching(tuple(found), changed=True)
    return Watching(tuple(await rows.each(source, shape.id_type, by_chance)), changed=False)


def _parts(shape: Shape) -> dict[str, sql.Composable]:
    source = tables.source_from(shape.source)
    return {
        "type": tables.written(shape.id_type),
        "table": tables.table(source),
        "id": tables.identifier(source.id_column),
        "column": tables.identifier(shape.adopted or ""),
        "readable": sampling.readable(),
    }


def _watched(found: list[Any]) -> list[Watched]:
    return [Watched(one, text, sampling.parsed(vector) if vector is not None else None) for one, text, vector in found]
