"""Live writes on their way into the collections: `Following` of the protocol, the follower's side of the store.

What triggers marked is spread over the collections that are to be kept fresh, one row for each that lacks a change, and
every collection pays what it is owed by itself: an embedder that is gone makes its own collection late and no other.

Three rules make every order of events end in the newest text, with any number of followers. The text is read after the
debt, so it is at least as new as the debt's revision. A row is replaced only by a revision that is not older. A debt is
cleared, in the transaction that pays it, only if its revision is unchanged and the row is at least as new; so what is
found unchanged raises the row's revision as well. Nothing waits for a lock of the application, and its transactions
touch nothing that is locked here but rows that they insert.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from psycopg import sql

from reembed.stores.pgvector import adopted, comparison, rows, tables, watched
from reembed.stores.pgvector.binary import vector_array, vector_cursor, vector_type
from reembed.stores.pgvector.connection import Connection, Pool, Pooled, pool, transaction, using
from reembed.stores.pgvector.shape import OF_COLLECTION, Shape, names
from reembed.stores.protocol import Change, Debt, Differences, Document, Paid, Rejected, StoreError, Watching, Written

_SECONDS = 30.0
_SPREAD = 2000  # marks of one transaction

_LIVE = (
    "SELECT name FROM reembed.collection WHERE index_key = %(key)s AND maintained AND state IN ('Filling', 'Indexed')"
)
# Marks that another worker moves this moment are left to it. Collections are locked against being withdrawn: a debt
# that came beside that would stay for ever, since nobody pays for what is withdrawn.
_MOVE = """
WITH taken AS (
    DELETE FROM reembed.dirty d USING (
        SELECT index_key, rev FROM reembed.dirty WHERE index_key = %(key)s AND rev > %(after)s AND id IS NOT NULL
        ORDER BY rev LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) oldest WHERE d.index_key = oldest.index_key AND d.rev = oldest.rev
    RETURNING d.rev, d.id, d.at
), newest AS (
    SELECT id, max(rev) AS rev, min(CASE WHEN %(first)s THEN at ELSE clock_timestamp() END) AS at FROM taken GROUP BY id
), owing AS (
    INSERT INTO reembed.owed AS o (collection, id, rev, at)
    SELECT c.name, n.id, n.rev, n.at FROM newest n CROSS JOIN (SELECT name FROM reembed.collection
        WHERE index_key = %(key)s AND maintained AND state IN ('Filling', 'Indexed') FOR SHARE) c ORDER BY c.name, n.id
    ON CONFLICT (collection, id) DO UPDATE
    SET rev = greatest(o.rev, excluded.rev), at = least(o.at, excluded.at)
), kept AS (
    SELECT c.name, (SELECT count(*) FROM reembed.watched w WHERE w.collection = c.name) AS watched
    FROM reembed.collection c WHERE c.index_key = %(key)s AND c.adopted IS NOT NULL AND NOT c.maintained
      AND c.state = 'Indexed' FOR SHARE
), watching AS (
    INSERT INTO reembed.watched AS w (collection, id, at)
    SELECT k.name, n.id, clock_timestamp() FROM kept k CROSS JOIN LATERAL (
        SELECT id FROM newest ORDER BY rev DESC LIMIT least(%(few)s, greatest(%(room)s - k.watched, 0))
    ) n ORDER BY k.name, n.id
    ON CONFLICT (collection, id) DO UPDATE SET at = excluded.at
)
SELECT count(*), coalesce(max(rev), %(after)s) FROM taken"""
_EMPTIED = "SELECT max(rev) FROM reembed.dirty WHERE index_key = %s AND id IS NULL"
_FENCE = """
UPDATE reembed.shard s SET token = s.token + 1 FROM reembed.collection c
WHERE c.name = s.collection AND NOT s.done AND c.index_key = %(key)s AND c.state IN ('Filling', 'Indexed')"""
_OWED = """
SELECT o.id, o.rev FROM reembed.owed o WHERE o.collection = %s AND o.id <> ALL (%s)
ORDER BY o.rev LIMIT %s"""
# Rows that the application holds are passed over: were the oldest taken each time, they would keep all others waiting.
_OWED_ANY = """
SELECT o.id, o.rev FROM (
    SELECT id, rev FROM reembed.owed WHERE collection = %s AND id <> ALL (%s) ORDER BY rev LIMIT 5000
) o ORDER BY random() LIMIT %s"""
_LAG = """
SELECT c.name, count(o.id), coalesce(greatest(extract(epoch FROM clock_timestamp() - min(o.at)), 0), 0)::float8
FROM reembed.collection c LEFT JOIN reembed.owed o ON o.collection = c.name
WHERE c.index_key = %s AND c.maintained AND c.state IN ('Filling', 'Indexed') GROUP BY c.name"""
_READ = """
SELECT d.id, d.rev, t.there IS NOT NULL, t.text, t.failed, {held}
FROM unnest(%(ids)s::text[], %(revs)s::bigint[]) AS d (id, rev)
LEFT JOIN {table} s ON s.{id} = d.id::{type}
LEFT JOIN LATERAL (SELECT true AS there, f.* FROM {document} f (text, failed)) t ON s.{id} IS NOT NULL
LEFT JOIN {collection} c ON c.id = d.id::{type} AND c.part = 0 AND c.embedding IS NOT NULL"""
# Of a document that lacks parts, or has too many, it is as if it were of another text: all of them are made again.
_HELD_WHOLE = """
CASE WHEN (c.parts - 1, c.parts - 1) = (SELECT count(*), coalesce(max(o.part), 0) FROM {collection} o
                                        WHERE o.id = c.id AND o.part > 0) THEN c.text_hash END"""
# What an adopted column holds has no hash: whatever is owed is embedded.
_READ_SOURCE = """
SELECT d.id, d.rev, t.there IS NOT NULL, t.text, t.failed, NULL::bytea
FROM unnest(%(ids)s::text[], %(revs)s::bigint[]) AS d (id, rev)
LEFT JOIN {table} s ON s.{id} = d.id::{type}
LEFT JOIN LATERAL (SELECT true AS there, f.* FROM {document} f (text, failed)) t ON s.{id} IS NOT NULL"""
_STORE = """
INSERT INTO {collection} AS c (id, part, rev, text_hash, embedding)
SELECT p.id::{type}, 0, p.rev, p.text_hash, CASE WHEN p.text_hash IS NOT NULL THEN p.embedding END
FROM unnest(%(ids)s::text[], %(revs)s::bigint[], %(hashes)s::bytea[], %(vectors)b::{extension}.vector[])
     AS p (id, rev, text_hash, embedding)
ORDER BY p.id::{type}
ON CONFLICT (id, part) DO UPDATE
SET rev = excluded.rev, text_hash = excluded.text_hash, embedding = excluded.embedding WHERE c.rev <= excluded.rev"""
# The first part takes the lock and decides; for those that won, a second statement with a snapshot of its own deletes
# what there was behind it: in one statement it would not see what another transaction stored while this one waited.
_STORE_CUT = """
INSERT INTO {collection} AS c (id, part, rev, text_hash, embedding, starts, ends, parts)
SELECT p.id::{type}, 0, p.rev, p.text_hash, CASE WHEN p.text_hash IS NOT NULL THEN p.embedding END, p.starts, p.ends,
       p.parts
FROM unnest(%(ids)s::text[], %(revs)s::bigint[], %(hashes)s::bytea[], %(vectors)b::{extension}.vector[],
            %(starts)s::int[], %(ends)s::int[], %(counts)s::int[])
     AS p (id, rev, text_hash, embedding, starts, ends, parts)
ORDER BY p.id::{type}
ON CONFLICT (id, part) DO UPDATE
SET rev = excluded.rev, text_hash = excluded.text_hash, embedding = excluded.embedding, starts = excluded.starts,
    ends = excluded.ends, parts = excluded.parts WHERE c.rev <= excluded.rev
RETURNING c.id::text"""
_DELETE_OTHERS = "DELETE FROM {collection} c USING unnest(%s::text[]) w (id) WHERE c.id = w.id::{type} AND c.part > 0"
_STORE_OTHERS = """
INSERT INTO {collection} (id, part, embedding, starts, ends)
SELECT o.id::{type}, o.part, o.embedding, o.starts, o.ends
FROM unnest(%(ids)s::text[], %(parts)s::int[], %(vectors)b::{extension}.vector[], %(starts)s::int[], %(ends)s::int[])
     AS o (id, part, embedding, starts, ends)
ORDER BY o.id::{type}, o.part"""
_BURY_OTHERS = """
DELETE FROM {collection} o USING {collection} f
WHERE f.id = o.id AND f.part = 0 AND f.embedding IS NULL AND f.rev = %s AND o.part > 0"""
_RAISE = """
UPDATE {collection} c SET rev = d.rev FROM (
    SELECT p.id::{type} AS id, p.rev, p.text_hash
    FROM unnest(%(ids)s::text[], %(revs)s::bigint[], %(hashes)s::bytea[]) AS p (id, rev, text_hash)
) d WHERE c.id = d.id AND c.part = 0 AND c.rev < d.rev AND c.text_hash = d.text_hash"""
_CLEAR = """
DELETE FROM reembed.owed o USING unnest(%(ids)s::text[], %(revs)s::bigint[]) AS d (id, rev)
WHERE o.collection = %(name)s AND o.id = d.id AND o.rev = d.rev
  AND EXISTS (SELECT FROM {collection} c WHERE c.id = d.id::{type} AND c.part = 0 AND c.rev >= d.rev)"""
_ACCEPT = "DELETE FROM reembed.rejected WHERE collection = %(name)s AND id = ANY (%(accepted)s)"
_REFUSE = """
INSERT INTO reembed.rejected (collection, id, reason, message)
SELECT %(name)s, p.* FROM unnest(%(refused)s::text[], %(reasons)s::text[], %(messages)s::text[]) AS p
ON CONFLICT (collection, id) DO UPDATE SET reason = excluded.reason, message = excluded.message, at = now()"""


class Changes(Pooled):
    """`async with Changes(dsn, index_key) as changes:`; a follower's own few connections."""

    def __init__(self, dsn: str, index_key: str) -> None:
        self._key = index_key
        super().__init__(pool(dsn, 4, "reembed-follower", timeout=5))
        self._shapes: dict[str, Shape] = {}
        self._spread_before = False

    async def spread(self, after: int) -> tuple[int, int]:
        """Turn marks above revision `after` into debts of the live collections; return their number and the highest.

        A transaction that commits late may bring a lower revision: whoever follows has to begin at 0 now and then.
        """
        async with transaction(self._pool, _SECONDS) as connection:
            given = {"key": self._key, "after": after, "limit": _SPREAD, "first": not self._spread_before}
            given |= {"few": watched.AT_ONCE, "room": watched.ROOM}
            row = await (await connection.execute(_MOVE, given)).fetchone()
            count, highest = row or (0, after)
        self._spread_before = self._spread_before or count < _SPREAD
        async with using(self._pool, _SECONDS) as connection:
            row = await (await connection.execute(_EMPTIED, [self._key])).fetchone()
        if row is not None and row[0] is not None:
            await self._bury_all(row[0])
        return count, highest

    async def owed(self, collection: str, limit: int, but: Sequence[str] = ()) -> list[Debt]:
        """Return the oldest debts of a collection, without those of the documents `but`."""
        async with using(self._pool, _SECONDS) as connection:
            shape = await self._shape(connection, collection)
            query = _OWED if shape.adopted is None else _OWED_ANY
            cursor = await connection.execute(query, [collection, list(but), limit])
            return [Debt(*row) for row in await cursor.fetchall()]

    async def read(self, collection: str, debts: Sequence[Debt]) -> list[Change]:
        """Return what the debts' documents are now, in the source and in the collection."""
        async with using(self._pool, _SECONDS) as connection:
            shape = await self._shape(connection, collection)
        source = tables.source_from(shape.source)

        async def read(document: sql.Composable) -> list[Change]:
            query = sql.SQL(_READ if shape.adopted is None else _READ_SOURCE).format(
                **names(shape),
                held=sql.SQL(_HELD_WHOLE if shape.is_cut else "c.text_hash").format(**names(shape)),
                table=tables.table(source),
                id=tables.identifier(source.id_column),
                document=document,
            )
            async with transaction(self._pool, _SECONDS) as connection:
                cursor = await connection.execute(query, _debts(debts))
                return [_change(row) for row in await cursor.fetchall()]

        return await rows.each(source, shape.id_type, read)

    async def pay(self, collection: str, paid: Sequence[Paid]) -> int:
        """Store outcomes and clear the debts they pay, in one transaction; return how many were cleared."""
        ordered = sorted(paid, key=lambda one: one.debt.id)
        kept = [one for one in ordered if isinstance(one.outcome, bytes)]
        stored = [one for one in ordered if not isinstance(one.outcome, bytes)]
        async with using(self._pool, _SECONDS) as connection:
            shape = await self._shape(connection, collection)
        if shape.adopted is not None:
            return await adopted.pay(self._pool, shape, ordered)
        named = names(shape)
        async with transaction(self._pool, _SECONDS) as connection:
            if stored:
                await self._store(connection, shape, stored)
            if kept:
                values = _debts([one.debt for one in kept]) | {"hashes": [one.outcome for one in kept]}
                await connection.execute(sql.SQL(_RAISE).format(**named), values)
            if refused := [one.outcome for one in ordered if isinstance(one.outcome, Rejected)]:
                await connection.execute(_REFUSE, _refused(collection, refused))
            accepted = [one.debt.id for one in ordered if not isinstance(one.outcome, Rejected)]
            await connection.execute(_ACCEPT, {"name": collection, "accepted": accepted})
            values = _debts([one.debt for one in ordered]) | {"name": collection}
            return (await connection.execute(sql.SQL(_CLEAR).format(**named), values)).rowcount

    async def lag(self) -> dict[str, tuple[int, float]]:
        """Return the debts of each live collection and the age of its oldest in seconds."""
        async with using(self._pool, _SECONDS) as connection:
            cursor = await connection.execute(_LAG, [self._key])
            return {name: (count, seconds) for name, count, seconds in await cursor.fetchall()}

    async def compare(self, collection: str, after: str | None, limit: int) -> tuple[Differences, str | None]:
        async with using(self._pool, _SECONDS) as connection:
            shape = await self._shape(connection, collection)
        if shape.adopted is not None:
            return await adopted.compare(self._pool, self._key, shape, after, limit)
        return await comparison.compare(self._pool, self._key, collection, after, limit)

    async def compared(self, collection: str, epoch: int, found: Differences) -> None:
        await comparison.record(self._pool, collection, epoch, found)

    async def epoch(self) -> int:
        return await comparison.epoch(self._pool, self._key)

    async def watched(self, collection: str, grace: float, count: int) -> Watching:
        async with using(self._pool, _SECONDS) as connection:
            shape = await self._shape(connection, collection)
        return await watched.look(self._pool, shape, grace, count)

    async def _store(self, connection: Connection, shape: Shape, paid: Sequence[Paid]) -> None:
        extension, oid = await vector_type(connection)
        named = names(shape) | {"extension": tables.identifier(extension)}
        nothing = bytes(4 * shape.dimensions)
        vectors = [one.outcome.vector if isinstance(one.outcome, Written) else nothing for one in paid]
        hashes = [one.outcome.text_hash if isinstance(one.outcome, Written) else None for one in paid]
        given = _debts([one.debt for one in paid])
        given |= {"hashes": hashes, "vectors": vector_array(vectors, shape.dimensions, oid)}
        cursor = vector_cursor(connection)
        if not shape.is_cut:
            await cursor.execute(sql.SQL(_STORE).format(**named), given)
            return
        written = [one.outcome if isinstance(one.outcome, Written) else None for one in paid]
        await cursor.execute(sql.SQL(_STORE_CUT).format(**named), given | tables.firsts(written))
        won = {found for (found,) in await cursor.fetchall()}
        await cursor.execute(sql.SQL(_DELETE_OTHERS).format(**named), [list(won)])
        others = tables.others([one for one in written if one is not None and one.id in won])
        if others.ids:
            given = {"ids": others.ids, "parts": others.numbers, "starts": others.starts, "ends": others.ends}
            given |= {"vectors": vector_array(others.vectors, shape.dimensions, oid)}
            await cursor.execute(sql.SQL(_STORE_OTHERS).format(**named), given)

    async def _bury_all(self, rev: int) -> None:
        """Make tombstones of what the source lost when it was emptied.

        A backfill's page that was read before must not be stored after: pages under way are waited for by the lock of
        their shard's row, and later ones find that their pod holds the shard no more.
        """
        async with transaction(self._pool, _SECONDS, lock_seconds=10) as connection:
            await connection.execute(_FENCE, {"key": self._key})
        async with using(self._pool, _SECONDS) as connection:
            names = [row[0] for row in await (await connection.execute(_LIVE, {"key": self._key})).fetchall()]
        for name in names:
            async with using(self._pool, _SECONDS) as connection:
                shape = await self._shape(connection, name)
            if shape.adopted is not None:
                continue  # its vectors went with their rows
            bury = partial(_bury, self._pool, shape, rev)
            await rows.each(tables.source_from(shape.source), shape.id_type, bury)
        async with transaction(self._pool, _SECONDS) as connection:
            await connection.execute(
                "DELETE FROM reembed.dirty WHERE index_key = %s AND id IS NULL AND rev <= %s", [self._key, rev]
            )

    async def _shape(self, connection: Connection, collection: str) -> Shape:
        if collection not in self._shapes:
            row = await (await connection.execute(OF_COLLECTION, [collection])).fetchone()
            if row is None:
                raise StoreError(f"collection {collection} was dropped, so nothing more is written to it")
            self._shapes[collection] = Shape(*row)
        return self._shapes[collection]


async def _bury(connections: Pool, shape: Shape, rev: int, document: sql.Composable) -> None:
    source = tables.source_from(shape.source)
    query = sql.SQL(
        "UPDATE {collection} c SET embedding = NULL, text_hash = NULL, rev = %s WHERE c.embedding IS NOT NULL"
        " AND c.part = 0 AND c.rev < %s"
        " AND NOT EXISTS (SELECT FROM {table} s CROSS JOIN LATERAL {document} t WHERE s.{id} = c.id)"
    ).format(
        collection=tables.collection(shape.name),
        table=tables.table(source),
        id=tables.identifier(source.id_column),
        document=document,
    )
    async with transaction(connections, 1800) as connection:
        await connection.execute(query, [rev, rev])
        if shape.is_cut:
            await connection.execute(sql.SQL(_BURY_OTHERS).format(collection=tables.collection(shape.name)), [rev])
        # Who read a document before it was gone may still pay for it: the debt is newer now, and stays.
        await connection.execute(
            "UPDATE reembed.owed SET rev = greatest(rev, %s) WHERE collection = %s AND rev < %s", [rev, shape.name, rev]
        )


def _change(row: tuple[Any, ...]) -> Change:
    found, rev, there, text, failed, text_hash = row
    return Change(Debt(found, rev), Document(found, text, rows.failure(failed)) if there else None, text_hash)


def _debts(debts: Sequence[Debt]) -> dict[str, Any]:
    return {"ids": [debt.id for debt in debts], "revs": [debt.rev for debt in debts]}


def _refused(collection: str, refused: Sequence[Rejected]) -> dict[str, Any]:
    return {
        "name": collection,
        "refused": [one.id for one in refused],
        "reasons": [one.reason for one in refused],
        "messages": [one.message for one in refused],
    }
