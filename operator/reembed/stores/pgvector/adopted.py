"""Vectors in a column of the application's own table: recorded as a collection, and kept fresh if Reembed is asked to.

Nothing is copied, and the column is written only where `spec.adopted.maintainedBy` says so. There is then no row of
Reembed's own beside a vector, so no revision and no hash of a text; what stands in their place is the text itself: a
vector is written only while the row's text is still the one that was embedded, seen under the row's lock. Rows that
somebody holds are passed over and stay owed, and each is written in a transaction of its own: the application never
waits for more than one row's update, and never for an embedder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from reembed.core.model import Adopted, CollectionPlan, IndexSpec, MaintainedBy, Metric, Problem
from reembed.stores.pgvector import rows, tables
from reembed.stores.pgvector.binary import vector_array, vector_cursor, vector_type
from reembed.stores.pgvector.connection import Connection, Pool, transaction, using
from reembed.stores.pgvector.shape import Shape
from reembed.stores.protocol import Differences, Paid, Rejected, StoreError, Unfit, Written

log = logging.getLogger(__name__)

_SECONDS = 15.0
_SCAN_SECONDS = 1800.0
_COMPARE_SECONDS = 120.0

_COLUMN = """
SELECT t.typname, a.atttypmod, a.attnotnull, a.attgenerated <> '',
       has_column_privilege(c.oid, a.attname, 'SELECT'), has_column_privilege(c.oid, a.attname, 'UPDATE'), current_user
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped"""
_INDEXES = """
SELECT o.opcname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am m ON m.oid = ic.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND m.amname IN ('hnsw', 'ivfflat') AND i.indisvalid"""
_INSERT = """
INSERT INTO reembed.collection
    (name, index_key, uid, fingerprint, dimensions, type, metric, id_type, source, total, state, adopted, maintained)
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 'Filling', %s, %s
ON CONFLICT (name) DO NOTHING"""
_TWICE = """
SELECT c.index_key FROM reembed.collection c
WHERE c.adopted = %s AND c.source ->> 'schema' = %s AND c.source ->> 'table' = %s AND c.name <> %s
  AND c.state <> 'Withdrawn' AND (c.fingerprint <> %s OR c.maintained OR %s)"""
# A debt that grew is of a newer text, which whoever owes it next will read; one that is gone was paid with that.
_DEBT = "SELECT FROM reembed.owed WHERE collection = %(name)s AND id = %(id)s AND rev = %(rev)s FOR UPDATE"
_LOCK = "SELECT FROM {table} s WHERE s.{id} = %(id)s::{type} FOR NO KEY UPDATE SKIP LOCKED"
_WRITE = """
UPDATE {table} s SET {column} = (%(vectors)b::{extension}.vector[])[1]::{extension}.{kind}
WHERE s.{id} = %(id)s::{type} AND EXISTS (
    SELECT FROM {document} t (text, failed) WHERE substring(sha256(convert_to(t.text, 'UTF8')) FOR 16) = %(hash)s)"""
_ERASE = "UPDATE {table} s SET {column} = NULL WHERE s.{id} = %(id)s::{type}"
_GONE = """
SELECT NOT EXISTS (
    SELECT FROM {table} s CROSS JOIN LATERAL {document} t (text, failed) WHERE s.{id} = %(id)s::{type})"""
_MISSING = """
WITH page AS MATERIALIZED (
    SELECT s.{id} AS id, t.text IS NOT NULL AS wanted, s.{column} IS NOT NULL AS there
    FROM {table} s CROSS JOIN LATERAL {document} t (text, failed)
    WHERE s.{id} IS NOT NULL AND {after} ORDER BY s.{id} LIMIT %(limit)s
), found AS (
    SELECT p.id::text AS id, p.wanted FROM page p WHERE (p.wanted <> p.there OR (%(all)s AND p.wanted))
      AND (p.there OR NOT EXISTS (
          SELECT FROM reembed.rejected r WHERE r.collection = %(name)s AND r.id = p.id::text))
      AND NOT EXISTS (SELECT FROM reembed.owed o WHERE o.collection = %(name)s AND o.id = p.id::text)
      AND NOT EXISTS (SELECT FROM reembed.dirty m WHERE m.index_key = %(key)s AND (m.id = p.id::text OR m.id IS NULL))
), owing AS (
    INSERT INTO reembed.owed AS o (collection, id, rev, at)
    SELECT c.name, f.id, 0, clock_timestamp() FROM found f CROSS JOIN (SELECT name FROM reembed.collection
        WHERE name = %(name)s AND state IN ('Filling', 'Indexed') FOR SHARE) c ORDER BY f.id
    ON CONFLICT (collection, id) DO NOTHING
)
SELECT count(*) FILTER (WHERE wanted), count(*) FILTER (WHERE NOT wanted),
       CASE WHEN (SELECT count(*) FROM page) >= %(limit)s
            THEN (SELECT p.id::text FROM page p ORDER BY p.id DESC LIMIT 1) END
FROM found"""
# The epoch of capture moved since the last whole comparison; before the first, the application had kept the column.
_MISSED = """
SELECT c.epoch > 0 AND EXISTS (SELECT FROM reembed.capture k WHERE k.index_key = %(key)s AND k.epoch <> c.epoch)
FROM reembed.collection c WHERE c.name = %(name)s"""
_CLEAR = "DELETE FROM reembed.owed WHERE collection = %(name)s AND id = %(id)s AND rev = %(rev)s"
_ACCEPT = "DELETE FROM reembed.rejected WHERE collection = %(name)s AND id = %(id)s"
_REFUSE = """
INSERT INTO reembed.rejected (collection, id, reason, message) VALUES (%(name)s, %(id)s, %(reason)s, %(message)s)
ON CONFLICT (collection, id) DO UPDATE SET reason = excluded.reason, message = excluded.message, at = now()"""

_OF_METRIC = {Metric.COSINE: "cosine", Metric.INNER_PRODUCT: "ip", Metric.EUCLIDEAN: "l2"}


async def adopt(connections: Pool, owner: tuple[str, str], spec: IndexSpec, plan: CollectionPlan) -> None:
    """Record the column as a collection that answers; nothing happens if it is there.

    Raises:
        Unfit: the column is not what `spec.adopted` says.

    """
    adopted, source = spec.adopted, tables.source_of(spec)
    if adopted is None:
        raise Unfit(Problem("AdoptedColumnMissing", "spec.adopted is gone, so its column was not adopted"))
    async with using(connections, _SECONDS) as connection:
        kind, declared = await _column(connection, spec, adopted, plan)
        await _metric_fits(connection, spec, adopted)
        extension, _ = await vector_type(connection)
    # From here on changes are owed to it: one that is made while the column is looked at must not be missed.
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('reembed.adopted', 0))")
        await _of_one_model(connection, spec, adopted, plan)
        key = await tables.key_of(connection, source)
        maintained = adopted.maintained_by is MaintainedBy.REEMBED
        await connection.execute(
            _INSERT,
            [plan.name, *owner, plan.fingerprint, plan.dimensions, kind, spec.metric.value, key.type,
             Jsonb(tables.source_row(source)), adopted.column, maintained],
        )  # fmt: skip
    async with transaction(connections, _SCAN_SECONDS) as connection:
        if not declared:
            await _of_one_length(connection, spec, adopted, plan, extension)
        counted = sql.SQL("SELECT count(*) FROM {} s WHERE s.{} IS NOT NULL").format(
            tables.table(source), tables.identifier(adopted.column)
        )
        total = (await (await connection.execute(counted, [])).fetchone() or (0,))[0]
        await connection.execute(
            "UPDATE reembed.collection SET state = 'Indexed', total = %s WHERE name = %s AND state = 'Filling'",
            [total, plan.name],
        )


async def pay(connections: Pool, shape: Shape, paid: Sequence[Paid]) -> int:
    """Write outcomes into the column, a row at a time, and clear the debts of what was written."""
    cleared = 0
    for one in paid:

        async def write(document: sql.Composable, one: Paid = one) -> bool:
            async with transaction(connections, _SECONDS) as connection:
                return await _pay(connection, shape, document, one)

        try:
            cleared += await rows.each(tables.source_from(shape.source), shape.id_type, write)
        except StoreError as error:
            if not rows.by_row(error):
                raise
            # A constraint or a trigger of the application's refuses this row; it stays owed, and keeps no other back.
            log.warning("document %s of %s cannot be written: %s", one.debt.id, shape.name, error)
    return cleared


async def compare(
    connections: Pool, key: str, shape: Shape, after: str | None, limit: int
) -> tuple[Differences, str | None]:
    """Compare the next documents with the column as far as that can be: a text has a vector, no text has none.

    Nobody knows of which text a vector is. Where changes may have been missed, all of them are owed.
    """
    async with using(connections, _SECONDS) as connection:
        missed = await (await connection.execute(_MISSED, {"name": shape.name, "key": key})).fetchone() == (True,)
    behind = sql.SQL("true") if after is None else sql.SQL("s.{id} > %(after)s::{type}").format(**_parts(shape))
    given = {"after": after, "limit": limit, "name": shape.name, "key": key, "all": missed}

    async def read(document: sql.Composable) -> Any:
        query = sql.SQL(_MISSING).format(**_parts(shape), document=document, after=behind)
        async with transaction(connections, _COMPARE_SECONDS) as connection:
            return await (await connection.execute(query, given)).fetchone()

    missing, stale, last = await rows.each(tables.source_from(shape.source), shape.id_type, read)
    return Differences(missing, stale), last


async def _pay(connection: Connection, shape: Shape, document: sql.Composable, one: Paid) -> bool:
    given: dict[str, Any] = {"name": shape.name, "id": one.debt.id, "rev": one.debt.rev}
    if (await connection.execute(_DEBT, given)).rowcount == 0:
        return False
    if not await _settled(connection, shape, document, one):
        return False
    if isinstance(one.outcome, Rejected):
        refused = {"reason": one.outcome.reason, "message": one.outcome.message}
        await connection.execute(_REFUSE, {"name": shape.name, "id": one.debt.id} | refused)
    else:
        await connection.execute(_ACCEPT, {"name": shape.name, "id": one.debt.id})
    await connection.execute(_CLEAR, given)
    return True


async def _settled(connection: Connection, shape: Shape, document: sql.Composable, one: Paid) -> bool:
    """Return whether the column is as the outcome says; false if the text is another by now, or somebody holds it."""
    parts, given = {**_parts(shape), "document": document}, {"id": one.debt.id}
    gone = await (await connection.execute(sql.SQL(_GONE).format(**parts), given)).fetchone()
    if one.outcome is None or gone == (True,):
        return gone == (True,)
    if (await connection.execute(sql.SQL(_LOCK).format(**parts), given)).rowcount == 0:
        return False
    if not isinstance(one.outcome, Written):
        return (await connection.execute(sql.SQL(_ERASE).format(**parts), given)).rowcount > 0
    extension, oid = await vector_type(connection)
    vectors = vector_array([one.outcome.vector], shape.dimensions, oid)
    cursor = vector_cursor(connection)
    await cursor.execute(
        sql.SQL(_WRITE).format(**parts, extension=tables.identifier(extension)),
        given | {"vectors": vectors, "hash": one.outcome.text_hash},
    )
    return cursor.rowcount > 0


def _parts(shape: Shape) -> dict[str, sql.Composable]:
    source = tables.source_from(shape.source)
    return {
        "type": tables.written(shape.id_type),
        "table": tables.table(source),
        "id": tables.identifier(source.id_column),
        "column": tables.identifier(shape.adopted or ""),
        "kind": tables.identifier(shape.kind),
    }


async def _column(connection: Connection, spec: IndexSpec, adopted: Adopted, plan: CollectionPlan) -> tuple[str, bool]:
    """Return the column's type and whether its dimensions are declared, or raise Unfit."""
    cursor = await connection.execute(_COLUMN, [spec.schema, spec.table, adopted.column])
    row = await cursor.fetchone()
    name, table = _quoted(adopted.column), _quoted(spec.schema, spec.table)
    if row is None:
        raise _unfit("AdoptedColumnMissing", f"{table} has no column {name}", "add it or create another index")
    kind, dimensions, filled, generated, read, write, user = row
    maintained = adopted.maintained_by is MaintainedBy.REEMBED
    findings = (
        (kind in {"vector", "halfvec"}, "AdoptedColumnUnsupported", f"column {name} of {table} is of type {kind}",
         "adopt a column of type vector or halfvec"),
        (dimensions in {-1, plan.dimensions}, "AdoptedDimensions",
         f"column {name} of {table} holds {dimensions} dimensions and the model of pool {adopted.pool!r} has"
         f" {plan.dimensions}: that pool did not make these vectors", "name the pool whose model did"),
        (read, "PrivilegesMissing", f"role {_quoted(user)} may not read column {name} of {table}",
         f"run GRANT SELECT ({name}) ON {table} TO {_quoted(user)}; as an administrator"),
        (write or not maintained, "PrivilegesMissing", f"role {_quoted(user)} may not write column {name} of {table}",
         f"run GRANT UPDATE ({name}) ON {table} TO {_quoted(user)}; as an administrator, or let the application "
         "maintain it"),
        (not maintained or not filled, "AdoptedColumnNotNull", f"column {name} of {table} is NOT NULL, and whoever "
         "maintains it must be able to say that a text has no vector yet",
         f"run ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL; or let the application maintain it"),
        (not maintained or not generated, "AdoptedColumnUnsupported", f"column {name} of {table} is generated",
         "let the application maintain it"),
    )  # fmt: skip
    for holds, reason, found, remedy in findings:
        if not holds:
            raise _unfit(reason, found, remedy)
    return kind, dimensions != -1


async def _metric_fits(connection: Connection, spec: IndexSpec, adopted: Adopted) -> None:
    cursor = await connection.execute(_INDEXES, [spec.schema, spec.table, adopted.column])
    found = [name for (name,) in await cursor.fetchall()]
    if found and not any(name.endswith(f"_{_OF_METRIC[spec.metric]}_ops") for name in found):
        raise _unfit(
            "AdoptedMetric",
            f"the vector index of column {_quoted(adopted.column)} is built with {', '.join(found)} and spec.metric is "
            f"{spec.metric.value}, so it would not be used",
            "create another EmbeddingIndex with the metric that the application compares by",
        )


async def _of_one_model(connection: Connection, spec: IndexSpec, adopted: Adopted, plan: CollectionPlan) -> None:
    """Refuse a column in which another index has vectors of another model, or that one of both writes."""
    maintained = adopted.maintained_by is MaintainedBy.REEMBED
    given = [adopted.column, spec.schema, spec.table, plan.name, plan.fingerprint, maintained]
    other = await (await connection.execute(_TWICE, given)).fetchone()
    if other is not None:
        raise _unfit(
            "AdoptedTwice",
            f"index {other[0]} has adopted column {_quoted(adopted.column)} already, with another model, or "
            "Reembed writes it",
            "adopt it once, or let the application maintain it for both",
        )


async def _of_one_length(
    connection: Connection, spec: IndexSpec, adopted: Adopted, plan: CollectionPlan, extension: str
) -> None:
    query = sql.SQL("SELECT count(*) FROM {table} s WHERE {extension}.vector_dims(s.{column}) <> %s").format(
        table=tables.identifier(spec.schema, spec.table),
        column=tables.identifier(adopted.column),
        extension=tables.identifier(extension),
    )
    others = await (await connection.execute(query, [plan.dimensions])).fetchone()
    if others != (0,):
        raise _unfit(
            "AdoptedDimensions",
            f"column {_quoted(adopted.column)} of {_quoted(spec.schema, spec.table)} has {(others or (0,))[0]} vectors "
            f"of other lengths than the {plan.dimensions} of the model of pool {adopted.pool!r}",
            "embed these rows again or set them to NULL",
        )


def _unfit(reason: str, found: str, remedy: str) -> Unfit:
    return Unfit(Problem(reason, f"{found}, so the column was not adopted and nothing answers; {remedy}"))


def _quoted(*parts: str) -> str:
    return sql.Identifier(*parts).as_string()
