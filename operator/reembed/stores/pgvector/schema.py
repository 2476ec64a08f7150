"""Makes schema `reembed` and brings it to this program's version; called by the store worker before all else.

The version row decides: a database of a newer version is left alone, since a worker that is being rolled back must not
undo what its successor made. Everything is done in one transaction under one lock, so that two workers that meet do it
once. Grants are renewed each time, under the same lock, because roles come and go.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.resources import files

from psycopg import sql

from reembed.stores.pgvector.connection import Connection, Pool, transaction, using
from reembed.stores.protocol import StoreError, StoreUnavailable

_log = logging.getLogger(__name__)

VERSION = 7
_SECONDS = 60.0
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('reembed.schema', 0))"
_MAY_SEARCH = (
    "SELECT has_schema_privilege(%s, 'reembed', 'USAGE')"
    " AND (SELECT bool_and(has_function_privilege(%s, oid, 'EXECUTE')) FROM pg_proc"
    " WHERE pronamespace = 'reembed'::regnamespace"
    " AND proname IN ('search', 'nearest', 'find', 'search_index', 'accept', 'accepted_of'))"
)
# An agent reads vectors, counts and the pointer, and searches as a gateway does. New collections are the owner's.
_READ = (
    "GRANT USAGE ON SCHEMA reembed TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA reembed TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA reembed GRANT SELECT ON TABLES TO {role}",
    "GRANT EXECUTE ON FUNCTION reembed.search, reembed.nearest, reembed.find, reembed.attempt TO {role}",
)
_MAY_READ = """
SELECT has_schema_privilege(%(role)s, 'reembed', 'USAGE')
    AND (SELECT bool_and(has_table_privilege(%(role)s, oid, 'SELECT')) FROM pg_class
         WHERE relnamespace = 'reembed'::regnamespace AND relkind = 'r')
    AND (SELECT bool_and(has_function_privilege(%(role)s, oid, 'EXECUTE')) FROM pg_proc
         WHERE pronamespace = 'reembed'::regnamespace AND proname IN ('search', 'nearest', 'find', 'attempt'))"""
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
    """Let `role` search, and say what gateways accepted, and nothing else; nothing is written if it may already."""
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
                "GRANT EXECUTE ON FUNCTION reembed.search, reembed.nearest, reembed.find, reembed.search_index,"
                " reembed.accept, reembed.accepted_of TO {}"
            ).format(name)
        )


async def _may_search(connection: Connection, role: str) -> bool:
    cursor = await connection.execute(_MAY_SEARCH, [role, role])
    return await cursor.fetchone() == (True,)


async def grant_read(connections: Pool, role: str, tables: Sequence[sql.Identifier]) -> None:
    """Let `role`, an agent's, read what schema `reembed` holds and search; nothing is written if it may already.

    `tables` are the application's, whose documents and labels agents read too. They are granted where the store
    worker's role may; else their owner has to, and the agents say what is missing.
    """
    async with using(connections, _SECONDS) as connection:
        if await _may_read(connection, role):
            return
    async with transaction(connections, _SECONDS, lock_seconds=10) as connection:
        await connection.execute(_LOCK)
        name = sql.Identifier(role)
        for statement in _READ:
            await connection.execute(sql.SQL(statement).format(role=name))
    for table in tables:
        await _grant_table(connections, name, table)


async def _grant_table(connections: Pool, role: sql.Identifier, table: sql.Identifier) -> None:
    try:
        async with transaction(connections, _SECONDS) as connection:
            await connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(table, role))
    except StoreUnavailable:
        raise
    except StoreError as error:
        _log.info("agents' role was not granted a table of the application's: %s; its owner may grant SELECT", error)


async def _may_read(connection: Connection, role: str) -> bool:
    cursor = await connection.execute(_MAY_READ, {"role": role})
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
