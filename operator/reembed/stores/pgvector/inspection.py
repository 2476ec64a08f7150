"""Looks at what a collection holds: `Inspecting` of the protocol, for the Job that inspects, and its outcomes.

Of a large table a sample of its pages is read, as many rows as its caller says, and every count is made in the
database: neither the time that an inspection takes nor its memory grows with the table. What takes long all the same
ends after `_SECONDS`, for its caller to ask for less. Nothing is locked, nothing written but the outcome.
A statement about vectors is written once for two kinds of collections (`_Vectors`): a table of Reembed's own beside the
source, and a column that the application's table has itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from reembed.core.fingerprint import chunking_of
from reembed.core.inspection import MOST, REPEATED
from reembed.core.model import Counted, InspectionReport, Norms, Survey
from reembed.stores.pgvector import inspections, rows, sampling, tables
from reembed.stores.pgvector.connection import Connection, Pooled, pool, transaction
from reembed.stores.pgvector.schema import extension_schema
from reembed.stores.protocol import Sampled, Source, StoreError

_SECONDS = 120.0
_EXAMPLES = 5
_QUIET = "SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)"

# A vector that the application's own table has is a column of the source. Databases of before have no such column.
_COLLECTION = """
SELECT c.fingerprint, c.metric, c.source, c.id_type, c.index_key, to_jsonb(c) ->> 'adopted'
FROM reembed.collection c WHERE c.name = %s"""

# Each row is a few numbers, so that all of them are small, however long the vectors are.
_OF_VECTORS = """
WITH v AS MATERIALIZED (
    SELECT {id}::text AS id, {extension}.vector_dims({vector}) AS dimensions, {extension}.{norm}({vector}) AS norm,
           {vector} OPERATOR({extension}.<#>) {vector} IN ('Infinity', '-Infinity', 'NaN') AS endless,
           sha256({extension}.{send}({vector})) AS digest, {text_hash} AS text_hash, {whole} AS whole
    FROM {vectors} WHERE {vector} IS NOT NULL
), usual AS (
    SELECT dimensions FROM v GROUP BY dimensions ORDER BY count(*) DESC, dimensions LIMIT 1
), same AS (
    SELECT digest, count(DISTINCT text_hash) FILTER (WHERE whole) AS texts, count(DISTINCT id) AS documents
    FROM v WHERE norm > 0 GROUP BY digest HAVING count(*) > 1
), many AS (
    SELECT digest FROM same WHERE documents > {many}
), usable AS (
    SELECT id, norm FROM v WHERE norm > 0 AND NOT endless
)
SELECT (SELECT count(*) FROM v),
       (SELECT jsonb_object_agg(d.dimensions, d.n) FROM (SELECT dimensions, count(*) AS n FROM v GROUP BY 1) d),
       ARRAY(SELECT id FROM v WHERE dimensions <> (SELECT dimensions FROM usual) ORDER BY id LIMIT {few}),
       (SELECT jsonb_build_array(min(norm), percentile_cont(0.5) WITHIN GROUP (ORDER BY norm), max(norm),
                                 count(*) FILTER (WHERE abs(norm - 1) > 0.01), count(*)) FROM usable),
       (SELECT coalesce(max(texts), 0) FROM same),
       {zero}, {endless}, {not_unit}, {shared}, {repeated}"""
_OF_DOCUMENTS = """
WITH d AS MATERIALIZED (
    SELECT s.{key}::text AS id, t.failed IS NOT NULL OR coalesce(t.text, '') !~ '\\S' AS bare, {there} AS there
    FROM {source} CROSS JOIN LATERAL {document} t (text, failed) WHERE s.{key} IS NOT NULL
), without AS (
    SELECT id FROM d WHERE NOT bare AND NOT there AND NOT {pending}
        AND NOT EXISTS (SELECT FROM reembed.rejected r WHERE r.collection = %(name)s AND r.id = d.id)
)
SELECT (SELECT count(*) FROM d), {without_text}, {without_vector}"""
# A document has at most one row of the source, and none where the row is outside its filter.
_OF_ORPHANS = """
WITH d AS MATERIALIZED (
    SELECT {id}::text AS id FROM {vectors}
    WHERE {vector} IS NOT NULL AND v.part = 0 AND NOT EXISTS (
        SELECT FROM {table} s CROSS JOIN LATERAL {document} t (text, failed) WHERE s.{key} = {id})
), orphans AS (SELECT id FROM d WHERE NOT {pending})
SELECT {orphans}"""
# What is on its way between source and collection is neither missing nor left over.
_PENDING = """(
    EXISTS (SELECT FROM reembed.owed o WHERE o.collection = %(name)s AND o.id = d.id)
    OR EXISTS (SELECT FROM reembed.dirty m WHERE m.index_key = %(key)s AND (m.id = d.id OR m.id IS NULL)))"""
# More than is asked for: of some the text has changed, or is gone.
_SAMPLE_OWN = """
SELECT v.id::text, t.text, v.embedding::text FROM (
    SELECT v.id, v.embedding, v.text_hash FROM {vectors} WHERE {vector} IS NOT NULL AND {whole}
    ORDER BY random() LIMIT 2 * %(count)s
) v JOIN {table} s ON s.{key} = v.id CROSS JOIN LATERAL {document} t (text, failed)
WHERE {readable} AND coalesce(v.text_hash = substring(sha256(convert_to(t.text, 'UTF8')) FOR 16), true)
LIMIT %(count)s"""
# A part is embedded again by itself, while the text that it was cut from is the document's still.
_SAMPLE_CUT = """
SELECT v.id::text, substring(t.text FROM v.starts + 1 FOR v.ends - v.starts), v.embedding::text FROM (
    SELECT v.id, v.embedding, v.starts, v.ends FROM {vectors} WHERE {vector} IS NOT NULL
    ORDER BY random() LIMIT 2 * %(count)s
) v JOIN {collection} w ON w.id = v.id AND w.part = 0
JOIN {table} s ON s.{key} = v.id CROSS JOIN LATERAL {document} t (text, failed)
WHERE {readable} AND w.text_hash = substring(sha256(convert_to(t.text, 'UTF8')) FOR 16)
LIMIT %(count)s"""
_SAMPLE_ADOPTED = """
SELECT {id}::text, t.text, {vector}::text FROM {vectors} WHERE {vector} IS NOT NULL AND {readable}
ORDER BY random() LIMIT %(count)s"""


@dataclass(frozen=True, slots=True)
class _Collection:
    """What a collection's row says, and its tables as statements name them."""

    name: str
    fingerprint: str
    metric: str
    source: Source
    id_type: str
    key: str  # of the index
    adopted: str | None  # the source's column that holds the vectors; None: a table of Reembed's own does
    kind: str  # of the vectors: vector or halfvec
    extension: str
    rows: int  # of the table that holds the vectors, about
    documents: int  # rows of the source, about
    source_sample: sql.Composable
    vector_sample: sql.Composable


@dataclass(frozen=True, slots=True)
class _Vectors:
    """How a statement reads vectors: what stands behind FROM, and a row's id, vector and the hash of its text."""

    vectors: sql.Composable
    id: sql.Composable
    vector: sql.Composable
    text_hash: sql.Composable
    whole: sql.Composable  # whether the vector is of a whole text, not of a part of it


def _vectors(of: _Collection, document: sql.Composable) -> _Vectors:
    """Return how the vectors of a collection are read; `document` is what `rows.each` gives."""
    if of.adopted is not None:
        return _Vectors(
            sql.SQL("{} CROSS JOIN LATERAL {} t (text, failed)").format(of.source_sample, document),
            sql.SQL("s.{}").format(tables.identifier(of.source.id_column)),
            sql.SQL("s.{}").format(tables.identifier(of.adopted)),
            sql.SQL("sha256(convert_to(t.text, 'UTF8'))"),
            sql.SQL("true"),
        )
    alone = sql.SQL("(v.part = 0 AND NOT EXISTS (SELECT FROM {} o WHERE o.id = v.id AND o.part > 0))")
    return _Vectors(
        of.vector_sample,
        sql.SQL("v.id"),
        sql.SQL("v.embedding"),
        sql.SQL("v.text_hash"),
        alone.format(tables.collection(of.name)),
    )


class InspectionStore(Pooled):
    """`async with InspectionStore(dsn) as store:`; one Job's connections."""

    def __init__(self, dsn: str, seconds: float = _SECONDS) -> None:
        super().__init__(pool(dsn, 2, "reembed-inspect", timeout=10))
        self._seconds = seconds

    async def survey(self, collection: str, most: int = MOST) -> Survey:
        of = await self._collection(collection, most)

        async def read(document: sql.Composable) -> Survey:
            async with transaction(self._pool, self._seconds) as connection:
                await connection.execute(_QUIET)
                return await _survey(connection, of, document, most)

        return await rows.each(of.source, of.id_type, read)

    async def sample(self, collection: str, count: int, most: int = MOST) -> list[Sampled]:
        of = await self._collection(collection, most)

        async def read(document: sql.Composable) -> list[Sampled]:
            async with transaction(self._pool, self._seconds) as connection:
                await connection.execute(_QUIET)
                cursor = await connection.execute(_sampling(of, document), {"count": count})
                return [Sampled(one, text, sampling.parsed(vector)) for one, text, vector in await cursor.fetchall()]

        return await rows.each(of.source, of.id_type, read)

    async def record(self, report: InspectionReport) -> None:
        await inspections.record(self._pool, report)

    async def _collection(self, name: str, most: int) -> _Collection:
        async with transaction(self._pool, self._seconds) as connection:
            row = await (await connection.execute(_COLLECTION, [name])).fetchone()
            if row is None:
                raise StoreError(
                    f"collection {name} does not exist, so nothing was inspected; status.collections has names"
                )
            fingerprint, metric, raw, id_type, key, adopted = row
            source = tables.source_from(raw)
            documents_of = (source.schema, source.table)
            of_source, documents, _ = await sampling.relation(connection, documents_of, "s", "", most)
            table, column = (documents_of, adopted) if adopted else (("reembed", name), "embedding")
            of_vectors, there, kind = await sampling.relation(connection, table, "v", column, most)
            return _Collection(
                name, fingerprint, metric, source, id_type, key, adopted, kind, await extension_schema(connection),
                there, documents, of_source, of_vectors,
            )  # fmt: skip


async def _survey(connection: Connection, of: _Collection, document: sql.Composable, most: int) -> Survey:
    given = {"name": of.name, "key": of.key}
    of_vectors = await (await connection.execute(_counting(of, document), given)).fetchone()
    of_documents = await (await connection.execute(_documents(of, document), given)).fetchone()
    orphans: Any = (0, [])
    if of.adopted is None:
        orphans = await (await connection.execute(_orphans(of, document), given)).fetchone()
    if of_vectors is None or of_documents is None:  # aggregates have a row; said for the type checker
        raise StoreError(f"nothing was counted of {of.name}")
    count, dimensions, others, norms, most_texts, *pairs = of_vectors
    zero, endless, not_unit, shared, repeated = _pairs(pairs)
    without_text, without_vector = _pairs(of_documents[1:])
    read = of_documents[0]
    return Survey(
        collection=of.name,
        fingerprint=of.fingerprint,
        metric=of.metric,
        documents=of.documents if of.documents > most else read,
        read=read,
        vectors=count,
        dimensions={int(one): found for one, found in (dimensions or {}).items()},
        other_dimensions=tuple(others),
        norms=_norms(*norms) if norms[-1] else None,
        zero=zero,
        not_finite=endless,
        not_unit=not_unit,
        shared=shared,
        most_texts=most_texts,
        repeated=repeated,
        without_text=without_text,
        without_vector=without_vector,
        without_document=_pairs(orphans)[0],
    )


def _norms(least: float, median: float, most: float, outside: int, counted: int) -> Norms:
    return Norms(round(least, 6), round(median, 6), round(most, 6), outside, counted)


def _counting(of: _Collection, document: sql.Composable) -> sql.Composed:
    return sql.SQL(_OF_VECTORS).format(
        **_parts(_vectors(of, document)),
        **_names(of),
        few=sql.Literal(_EXAMPLES),
        zero=_counted("v", "norm = 0"),
        endless=_counted("v", "endless"),
        not_unit=_counted("usable", "abs(norm - 1) > 0.01"),
        shared=_counted("v", "whole AND digest IN (SELECT digest FROM same WHERE texts > 1)"),
        repeated=_counted("v", "digest IN (SELECT digest FROM many)"),
        many=sql.Literal(REPEATED),
    )


def _documents(of: _Collection, document: sql.Composable) -> sql.Composed:
    key = tables.identifier(of.source.id_column)
    if of.adopted is not None:
        there: sql.Composable = sql.SQL("s.{} IS NOT NULL").format(tables.identifier(of.adopted))
    else:
        there = sql.SQL(
            "EXISTS (SELECT FROM {} v WHERE v.id = s.{} AND v.part = 0 AND v.embedding IS NOT NULL)"
        ).format(tables.collection(of.name), key)
    return sql.SQL(_OF_DOCUMENTS).format(
        key=key,
        there=there,
        source=of.source_sample,
        document=document,
        pending=sql.SQL(_PENDING),
        without_text=_counted("d", "bare"),
        without_vector=_counted("without", "true"),
    )


def _orphans(of: _Collection, document: sql.Composable) -> sql.Composed:
    return sql.SQL(_OF_ORPHANS).format(
        **_parts(_vectors(of, document)),
        key=tables.identifier(of.source.id_column),
        table=tables.table(of.source),
        document=document,
        pending=sql.SQL(_PENDING),
        orphans=_counted("orphans", "true"),
    )


def _sampling(of: _Collection, document: sql.Composable) -> sql.Composed:
    kind = _SAMPLE_ADOPTED if of.adopted is not None else _SAMPLE_CUT if chunking_of(of.fingerprint) else _SAMPLE_OWN
    return sql.SQL(kind).format(
        **_parts(_vectors(of, document)),
        collection=tables.collection(of.name),
        key=tables.identifier(of.source.id_column),
        table=tables.table(of.source),
        document=document,
        readable=sampling.readable(),
    )


def _parts(by: _Vectors) -> dict[str, sql.Composable]:
    return {
        "vectors": by.vectors,
        "id": by.id,
        "vector": by.vector,
        "text_hash": by.text_hash,
        "whole": by.whole,
    }


def _names(of: _Collection) -> dict[str, sql.Composable]:
    """Return the functions of the vectors' type, whose names differ."""
    return {
        "extension": tables.identifier(of.extension),
        "norm": sql.SQL("vector_norm" if of.kind == "vector" else "l2_norm"),
        "send": tables.identifier(f"{of.kind}_send"),
    }


def _counted(of: str, which: str) -> sql.SQL:
    """Return SQL for how many rows there are, and a few of their ids."""
    return sql.SQL(
        f"(SELECT count(*) FROM {of} WHERE {which}), "  # noqa: S608 constants of this module
        f"ARRAY(SELECT DISTINCT id FROM {of} WHERE {which} ORDER BY id LIMIT {_EXAMPLES})"
    )


def _pairs(columns: Any) -> list[Counted]:
    """Return what columns that are counts and ids by turns say."""
    return [Counted(count, tuple(ids)) for count, ids in zip(columns[::2], columns[1::2], strict=True)]
