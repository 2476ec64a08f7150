"""The vector index of a collection, built once after the load; a collection answers only with a valid one.

A plain CREATE INDEX in one transaction: nobody reads a collection before it answers, and CONCURRENTLY would wait for
every old transaction of the database. Where the server's shared memory is too small for parallel workers (containers
often have 64 MiB of it) the build is repeated without them.
"""

from __future__ import annotations

from psycopg import sql
from psycopg.errors import Error

from reembed.core.model import Problem
from reembed.stores.pgvector import tables
from reembed.stores.pgvector.connection import Connection, Pool, transaction
from reembed.stores.pgvector.schema import extension_schema
from reembed.stores.protocol import StoreBusy, StoreError, StoreUnavailable, Unfit

_BUILD_SECONDS = 24 * 3600.0
# HNSW builds in memory as long as the graph fits and is many times slower after. A row needs its vector twice over
# and some 300 bytes of links (m = 16); the ceiling protects a server whose memory is not known from here.
_MEMORY_FLOOR = 64 << 20
_MEMORY_CEILING = 1 << 30
_ROW_BYTES = 300

_READY = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'reembed' AND c.relname = %s AND i.indisvalid AND i.indisready)"""


async def build(connections: Pool, name: str) -> None:
    """Build the index if there is none, and let the collection answer."""
    try:
        await _build(connections, name, parallel=True)
    except StoreError as error:
        if not isinstance(error.__cause__, Error) or error.__cause__.sqlstate not in {"53100", "53200"}:
            raise _failed(name, error) from error
        try:
            await _build(connections, name, parallel=False)
        except StoreError as again:
            raise _failed(name, again) from again


def index_name(name: str) -> str:
    return f"{name}_embedding"


async def _build(connections: Pool, name: str, *, parallel: bool) -> None:
    async with transaction(connections, _BUILD_SECONDS) as connection:
        # Two workers may meet during a roll-out; the second must not build the same index for an hour to fail at last.
        cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 1))", [name])
        if await cursor.fetchone() != (True,):
            raise StoreBusy(f"another worker builds the index of {name}; it is looked at again")
        if not await _valid(connection, name):
            await _create(connection, name, parallel=parallel)
        await connection.execute("UPDATE reembed.collection SET state = 'Indexed' WHERE name = %s", [name])


async def _create(connection: Connection, name: str, *, parallel: bool) -> None:
    row = await (
        await connection.execute(
            "SELECT c.type, c.metric, c.dimensions, sum(s.written) FROM reembed.collection c"
            " JOIN reembed.shard s ON s.collection = c.name WHERE c.name = %s GROUP BY c.name",
            [name],
        )
    ).fetchone()
    if row is None:
        raise StoreError(f"collection {name} does not exist, so its index was not built")
    kind, metric, dimensions, rows = row
    memory = min(max(rows * (dimensions * 8 + _ROW_BYTES), _MEMORY_FLOOR), _MEMORY_CEILING)
    await connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [f"{int(memory) >> 10}kB"])
    if not parallel:
        await connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
    await connection.execute(
        sql.SQL("CREATE INDEX {} ON {} USING hnsw (embedding {}.{})").format(
            tables.identifier(index_name(name)),
            tables.collection(name),
            tables.identifier(await extension_schema(connection)),
            tables.identifier(tables.operator_class(kind, metric)),
        ),
        [],
    )
    await connection.execute(sql.SQL("ANALYZE {}").format(tables.collection(name)), [])


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
