"""Connections to PostgreSQL that may pass through PgBouncer in transaction mode, and what their errors mean.

Every user of the store opens its pool here, so that no session state is ever relied on: no SET outside a transaction,
no start-up options, and prepared statements only where it is sure that nobody is in between. All that reaches
PostgreSQL runs inside `using`, which turns the driver's errors into the store's: none of them may carry the connection
string, which holds a password.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from reembed.stores.protocol import (
    CollectionMismatch,
    FilterRefused,
    StoreBusy,
    StoreError,
    StoreSlow,
    StoreUnavailable,
)

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

_CONNECT_SECONDS = 5
# Classes of SQLSTATE that looking again may heal: connection, transaction rollback, resources, operator's intervention,
# system error. The reference is PostgreSQL's appendix A.
_PASSING = ("08", "40", "53", "57", "58")
_OWN: Mapping[str, type[StoreError]] = {
    "RE001": CollectionMismatch,  # raised by reembed.find
    "RE002": FilterRefused,  # raised by reembed.condition
    "57014": StoreSlow,  # cancelled, by its statement_timeout most often
    "42P01": CollectionMismatch,  # the collection was dropped between the look at its row and at its table
}


class Pooled:
    """Who has connections of its own: `async with` opens them without waiting for the database, and closes them."""

    def __init__(self, connections: Pool) -> None:
        self._pool = connections

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


def conninfo(dsn: str, application: str) -> str:
    """Return `dsn` with a time limit for connecting and a name that shows in pg_stat_activity.

    Raises:
        StoreError: it cannot be read. The driver's own message quotes it and is dropped for that.

    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        message = "the connection string cannot be read; write postgresql://user:password@host:5432/database"
        raise StoreError(message) from None
    defaults: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "application_name": application}
    return make_conninfo("", **(defaults | given))


def pool(dsn: str, size: int, application: str, *, timeout: float) -> Pool:
    """Return a closed pool of up to `size` connections; a connection is waited for `timeout` seconds at most."""
    # A connection that broke while it idled costs a round trip here instead of a failed query.
    return _pool(dsn, size, application, timeout=timeout, check=AsyncConnectionPool.check_connection)


def searching_pool(dsn: str, size: int, application: str, *, timeout: float) -> Pool:
    """Return a pool for many small queries: nothing is asked before each, so who uses it must bear a broken connection.

    Its statements are prepared where the server itself is at the other end.
    """
    return _pool(dsn, size, application, timeout=timeout, configure=_prepare_if_direct)


def _pool(dsn: str, size: int, application: str, **options: Any) -> Pool:
    return AsyncConnectionPool(
        conninfo(dsn, application),
        min_size=1,
        max_size=size,
        open=False,
        max_idle=60,
        kwargs={"autocommit": True, "prepare_threshold": None},
        **options,
    )


async def _prepare_if_direct(connection: Connection) -> None:
    """Let statements be prepared at their first use, which takes 6 % off a small search, in the server's own session.

    A pooler in transaction mode changes the session under a client. A statement of one name is then missing in it, or
    is another client's with the same name, which answers something else and no error tells: so trying and falling back
    is not safe, and it is looked at before. Poolers give their clients numbers of their own as the backend's.
    """
    cursor = await connection.execute("SELECT pg_backend_pid()")
    if await cursor.fetchone() == (connection.info.backend_pid,):
        connection.prepare_threshold = 0


@asynccontextmanager
async def using(connections: Pool, seconds: float | None) -> AsyncIterator[Connection]:
    """Lend a connection for at most `seconds`, and raise the store's errors instead of the driver's.

    Whoever is cancelled ends here: the pool waits by `asyncio.wait_for`, which before Python 3.12 forgets a
    cancellation that comes in the moment in which the wait ends, and a task that was to end would go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        async with asyncio.timeout(seconds), connections.connection() as connection:
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError
            yield connection
    except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests, TimeoutError, OSError) as error:
        raise translated(error, seconds) from error


@asynccontextmanager
async def transaction(connections: Pool, seconds: float, *, lock_seconds: float = 1.0) -> AsyncIterator[Connection]:
    """Lend a connection inside a transaction that waits for no lock longer than `lock_seconds`.

    A role's row_security is off in it: a policy that would hide rows is an error then, never a smaller answer. Its
    search path is fixed, so that an index's expression calls nothing that somebody put in front of PostgreSQL's own.
    """
    async with using(connections, seconds + 5) as connection, connection.transaction():
        await connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),"
            " set_config('idle_in_transaction_session_timeout', '60s', true), set_config('row_security', 'off', true),"
            " set_config('search_path', 'pg_catalog, pg_temp', true)",
            [f"{int(lock_seconds * 1000)}ms", f"{int(seconds * 1000)}ms"],
        )
        yield connection


def translated(error: Exception, seconds: float | None) -> StoreError:
    """Return what an error of the driver means for the caller."""
    if isinstance(error, TimeoutError):
        return StoreSlow(f"PostgreSQL did not answer within {seconds:g} s")
    if not isinstance(error, psycopg.Error) or isinstance(error, PoolTimeout | PoolClosed | TooManyRequests):
        return StoreUnavailable(f"no connection to PostgreSQL: {type(error).__name__}")
    state = error.sqlstate
    text = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
    if state is not None and state in _OWN:
        return _OWN[state](text)
    if state == "55P03":
        return StoreBusy(f"PostgreSQL: {text}; it is tried again")
    if state is None or state.startswith(_PASSING):
        return StoreUnavailable(f"PostgreSQL: {text}")
    return StoreError(f"PostgreSQL ({state}): {text}")
