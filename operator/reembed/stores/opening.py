"""Which store a connection string leads to; the only module that knows them all.

The scheme decides: `http://` and `https://` are Chroma, all else is PostgreSQL. A store worker compares that with what
its index says before it makes anything; gateways and backfill pods find only collections of their own store. Each is
loaded when it is asked for, so that no process carries the other.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from reembed.stores.protocol import Filling, Following, Keeping, Searching


def is_chroma(dsn: str) -> bool:
    return dsn.strip().startswith(("http://", "https://"))


def searching(dsn: str, index_key: str, connections: int) -> AbstractAsyncContextManager[Searching]:
    """Return a gateway's side of the store; where applications write through it, it is `Writing` too."""
    if is_chroma(dsn):
        from reembed.stores.chroma import search as chroma  # noqa: PLC0415

        return chroma.Searcher(dsn, index_key, connections)
    from reembed.stores.pgvector import search as pgvector  # noqa: PLC0415

    return pgvector.Searcher(dsn, connections, index_key)


def filling(dsn: str) -> AbstractAsyncContextManager[Filling]:
    if is_chroma(dsn):
        from reembed.stores.chroma import shards as chroma  # noqa: PLC0415

        return chroma.ShardStore(dsn)
    from reembed.stores.pgvector import shards as pgvector  # noqa: PLC0415

    return pgvector.ShardStore(dsn)


def following(dsn: str, index_key: str) -> AbstractAsyncContextManager[Following]:
    if is_chroma(dsn):
        from reembed.stores.chroma import changes as chroma  # noqa: PLC0415

        return chroma.Changes(dsn, index_key)
    from reembed.stores.pgvector import changes as pgvector  # noqa: PLC0415

    return pgvector.Changes(dsn, index_key)


def keeping(dsn: str, index_key: str, uid: str) -> AbstractAsyncContextManager[Keeping]:
    if is_chroma(dsn):
        from reembed.stores.chroma import keeper as chroma  # noqa: PLC0415

        return chroma.Keeper(dsn, index_key, uid)
    from reembed.stores.pgvector import keeper as pgvector  # noqa: PLC0415

    return pgvector.Keeper(dsn, index_key, uid)
