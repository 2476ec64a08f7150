"""Nearest documents, asked of the database's own function; the gateway's side of the store.

The gateways and the evaluation send vectors in binary to `reembed.find`; applications have `reembed.search_index`, the
same for what answers. It checks in one statement that the collection is the one of this fingerprint and that it
answers at all, so a query embedded with one model can never be compared with another model's vectors. Nothing here
knows a table.
"""

from __future__ import annotations

import asyncio
from array import array
from sys import byteorder
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from reembed.core.acceptance import Accepted
from reembed.core.chunking import Span
from reembed.core.model import PointerPlan
from reembed.stores.pgvector import accepting
from reembed.stores.pgvector.connection import Connection, Pooled, searching_pool, using
from reembed.stores.protocol import Filter, FilterRefused, Hit

# The server finds the parameter's type by the function, so nobody has to look up where the extension is.
_BINARY = "SELECT id, score, starts, ends, metadata, row_id FROM reembed.find(%s, %s, %b, %s, %s)"
_TEXT = "SELECT id, score FROM reembed.search(%s, %s, %s, %s)"
_MAY_FIND = """
SELECT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'reembed' AND p.proname = 'find'
      AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE'))"""
_SECONDS = 10.0  # a query waits no longer, its connection included
_CONNECTION_SECONDS = 3.0
# Gateways may be newer than the schema until the index's worker has updated it, and granted.
_LOOK_AGAIN_SECONDS = 30.0
_NOT_YET = (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege)


class Searcher(Pooled):
    """A pool of connections that only search; `async with Searcher(dsn, 8) as searcher:` or open() and close().

    open() does not wait for the database, so that a gateway starts without it and answers as soon as it is there.
    """

    def __init__(self, dsn: str, pool_size: int, index_key: str = "") -> None:
        super().__init__(searching_pool(dsn, pool_size, "reembed-gateway", timeout=_CONNECTION_SECONDS))
        self._index_key = index_key
        self._as_text_until = 0.0

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        """Return the `k` documents nearest to `vector` (little-endian float32), the nearest first.

        Raises:
            CollectionMismatch: the collection is not of this fingerprint, not indexed, withdrawn or gone.
            FilterRefused: the filter asks for what the index's metadata cannot be.
            StoreUnavailable: the database does not answer, or not in time.
            StoreError: it refuses for another reason, such as a missing grant.

        """
        tries = self._pool.max_size
        while True:
            tries -= 1
            async with using(self._pool, _SECONDS) as connection:
                try:
                    return await self._search(connection, collection, fingerprint, vector, k, within)
                except psycopg.OperationalError:
                    # It broke while it idled, as others may have; the pool drops it, and a search may be asked again.
                    # To look at each connection before would cost every query a round trip.
                    if not connection.broken or not tries:
                        raise

    async def _search(
        self, connection: Connection, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None
    ) -> list[Hit]:
        now = asyncio.get_running_loop().time()
        if now >= self._as_text_until:
            try:
                return await search(connection, collection, fingerprint, vector, k, within)
            except _NOT_YET:
                # The error may be of what was asked for; the schema's age is not told by it.
                if await (await connection.execute(_MAY_FIND)).fetchone() == (True,):
                    raise
                self._as_text_until = now + _LOOK_AGAIN_SECONDS
        if within is not None:
            # Counted against no arm: it is nobody's failure that a worker starts after a gateway.
            raise FilterRefused("the store worker has not brought schema reembed to the version that filters yet")
        cursor = await connection.execute(_TEXT, [collection, fingerprint, literal(vector), k], binary=True)
        return [Hit(found, score) for found, score in await cursor.fetchall()]

    async def accepted(self, uid: str) -> tuple[Accepted | None, PointerPlan | None]:
        return await accepting.accepted(self._pool, self._index_key, uid)

    async def accept(self, uid: str, wanted: Accepted) -> Accepted:
        return await accepting.accept(self._pool, self._index_key, uid, wanted)

    async def ready(self) -> bool:
        """Return whether the database lends a connection at once."""
        try:
            async with self._pool.connection(timeout=_CONNECTION_SECONDS):
                return True
        except PoolTimeout:
            return False


async def search(
    connection: Connection, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
) -> list[Hit]:
    """Ask on a connection that is at hand."""
    wanted = Jsonb(dict(within)) if within is not None else None
    given = [collection, fingerprint, binary(vector), k, wanted]
    cursor = await connection.execute(_BINARY, given, binary=True)
    return [
        Hit(found, score, Span(starts, ends) if starts is not None else None, metadata, row)
        for found, score, starts, ends, metadata, row in await cursor.fetchall()
    ]


class Vector(bytes):
    """A vector as PostgreSQL receives it in binary."""


class _VectorDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer | None:
        return bytes(obj)


# For all connections: a set of adapters for each query would cost more than the query's parameters.
psycopg.adapters.register_dumper(Vector, _VectorDumper)


def binary(vector: bytes) -> Vector:
    """Return little-endian float32 bytes as pgvector's type receives them: dimensions, a reserved zero, numbers."""
    numbers = array("f", vector)
    if byteorder == "little":
        numbers.byteswap()
    return Vector(len(numbers).to_bytes(2, "big") + b"\0\0" + numbers.tobytes())


def literal(vector: bytes) -> str:
    """Return little-endian float32 bytes as pgvector writes a vector: nine digits give back every float32."""
    numbers = array("f", vector)
    if byteorder == "big":
        numbers.byteswap()
    return "[" + ",".join([f"{number:.9g}" for number in numbers]) + "]"
