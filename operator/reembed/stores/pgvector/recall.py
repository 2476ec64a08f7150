"""What a vector index finds of what there is: its answers beside those of a comparison with every vector.

Up to 200 stored vectors are the queries; each is looked for among all others. An answer counts if it is no farther than
the last of the exact ones, so that equal vectors may stand for each other. The index is asked with the settings that
`reembed.find` asks it with. An exact answer reads the whole table: each has a transaction of its own, which keeps
vacuum from nothing for long, no parallel workers, and all of them two minutes, after which what was asked is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from psycopg import sql
from psycopg.errors import QueryCanceled

from reembed.core.model import Problem
from reembed.stores.pgvector import tables
from reembed.stores.pgvector.connection import Connection, Pool, transaction
from reembed.stores.pgvector.schema import extension_schema
from reembed.stores.protocol import StoreError, Unfit

_K = 10
_QUERIES = 200
_SECONDS = 120.0
_QUERY_SECONDS = 600.0  # the first is waited for so long
_OPERATOR = {"Cosine": "<=>", "InnerProduct": "<#>", "Euclidean": "<->"}

_SETTINGS = """
SELECT set_config(split_part(one, '=', 1), substr(one, strpos(one, '=') + 1), true)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, unnest(p.proconfig) one
WHERE n.nspname = 'reembed' AND p.proname = 'find' AND one LIKE 'hnsw.%'"""
_QUIET = "SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)"
# Whatever the planner thinks of a small table, it is the index that is asked.
_BY_INDEX = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true)"
_BY_ALL = "SELECT set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'on', true)"
_SAMPLE = "SELECT id::text, part FROM {table} WHERE embedding IS NOT NULL ORDER BY random() LIMIT %s"
_VECTOR = "SELECT embedding::text FROM {table} WHERE id = %s::{id_type} AND part = %s AND embedding IS NOT NULL"
# `+ 0` hides the order from the index: every vector is compared.
_NEAREST = """
SELECT c.embedding OPERATOR({extension}.{operator}) %(vector)s::{extension}.{kind} AS distance FROM {table} c
WHERE c.embedding IS NOT NULL AND (c.id, c.part) <> (%(id)s::{id_type}, %(part)s)
ORDER BY (c.embedding OPERATOR({extension}.{operator}) %(vector)s::{extension}.{kind}){hidden} LIMIT %(k)s"""


@dataclass(frozen=True, slots=True)
class Recall:
    """The share of the nearest vectors that an index found, by so many queries."""

    share: float
    queries: int


async def measure(connections: Pool, name: str) -> Recall | None:
    """Return what the collection's index finds; None if there are no two vectors to compare.

    Raises:
        Unfit: not one exact answer came in time.

    """
    queries = 0
    try:
        parts, sample = await _prepared(connections, name)
        clock = asyncio.get_running_loop().time
        ends = clock() + _SECONDS
        found = expected = 0
        for given in sample:
            if queries and clock() > ends:
                break
            hit, nearest = await _asked(connections, parts, *given)
            found, expected, queries = found + hit, expected + nearest, queries + bool(nearest)
    except StoreError as error:
        if queries or not isinstance(error.__cause__, QueryCanceled):
            raise
        raise _unmeasured(name) from error
    return Recall(found / expected, queries) if expected else None


async def _prepared(connections: Pool, name: str) -> tuple[dict[str, sql.Composable], list[tuple[str, int]]]:
    """Return what statements about the collection are made of, and which of its vectors are the queries."""
    async with transaction(connections, _QUERY_SECONDS) as connection:
        query = "SELECT type, metric, id_type FROM reembed.collection WHERE name = %s"
        row = await (await connection.execute(query, [name])).fetchone()
        if row is None:
            raise StoreError(f"collection {name} does not exist, so its index was not measured")
        kind, metric, id_type = row
        parts: dict[str, sql.Composable] = {
            "table": tables.collection(name),
            "extension": tables.identifier(await extension_schema(connection)),
            "operator": sql.SQL(_OPERATOR[metric]),
            "kind": tables.identifier(kind),
            "id_type": tables.written(id_type),
        }
        cursor = await connection.execute(sql.SQL(_SAMPLE).format(**parts), [_QUERIES])
        return parts, [(found, part) for found, part in await cursor.fetchall()]


async def _asked(connections: Pool, parts: dict[str, sql.Composable], found: str, part: int) -> tuple[int, int]:
    """Return how many of the nearest vectors the index finds, and how many there are."""
    async with transaction(connections, _QUERY_SECONDS) as connection:
        row = await (await connection.execute(sql.SQL(_VECTOR).format(**parts), [found, part])).fetchone()
        if row is None:  # it was deleted meanwhile
            return 0, 0
        given = {"vector": row[0], "id": found, "part": part, "k": _K}
        await connection.execute(_QUIET)
        await connection.execute(_SETTINGS)
        await connection.execute(_BY_INDEX)
        near = await _distances(connection, sql.SQL(_NEAREST).format(**parts, hidden=sql.SQL("")), given)
        await connection.execute(_BY_ALL)
        exact = await _distances(connection, sql.SQL(_NEAREST).format(**parts, hidden=sql.SQL(" + 0")), given)
    return hits(near, exact), len(exact)


def hits(near: Sequence[float], exact: Sequence[float]) -> int:
    """Return how many of the answers are as near as the exact ones."""
    if not exact:
        return 0
    last = exact[-1] + 1e-9 * max(1.0, abs(exact[-1]))
    return min(sum(1 for one in near if one <= last), len(exact))


async def _distances(connection: Connection, query: sql.Composed, given: dict[str, object]) -> list[float]:
    """Return the distances that are numbers: a vector of zeros has no direction, and no index holds it."""
    rows = await (await connection.execute(query, given)).fetchall()
    return [float(distance) for (distance,) in rows if not isnan(distance)]


def _unmeasured(name: str) -> Unfit:
    return Unfit(
        Problem(
            "IndexRecallUnmeasured",
            f"a comparison of one vector with all of {name} took longer than {_QUERY_SECONDS:g} s, so what its index"
            " finds is not known, and it answers nothing; it is tried again. Give the database more memory, or set"
            " spec.vectorIndex.minRecall of the index to 0, which measures nothing",
        )
    )
