"""Labelled queries and the outcomes of comparing models with them; read and kept in the index's own database."""

from __future__ import annotations

from collections import defaultdict

from psycopg import sql

from reembed.core.model import EvaluationReport, EvaluationSpec, IndexSpec
from reembed.stores.pgvector import tables
from reembed.stores.pgvector.connection import Pool, transaction, using
from reembed.stores.pgvector.preflight import evaluation_table
from reembed.stores.protocol import Labels, Unfit

_SECONDS = 600.0
_COLUMNS = "id, verdict, queries, k, mrr_serving, mrr_candidate, low, high, message"
_RECORD = f"""
INSERT INTO reembed.evaluation (index_key, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO NOTHING"""  # noqa: S608 the columns are the constant above


async def labels(connections: Pool, spec: EvaluationSpec, index: IndexSpec) -> Labels:
    """Return the relevant documents of each query; labels of documents that left the source are dropped and counted.

    Raises:
        Unfit: the table or one of its columns is missing or may not be read.

    """
    source = tables.source_of(index)
    query = sql.SQL(
        "SELECT e.{query}::text, e.{id}::text, s.{key} IS NOT NULL FROM {labels} e"
        " LEFT JOIN {source} s ON s.{key}::text = e.{id}::text WHERE e.{query} IS NOT NULL AND e.{id} IS NOT NULL"
    ).format(
        query=tables.identifier(spec.query_column),
        id=tables.identifier(spec.id_column),
        key=tables.identifier(source.id_column),
        labels=tables.identifier(spec.schema, spec.table),
        source=tables.table(source),
    )
    async with transaction(connections, _SECONDS) as connection:
        columns = (spec.query_column, spec.id_column)
        if (problem := await evaluation_table(connection, spec.schema, spec.table, columns)) is not None:
            raise Unfit(problem)
        rows = await (await connection.execute(query, [])).fetchall()
    relevant: dict[str, set[str]] = defaultdict(set)
    for text, document, present in rows:
        if present and text.strip():
            relevant[text].add(document)
    return Labels(
        {text: frozenset(relevant[text]) for text in sorted(relevant)}, sum(not present for _, _, present in rows)
    )


async def recorded(connections: Pool, evaluation_id: str) -> EvaluationReport | None:
    async with using(connections, _SECONDS) as connection:
        query = f"SELECT {_COLUMNS} FROM reembed.evaluation WHERE id = %s"  # noqa: S608 the constant above
        row = await (await connection.execute(query, [evaluation_id])).fetchone()
        return EvaluationReport(*row) if row else None


async def record(connections: Pool, index_key: str, report: EvaluationReport) -> None:
    """Keep an outcome; the first one of its id holds, whoever else came to another."""
    async with transaction(connections, 15) as connection:
        await connection.execute(
            _RECORD,
            [index_key, report.id, report.verdict, report.queries, report.k, report.mrr_serving, report.mrr_candidate,
             report.low, report.high, report.message],
        )  # fmt: skip
