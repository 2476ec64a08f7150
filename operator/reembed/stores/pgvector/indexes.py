"""The vector index of a collection, built once after the load; a collection answers only with a valid one.

A plain CREATE INDEX in one transaction: nobody reads a collection before it answers, and CONCURRENTLY would wait for
every old transaction of the database. Where the server's shared memory is too small for parallel workers (containers
often have 64 MiB of it) the build is repeated without them. A collection answers once what its index finds is
measured and recorded; how far it is meanwhile, PostgreSQL says.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql
from psycopg.errors import Error

from reembed.core.model import BuildReport, Problem, VectorIndex
from reembed.stores.pgvector import recall, tables
from reembed.stores.pgvector.connection import Connection, Pool, transaction, using
from reembed.stores.pgvector.schema import extension_schema
from reembed.stores.protocol import StoreBusy, StoreError, StoreUnavailable, Unfit

_BUILD_SECONDS = 24 * 3600.0
_SECONDS = 15.0
# HNSW builds in memory as long as the graph fits and is many times slower after. A row needs its vector twice over
# and some 300 bytes of links where m is 16.
_ROW_BYTES = 100
_LINK_BYTES = 12
_MEMORY_FLOOR = 64 << 20
# A server's memory is not known from here. What somebody set as maintenance_work_mem is the most; else shared_buffers,
# which by custom is a quarter of the memory, tells, unless it is what initdb writes and nobody thought of.
_MOST_MEMORY = 8 << 30
_UNTUNED = 128 << 20
_UNTUNED_MEMORY = 256 << 20

_READY = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'reembed' AND c.relname = %s AND i.indisvalid AND i.indisready)"""


# Vectors of a collection that is cut are more than its documents, by which it is counted.
_BUILDING = """
SELECT c.relname, p.phase, p.blocks_done, p.blocks_total, CASE WHEN NOT k.cut THEN p.tuples_done END
FROM pg_stat_progress_create_index p JOIN pg_class c ON c.oid = p.relid JOIN reembed.collection k ON k.name = c.relname
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'reembed'
WHERE p.datname = current_database()"""
_LIMITS = """
SELECT m.setting::bigint * 1024, m.source, b.setting::bigint * 8192
FROM pg_settings m, pg_settings b WHERE m.name = 'maintenance_work_mem' AND b.name = 'shared_buffers'"""
_DISCARD = """
UPDATE reembed.collection c SET state = 'Filling', recall = NULL, recall_queries = NULL, recall_at = NULL
WHERE name = %s AND state = 'Indexed' AND NOT EXISTS (SELECT FROM reembed.pointer p WHERE p.collection = c.name)
RETURNING name"""


async def build(connections: Pool, name: str, shape: VectorIndex) -> None:
    """Build the index if there is none, measure what it finds, and let the collection answer."""
    try:
        await _build(connections, name, shape, parallel=True)
    except StoreError as error:
        if not isinstance(error.__cause__, Error) or error.__cause__.sqlstate not in {"53100", "53200"}:
            raise _failed(name, error) from error
        try:
            await _build(connections, name, shape, parallel=False)
        except StoreError as again:
            raise _failed(name, again) from again
    found = await recall.measure(connections, name) if shape.min_recall > 0 else None
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(
            "UPDATE reembed.collection SET state = 'Indexed', recall = %s, recall_queries = %s,"
            " recall_at = CASE WHEN %s::float8 IS NOT NULL THEN now() END WHERE name = %s AND state <> 'Withdrawn'",
            [*((found.share, found.queries, found.share) if found is not None else (None, None, None)), name],
        )


async def discard(connections: Pool, name: str) -> None:
    """Drop the index so that it is built again; nothing happens to what the pointer names."""
    async with transaction(connections, _SECONDS) as connection:
        if await (await connection.execute(_DISCARD, [name])).fetchone() is not None:
            await connection.execute(
                sql.SQL("DROP INDEX IF EXISTS {}").format(tables.identifier("reembed", index_name(name))), []
            )


async def building(connections: Pool, vectors: Mapping[str, int]) -> dict[str, BuildReport]:
    """Return how far the indexes are that are being built, of collections with so many vectors."""
    async with using(connections, _SECONDS) as connection:
        rows = await (await connection.execute(_BUILDING)).fetchall()
    return {
        name: progress(phase, vectors[name], blocks or 0, of or 0, tuples or 0)
        for name, phase, blocks, of, tuples in rows
        if name in vectors
    }


def progress(phase: str, vectors: int, blocks: int, of: int, tuples: int) -> BuildReport:
    """Return how many vectors are in the index: pgvector counts them, or PostgreSQL the pages it read of the table."""
    read = vectors * blocks // of if of else 0
    return BuildReport(phase, min(max(read, tuples), vectors), vectors)


def memory(needed: int, configured: int, source: str, shared_buffers: int) -> int:
    """Return the bytes of memory to build with: what is needed, within what the server can be taken to have."""
    if source != "default":
        return min(max(needed, _MEMORY_FLOOR), configured)
    most = _UNTUNED_MEMORY if shared_buffers == _UNTUNED else min(max(shared_buffers, _MEMORY_FLOOR), _MOST_MEMORY)
    return min(max(needed, _MEMORY_FLOOR), most)


def index_name(name: str) -> str:
    return f"{name}_embedding"


async def _build(connections: Pool, name: str, shape: VectorIndex, *, parallel: bool) -> None:
    async with transaction(connections, _BUILD_SECONDS) as connection:
        # Two workers may meet during a roll-out; the second must not build the same index for an hour to fail at last.
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 1))", [name])
        if await cursor.fetchone() != (True,):
            raise StoreBusy(f"another worker builds the index of {name}; it is looked at again")
        if not await _valid(connection, name):
            await _create(connection, name, shape, parallel=parallel)


async def _create(connection: Connection, name: str, shape: VectorIndex, *, parallel: bool) -> None:
    row = await (
        await connection.execute(
            "SELECT c.type, c.metric, c.dimensions, sum(s.written), c.cut FROM reembed.collection c"
            " JOIN reembed.shard s ON s.collection = c.name WHERE c.name = %s GROUP BY c.name",
            [name],
        )
    ).fetchone()
    if row is None:
        raise StoreError(f"collection {name} does not exist, so its index was not built")
    kind, metric, dimensions, rows, is_cut = row
    if is_cut:  # shards count documents
        counted = sql.SQL("SELECT count(*) FROM {}").format(tables.collection(name))
        (rows,) = await (await connection.execute(counted, [])).fetchone() or (rows,)
    needed = int(rows) * (dimensions * 8 + _ROW_BYTES + shape.m * _LINK_BYTES)
    limits = await (await connection.execute(_LIMITS)).fetchone()
    given = memory(needed, *limits) if limits is not None else _MEMORY_FLOOR
    await connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [f"{given >> 10}kB"])
    if not parallel:
        await connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
    await connection.execute(
        sql.SQL("CREATE INDEX {} ON {} USING hnsw (embedding {}.{}) WITH (m = {}, ef_construction = {})").format(
            tables.identifier(index_name(name)),
            tables.collection(name),
            tables.identifier(await extension_schema(connection)),
            tables.identifier(tables.operator_class(kind, metric)),
            sql.Literal(shape.m),
            sql.Literal(shape.ef_construction),
        ),
        [],
    )
    await connection.execute(sql.SQL("ANALYZE {}").format(tables.collection(name)), [])
    await connection.execute(
        "UPDATE reembed.collection SET m = %s, ef_construction = %s WHERE name = %s",
        [shape.m, shape.ef_construction, name],
    )


async def _valid(connection: Connection, name: str) -> bool:
    return await (await connection.execute(_READY, [index_name(name)])).fetchone() == (True,)


def _failed(name: str, error: StoreError) -> StoreError:
    if isinstance(error, StoreUnavailable):
        return error
    return Unfit(
        Problem(
            "IndexBuildFailed",
            f"the vector index of {name} was not built, so it answers nothing; it is tried again every minute. {error}",
        )
    )
