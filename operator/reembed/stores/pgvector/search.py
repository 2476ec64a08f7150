"""Nearest documents, asked of the database's own function `reembed.search`; the gateway's side of the store.

The gateways and the evaluation ask in the same way, and so may applications: the function checks in one statement that
the collection is the one of this fingerprint and that it answers at all, so a query embedded with one model can never
be compared with another model's vectors. Nothing here knows a table.
"""

from __future__ import annotations

from array import array
from sys import byteorder
from types import TracebackType
from typing import Self

from psycopg_pool import PoolTimeout

from reembed.stores.pgvector.connection import Connection, pool, using
from reembed.stores.protocol import Hit

_SQL = "SELECT id, score FROM reembed.search(%s, %s, %s, %s)"
_SECONDS = 10.0  # a query waits no longer, its connection included
_CONNECTION_SECONDS = 3.0


class Searcher:
    """A pool of connections that only search; `async with Searcher(dsn, 8) as searcher:` or open() and close().

    open() does not wait for the database, so that a gateway starts without it and answers as soon as it is there.
    """

    def __init__(self, dsn: str, pool_size: int) -> None:
        self._pool = pool(dsn, pool_size, "reembed-gateway", timeout=_CONNECTION_SECONDS)

    async def open(self) -> None:
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def search(self, collection: str, fingerprint: str, vector: bytes, k: int) -> list[Hit]:
        """Return the `k` documents nearest to `vector` (little-endian float32), the nearest first.

        Raises:
            CollectionMismatch: the collection is not of this fingerprint, not indexed, withdrawn or gone.
            StoreUnavailable: the database does not answer, or not in time.
            StoreError: it refuses for another reason, such as a missing grant.

        """
        async with using(self._pool, _SECONDS) as connection:
            return await search(connection, collection, fingerprint, vector, k)

    async def ready(self) -> bool:
        """Return whether the database lends a connection at once."""
        try:
            async with self._pool.connection(timeout=_CONNECTION_SECONDS):
                return True
        except PoolTimeout:
            return False


async def search(connection: Connection, collection: str, fingerprint: str, vector: bytes, k: int) -> list[Hit]:
    """Ask on a connection that is at hand."""
    cursor = await connection.execute(_SQL, [collection, fingerprint, literal(vector), k])
    return [Hit(found, score) for found, score in await cursor.fetchall()]


def literal(vector: bytes) -> str:
    """Return little-endian float32 bytes as pgvector writes a vector: nine digits give back every float32."""
    numbers = array("f", vector)
    if byteorder == "big":
        numbers.byteswap()
    return "[" + ",".join([f"{number:.9g}" for number in numbers]) + "]"
