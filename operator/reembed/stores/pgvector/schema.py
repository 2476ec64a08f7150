"""Makes schema `reembed` and brings it to this program's version; called by the store worker before all else.

The version row decides: a database of a newer version is left alone, since a worker that is being rolled back must not
undo what its successor made. Everything is done in one transaction under one lock, so that two workers that meet do it
once. Grants are renewed each time, under the same lock, because roles come and go.
"""

from __future__ import annotations

from importlib.resources import files

from psycopg import sql

from reembed.stores.pgvector.connection import Connection, Pool, transaction, using
from reembed.stores.protocol import StoreError

VERSION = 7
_SECONDS = 60.0
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('reembed.schema', 0))"
_MAY_SEARCH = (
    "SELECT has_schema_privilege(%s, 'reembed', 'USAGE')"
    " AND (SELECT bool_and(has_function_privilege(%s, oid, 'EXECUTE')) FROM pg_proc"
    " WHERE pronamespace = 'reembed'::regnamespace AND proname IN ('search', 'nearest', 'find', 'search_index'))"
)
_EXTENSION_SCHEMA = (
    "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
)


async def migrate(connections: Pool) -> None:
    """Create or update the schema; nothing happens if it is of this version."""
    async with using(connections, _SECONDS) as connection:
        if await version(connection) == VERSION:
            return
    async with transaction(connections, _SECONDS, lock_seconds=10) as connection:
        await connection.execute(_LOCK)
        found = await version(connection)
        if found > VERSION:
            raise StoreError(
                f"schema reembed is of version {found}, this program knows version {VERSION}; "
                "run the newer program, or restore a backup of the schema"
            )
        if found == 0:
            await _create_schema(connection)
        # Its settings are known, and may be named in a function, once the library is loaded.
        extension = sql.Identifier(await extension_schema(connection))
        await connection.execute(sql.SQL("SELECT '[1]'::{}.vector").format(extension))
        for step in range(found + 1, VERSION + 1):
            text = files(__package__).joinpath(f"schema_{step}.sql").read_text()
            await connection.execute(sql.SQL(text).format(ext=extension))
        await connection.execute(
            "INSERT INTO reembed.version (version) VALUES (%s)"
            " ON CONFLICT (single) DO UPDATE SET version = excluded.version",
            [VERSION],
        )


async def _create_schema(connection: Connection) -> None:
    # IF NOT EXISTS would ask for the right to create one even where an administrator made it.
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'reembed')")
    if await cursor.fetchone() != (True,):
        await connection.execute("CREATE SCHEMA reembed")


async def grant_search(connections: Pool, role: str) -> None:
    """Let `role` search and do nothing else; nothing is written if it may already."""
    async with using(connections, _SECONDS) as connection:
        if await _may_search(connection, role):
            return
    async with transaction(connections, _SECONDS, lock_seconds=10) as connection:
        # Two grants on one schema at once are an error of PostgreSQL, not a wait ("tuple concurrently updated").
        await connection.execute(_LOCK)
        if await _may_search(connection, role):
            return
        name = sql.Identifier(role)
        await connection.execute(sql.SQL("GRANT USAGE ON SCHEMA reembed TO {}").format(name))
        await connection.execute(
            sql.SQL(
                "GRANT EXECUTE ON FUNCTION reembed.search, reembed.nearest, reembed.find, reembed.search_index TO {}"
            ).format(name)
        )


async def _may_search(connection: Connection, role: str) -> bool:
    cursor = await connection.execute(_MAY_SEARCH, [role, role])
    return await cursor.fetchone() == (True,)


async def version(connection: Connection) -> int:
    """Return the schema's version, 0 if there is none."""
    # Not by to_regclass: its cache would not know what another worker committed while this one waited for the lock.
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'reembed' AND c.relname = 'version')"
    )
    if await cursor.fetchone() != (True,):
        return 0
    cursor = await connection.execute("SELECT version FROM reembed.version")
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def extension_schema(connection: Connection) -> str:
    """Return the schema that holds the extension's types and operators."""
    cursor = await connection.execute(_EXTENSION_SCHEMA)
    row = await cursor.fetchone()
    if row is None:
        raise StoreError("extension vector is missing; run CREATE EXTENSION vector as an administrator")
    return str(row[0])
