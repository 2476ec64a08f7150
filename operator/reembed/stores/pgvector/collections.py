"""Collections: made empty with their shards, looked at, withdrawn, dropped; the store worker's verbs.

A collection, its table and its shards appear in one transaction, so that whoever sees the row sees all of it. The scan
of the source that cuts it into shards comes before that transaction and locks nothing.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from reembed.core.fingerprint import chunking_of
from reembed.core.model import CollectionPlan, IndexSpec, TextSizes
from reembed.core.pages import Range, fractions, ranges
from reembed.stores.pgvector import adopted, rows, tables
from reembed.stores.pgvector.connection import Connection, Pool, transaction, using
from reembed.stores.pgvector.counts import counting
from reembed.stores.pgvector.schema import extension_schema
from reembed.stores.protocol import Held, Source, StoreError

_SCAN_SECONDS = 1800.0
_SECONDS = 15.0
# A shard that stored nothing for so long says nothing about the bottleneck of now.
_STAGES_SECONDS = 15
# From so many documents on shards are cut by a sample of so many ids.
_LARGE = 1_000_000
_SAMPLE = 50_000
# Documents whose lengths are looked at.
_LENGTHS = 10_000

# Part 0 knows how many there are, so that a comparison finds one that is missing by the key's index alone; the others
# are vectors and nothing else.
_PARTS = ", starts integer, ends integer, parts integer, CHECK (part = 0 OR embedding IS NOT NULL)"
_INSERT = """
INSERT INTO reembed.collection
    (name, index_key, uid, fingerprint, dimensions, type, metric, id_type, source, total, cut)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
# A class of length is half as long again as the one before.
_TEXTS = """
SELECT count(*), sum(octet_length(t.text)) FROM {table} s {sample} CROSS JOIN LATERAL {document} t (text, failed)
WHERE octet_length(t.text) > 0 GROUP BY floor(2 * ln(octet_length(t.text)::float8) / ln(2::float8)) ORDER BY 2"""
_HELD = counting("""
       coalesce(jsonb_agg(s.stats) FILTER (
           WHERE NOT s.done AND s.stats <> '{}' AND s.updated_at > now() - make_interval(secs => %s)), '[]'),
       NOT c.maintained OR c.compared_at IS NOT NULL
           AND EXISTS (SELECT FROM reembed.capture k WHERE k.index_key = c.index_key AND k.epoch = c.epoch),
       c.recall, c.m, c.ef_construction, c.maintained""")


async def create(connections: Pool, owner: tuple[str, str], spec: IndexSpec, plan: CollectionPlan) -> None:
    """Make the collection with its shards; nothing happens if it is there. `owner` is the index's key and UID."""
    if plan.adopted:
        async with using(connections, _SECONDS) as connection:
            await _exists(connection, plan)
        await adopted.adopt(connections, owner, spec, plan)
        return
    kind = tables.vector_type(plan.dimensions)
    source = tables.source_of(spec)
    async with using(connections, _SECONDS) as connection:
        if await _exists(connection, plan):
            return
    async with transaction(connections, _SCAN_SECONDS) as connection:
        key = await tables.key_of(connection, source)

    async def read(document: sql.Composable) -> tuple[int, tuple[Range, ...]]:
        async with transaction(connections, _SCAN_SECONDS) as connection:
            return await _cut(connection, source, document, plan.shards)

    total, shards = await rows.each(source, key.type, read)
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [plan.name])
        if await _exists(connection, plan):
            return
        await connection.execute(
            _INSERT,
            [plan.name, *owner, plan.fingerprint, plan.dimensions, kind, spec.metric.value, key.type,
             Jsonb(tables.source_row(source)), total, chunking_of(plan.fingerprint) is not None],
        )  # fmt: skip
        await _create_table(connection, plan, kind, key)
        await connection.execute(
            "INSERT INTO reembed.shard (collection, n, lower, upper, done)"
            " SELECT %s, * FROM unnest(%s::int[], %s::text[], %s::text[], %s::bool[])",
            [plan.name, *map(list, zip(*((n, r.lower, r.upper, r.empty) for n, r in enumerate(shards)), strict=True))],
        )


async def held(connections: Pool, owner: tuple[str, str]) -> tuple[Held, ...]:
    """Return all collections of the index, the oldest first."""
    async with using(connections, _SECONDS) as connection:
        cursor = await connection.execute(_HELD, [_STAGES_SECONDS, *owner])
        return tuple([_held(row) for row in await cursor.fetchall()])


async def documents(connections: Pool, spec: IndexSpec) -> int:
    """Count the source's documents; a row without an id is none."""
    source = tables.source_of(spec)
    async with transaction(connections, _SCAN_SECONDS) as connection:
        key = await tables.key_of(connection, source)

    async def read(document: sql.Composable) -> int:
        async with transaction(connections, _SCAN_SECONDS) as connection:
            return await _count(connection, source, document)

    return await rows.each(source, key.type, read)


async def texts(connections: Pool, spec: IndexSpec, documents: int) -> tuple[TextSizes, ...]:
    """Return how long the texts of so many documents are, by a sample; nothing is read of them but their lengths."""
    source = tables.source_of(spec)
    async with transaction(connections, _SCAN_SECONDS) as connection:
        key = await tables.key_of(connection, source)
    percent = sql.Literal(100.0 * _LENGTHS / documents) if documents > _LENGTHS else None

    async def read(document: sql.Composable) -> tuple[TextSizes, ...]:
        query = sql.SQL(_TEXTS).format(
            table=tables.table(source),
            sample=sql.SQL("") if percent is None else sql.SQL("TABLESAMPLE SYSTEM ({})").format(percent),
            document=document,
        )
        async with transaction(connections, _SCAN_SECONDS) as connection:
            return tuple([TextSizes(*row) for row in await (await connection.execute(query, [])).fetchall()])

    return await rows.each(source, key.type, read)


async def withdraw(connections: Pool, name: str) -> None:
    """Keep the collection and let it answer no more; a search that comes after the commit is refused."""
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(
            "UPDATE reembed.collection SET state = 'Withdrawn' WHERE name = %s AND state <> 'Withdrawn'", [name]
        )
        # Nobody keeps it fresh from here on, so that it can never answer again.
        await connection.execute("DELETE FROM reembed.owed WHERE collection = %s", [name])
        await connection.execute("DELETE FROM reembed.watched WHERE collection = %s", [name])


async def drop(connections: Pool, name: str) -> None:
    """Remove the collection with all that belongs to it, unless the pointer names it."""
    async with transaction(connections, _SECONDS) as connection:
        cursor = await connection.execute("SELECT index_key FROM reembed.pointer WHERE collection = %s", [name])
        if await cursor.fetchone() is not None:
            raise StoreError(f"collection {name} was not dropped: the pointer names it; move the pointer first")
        await connection.execute("DELETE FROM reembed.collection WHERE name = %s", [name])
        await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(tables.collection(name)), [])


def _held(row: tuple[Any, ...]) -> Held:
    shape = (row[12], row[13]) if row[12] is not None else None
    return Held(*(*row[:9], tuple(row[9]), row[10], row[11], shape, row[14]))


async def _exists(connection: Connection, plan: CollectionPlan) -> bool:
    cursor = await connection.execute("SELECT fingerprint FROM reembed.collection WHERE name = %s", [plan.name])
    row = await cursor.fetchone()
    if row is None or row == (plan.fingerprint,):
        return row is not None
    raise StoreError(
        f"collection {plan.name} holds vectors of {row[0]} where the plan says {plan.fingerprint}; it was left alone: "
        "a collection is filled by one model only, so the migration needs a new attempt"
    )


async def _count(connection: Connection, source: Source, document: sql.Composable) -> int:
    counted = sql.SQL("SELECT count(s.{}) FROM {}").format(
        tables.identifier(source.id_column), rows.documents(source, document)
    )
    row = await (await connection.execute(counted, [])).fetchone()
    return int(row[0]) if row else 0


async def _cut(
    connection: Connection, source: Source, document: sql.Composable, shards: int
) -> tuple[int, tuple[Range, ...]]:
    """Return the number of documents and the shards, about equally large.

    To order all ids of a large table takes long and spills to its disk; the boundaries of a sample are good enough,
    since a pod that is done with its shard takes the next one.
    """
    column, total = tables.identifier(source.id_column), await _count(connection, source, document)
    boundaries = None
    if total >= _LARGE and await _can_be_sampled(connection, source):
        sample = rows.documents(source, document, sql.Literal(min(100.0, 100.0 * _SAMPLE / total)))
        boundaries = await _boundaries(connection, column, sample, shards, least=min(_SAMPLE, total) // 2)
    if boundaries is None:
        boundaries = await _boundaries(connection, column, rows.documents(source, document), shards)
    return total, ranges(boundaries or [], shards)


async def _can_be_sampled(connection: Connection, source: Source) -> bool:
    """Return whether it is a table or a materialized view; of a view PostgreSQL takes no sample."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm', 'p'))",
        [source.schema, source.table],
    )
    return await cursor.fetchone() == (True,)


async def _boundaries(
    connection: Connection, column: sql.Composable, documents: sql.Composable, shards: int, least: int = 0
) -> list[str] | None:
    """Return the ids at which shards end; None if they come of fewer than `least` ids."""
    query = sql.SQL(
        "SELECT count(s.{0}), (percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY s.{0}))::text[] FROM {1}"
    ).format(column, documents)
    row = await (await connection.execute(query, [list(fractions(shards))])).fetchone()
    count, found = row or (0, None)
    return [one for one in found or [] if one is not None] if count >= least else None


async def _create_table(connection: Connection, plan: CollectionPlan, kind: str, key: tables.Key) -> None:
    collation = sql.SQL("COLLATE {}").format(tables.written(key.collation)) if key.collation else sql.SQL("")
    await connection.execute(
        sql.SQL(
            # No embedding is a tombstone: the document was deleted, and a late page must not bring it back.
            "CREATE TABLE {table} (id {type} {collation} NOT NULL, part integer NOT NULL DEFAULT 0,"
            " rev bigint NOT NULL DEFAULT 0, text_hash bytea, embedding {extension}.{kind}({dimensions}){span},"
            " PRIMARY KEY (id, part))"
        ).format(
            table=tables.collection(plan.name),
            type=tables.written(key.type),
            collation=collation,
            extension=tables.identifier(await extension_schema(connection)),
            kind=tables.identifier(kind),
            dimensions=sql.Literal(plan.dimensions),
            span=sql.SQL("" if chunking_of(plan.fingerprint) is None else _PARTS),
        ),
        [],
    )
