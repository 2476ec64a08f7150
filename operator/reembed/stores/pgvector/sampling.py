"""Samples of a table's rows: by its pages where it is large, so that their cost does not grow with it.

Used by the inspection, and by the look at columns that applications keep themselves.
"""

from __future__ import annotations

from array import array
from sys import byteorder

from psycopg import sql

from reembed.stores.pgvector import tables
from reembed.stores.pgvector.connection import Connection
from reembed.stores.protocol import StoreError

# A text is read whole to be embedded again; 200 of these fit into the memory of an inspection's Job.
_LONGEST_TEXT = 256 << 10
_RELATION = """
SELECT c.relkind IN ('r', 'm', 'p'), greatest(c.reltuples, 0)::bigint, t.typname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %s AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %s AND c.relname = %s"""


async def relation(
    connection: Connection, table: tuple[str, str], alias: str, column: str, most: int
) -> tuple[sql.Composable, int, str]:
    """Return what stands behind FROM for at most `most` rows or so, how many there are, and the type of a column."""
    can_be_sampled, there, kind = await _described(connection, table, column)
    if not can_be_sampled:
        return _first(table, alias, most), 0, kind
    if not there:
        there = await _estimated(connection, table, most)
    return _sampled(table, alias, most, there), there, kind


async def few(connection: Connection, table: tuple[str, str], alias: str, most: int) -> sql.Composable:
    """Return what stands behind FROM for at most `most` rows or so of a table that is never counted for that."""
    can_be_sampled, there, _ = await _described(connection, table, "")
    return _sampled(table, alias, most, there) if can_be_sampled and there else _first(table, alias, most)


def readable() -> sql.Composable:
    """Return whether a document `t` has a text that can be embedded."""
    longest = sql.Literal(_LONGEST_TEXT)
    return sql.SQL("t.failed IS NULL AND t.text ~ '\\S' AND octet_length(t.text) <= {}").format(longest)


def parsed(written: str) -> bytes:
    """Return a vector as it is written in SQL as little-endian float32."""
    # Who looks at a few vectors, as an agent of the panel does, has no numpy.
    numbers = array("f", map(float, written.strip("[]").split(",")))
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


async def _described(connection: Connection, table: tuple[str, str], column: str) -> tuple[bool, int, str]:
    row = await (await connection.execute(_RELATION, [column, *table])).fetchone()
    if row is None:
        raise StoreError(f"{tables.identifier(*table).as_string()} is gone, so nothing was looked at")
    return row[0], row[1], str(row[2])


async def _estimated(connection: Connection, table: tuple[str, str], most: int) -> int:
    """Return how many rows a table has that nobody has analysed: counted if they are few, else by the planner's word.

    To count all of a large one takes as long as to read it.
    """
    every = sql.SQL("SELECT FROM {}").format(tables.identifier(*table))
    counting = sql.SQL("SELECT count(*) FROM ({} LIMIT {}) r").format(every, sql.Literal(most + 1))
    (counted,) = await (await connection.execute(counting, [])).fetchone() or (0,)
    if counted <= most:
        return int(counted)
    explaining = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(every)
    (planned,) = await (await connection.execute(explaining, [])).fetchone() or ([],)
    return max([int(counted), *(int(one["Plan"]["Plan Rows"]) for one in planned)])


def _first(table: tuple[str, str], alias: str, most: int) -> sql.Composable:
    limit = sql.Literal(most)
    return sql.SQL("(SELECT * FROM {} LIMIT {}) {}").format(tables.identifier(*table), limit, sql.SQL(alias))


def _sampled(table: tuple[str, str], alias: str, most: int, there: int) -> sql.Composable:
    name = sql.SQL("{} {}").format(tables.identifier(*table), sql.SQL(alias))
    if there <= most:
        return name
    return sql.SQL("{} TABLESAMPLE SYSTEM ({})").format(name, sql.Literal(100.0 * most / there))
