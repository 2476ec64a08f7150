"""Source and collection compared in SQL, page by page: what no trigger saw, and what a restored backup brought back.

One statement looks at a range of ids in both tables, in the marks of the triggers and in the collection's debts, all of
one snapshot. A change and its mark are one transaction, a mark becomes a debt in one, and a debt is cleared in the one
that stores the vector: so whatever differs without a mark or a debt was missed, exactly, however busy the writers are.
It is owed from then on, with the revision that the collection's row has: a new one could be above that of a change that
is not committed yet, whose vector would be thrown away. A row whose expression fails has no text here: it is stale
while the collection has a vector of it, and missing unless it is rejected. Both ends of a page are conditions of the
key's index (`till` is the last id of the collection behind the source's last page): a page reads its own ids alone.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from reembed.stores.pgvector import rows, tables
from reembed.stores.pgvector.connection import Pool, transaction, using
from reembed.stores.protocol import Differences, Source, StoreError

_SECONDS = 120.0

_COMPARE = """
WITH page AS MATERIALIZED (
    SELECT s.{id} AS id, t.text FROM {table} s CROSS JOIN LATERAL {document} t (text, failed)
    WHERE s.{id} IS NOT NULL AND {source_after} ORDER BY s.{id} LIMIT %(limit)s
), bounds AS MATERIALIZED (
    SELECT count(*) AS n, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS upper FROM page
), till AS MATERIALIZED (
    SELECT CASE WHEN b.n >= %(limit)s THEN b.upper
                ELSE (SELECT c.id FROM {collection} c ORDER BY c.id DESC LIMIT 1) END AS id FROM bounds b
), others AS MATERIALIZED (
    {others}
), held AS MATERIALIZED (
    SELECT c.id, c.rev, c.text_hash, c.embedding IS NOT NULL AS there,
           (coalesce(o.n, 0), coalesce(o.last, 0)) IS NOT DISTINCT FROM ({parts} - 1, {parts} - 1) AS whole
    FROM {collection} c LEFT JOIN others o ON o.id = c.id
    WHERE c.part = 0 AND {collection_after} AND c.id <= (SELECT t.id FROM till t)
), differing AS (
    SELECT coalesce(p.id, h.id)::text AS id, coalesce(h.rev, 0) AS rev, CASE
        WHEN p.id IS NULL THEN CASE WHEN h.there THEN 'orphaned' END
        WHEN h.there THEN CASE WHEN NOT h.whole
            OR h.text_hash IS DISTINCT FROM substring(sha256(convert_to(p.text, 'UTF8')) FOR 16) THEN 'stale' END
        WHEN NOT EXISTS (SELECT FROM reembed.rejected r WHERE r.collection = %(name)s AND r.id = p.id::text)
            THEN 'missing' END AS kind
    FROM page p FULL JOIN held h ON h.id = p.id
    UNION ALL SELECT o.id::text, coalesce(h.rev, 0), 'orphaned' FROM others o LEFT JOIN held h ON h.id = o.id
    WHERE h.there IS NOT TRUE
), found AS (
    SELECT d.id, d.rev, d.kind FROM differing d
    WHERE d.kind IS NOT NULL
      AND NOT EXISTS (SELECT FROM reembed.owed o WHERE o.collection = %(name)s AND o.id = d.id)
      AND NOT EXISTS (SELECT FROM reembed.dirty m WHERE m.index_key = %(key)s AND (m.id = d.id OR m.id IS NULL))
), owing AS (
    INSERT INTO reembed.owed AS o (collection, id, rev, at)
    SELECT c.name, f.id, f.rev, clock_timestamp() FROM found f CROSS JOIN (SELECT name FROM reembed.collection
        WHERE name = %(name)s AND state IN ('Filling', 'Indexed') FOR SHARE) c ORDER BY f.id
    ON CONFLICT (collection, id) DO NOTHING
)
SELECT count(*) FILTER (WHERE kind = 'missing'), count(*) FILTER (WHERE kind = 'stale'),
       count(*) FILTER (WHERE kind = 'orphaned'),
       (SELECT CASE WHEN n >= %(limit)s THEN upper::text END FROM bounds)
FROM found"""
# Parts without a first one that has a vector are what a search would find of a document that is gone; a document whose
# parts are not as many as its first one says is stale. The key's index has all that is needed of them.
_OTHERS = """
    SELECT c.id, count(*)::integer AS n, max(c.part) AS last FROM {collection} c
    WHERE c.part > 0 AND {collection_after} AND c.id <= (SELECT t.id FROM till t) GROUP BY c.id"""
_NO_OTHERS = "SELECT NULL::{type} AS id, 0 AS n, 0 AS last WHERE false"
_RECORD = """
UPDATE reembed.collection SET epoch = %s, compared_at = now(), missing = %s, stale = %s, orphaned = %s
WHERE name = %s"""


async def compare(
    connections: Pool, key: str, name: str, after: str | None, limit: int
) -> tuple[Differences, str | None]:
    """Compare up to `limit` documents behind the id `after`, and owe what differs without being owed.

    Returns what was found and the last id, None once the end was reached.
    """
    async with using(connections, _SECONDS) as connection:
        row = await (
            await connection.execute("SELECT source, id_type, cut FROM reembed.collection WHERE name = %s", [name])
        ).fetchone()
    if row is None:
        raise StoreError(f"collection {name} was dropped, so it was not compared with its source")
    source, id_type = tables.source_from(row[0]), row[1]

    async def read(document: sql.Composable) -> Any:
        query = _query(name, source, id_type, document, first=after is None, is_cut=row[2])
        async with transaction(connections, _SECONDS) as connection:
            given = {"after": after, "limit": limit, "name": name, "key": key}
            return await (await connection.execute(query, given)).fetchone()

    missing, stale, orphaned, last = await rows.each(source, id_type, read)
    return Differences(missing, stale, orphaned), last


async def record(connections: Pool, name: str, epoch: int, found: Differences) -> None:
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(_RECORD, [epoch, found.missing, found.stale, found.orphaned, name])


async def epoch(connections: Pool, key: str) -> int:
    async with transaction(connections, _SECONDS) as connection:
        cursor = await connection.execute("SELECT epoch FROM reembed.capture WHERE index_key = %s", [key])
        row = await cursor.fetchone()
        return int(row[0]) if row else 0


def _query(
    name: str, source: Source, id_type: str, document: sql.Composable, *, first: bool, is_cut: bool
) -> sql.Composed:
    column, kind = tables.identifier(source.id_column), tables.written(id_type)
    behind = sql.SQL("true") if first else sql.SQL("{}.{} > %(after)s::{}")
    collection_after = behind.format(sql.SQL("c"), sql.SQL("id"), kind)
    others = sql.SQL(_OTHERS if is_cut else _NO_OTHERS).format(
        collection=tables.collection(name), collection_after=collection_after, type=kind
    )
    return sql.SQL(_COMPARE).format(
        id=column,
        document=document,
        table=tables.table(source),
        collection=tables.collection(name),
        source_after=behind.format(sql.SQL("s"), column, kind),
        collection_after=collection_after,
        others=others,
        parts=sql.SQL("c.parts" if is_cut else "1"),
    )
