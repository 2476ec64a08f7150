"""Labelled queries and the outcomes of comparing models with them; read and kept in the index's own database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from reembed.core.model import EvaluationReport, EvaluationSpec, IndexSpec, MetricReport, SliceReport
from reembed.stores.pgvector import rows, tables
from reembed.stores.pgvector.connection import Pool, transaction, using
from reembed.stores.pgvector.preflight import evaluation_table
from reembed.stores.pgvector.tables import identifier as _name
from reembed.stores.protocol import Labels, Source, Unfit

_SECONDS = 600.0
_COLUMNS = "id, verdict, queries, k, mrr_serving, mrr_candidate, low, high, message, metrics, slices"
_RECORD = f"""
INSERT INTO reembed.evaluation (index_key, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO NOTHING"""  # noqa: S608 the columns are the constant above


async def labels(connections: Pool, spec: EvaluationSpec, index: IndexSpec) -> Labels:
    """Return the relevant documents of each query; labels of documents that left the source are dropped and counted.

    Raises:
        Unfit: the table or one of its columns is missing or may not be read.

    """
    source = tables.source_of(index)
    slices = sql.SQL("NULL") if spec.slice_column is None else sql.SQL("e.{}").format(_name(spec.slice_column))

    async def read(document: sql.Composable) -> list[Any]:
        query = sql.SQL(
            "SELECT e.{query}::text, e.{id}::text, d.name IS NOT NULL, {slices}::text FROM {labels} e"
            " LEFT JOIN ({documents}) d ON d.name = e.{id}::text"
            " WHERE e.{query} IS NOT NULL AND e.{id} IS NOT NULL"
        ).format(
            query=_name(spec.query_column),
            id=_name(spec.id_column),
            slices=slices,
            labels=_name(spec.schema, spec.table),
            documents=_documents(source, document),
        )
        async with transaction(connections, _SECONDS) as connection:
            return await (await connection.execute(query, [])).fetchall()

    async with transaction(connections, _SECONDS) as connection:
        columns = (spec.query_column, spec.id_column, *([spec.slice_column] if spec.slice_column else []))
        if (problem := await evaluation_table(connection, spec.schema, spec.table, columns)) is not None:
            raise Unfit(problem)
        key = await tables.key_of(connection, source)
    labelled = await rows.each(source, key.type, read)
    relevant: dict[str, set[str]] = defaultdict(set)
    found: dict[str, set[str]] = defaultdict(set)
    for text, document, present, name in labelled:
        if present and text.strip():
            relevant[text].add(document)
            found[text].update([name] if name is not None and name.strip() else [])
    return Labels(
        {text: frozenset(relevant[text]) for text in sorted(relevant)},
        sum(not present for _, _, present, _ in labelled),
        {text: frozenset(names) for text, names in found.items()},
    )


def _documents(source: Source, document: sql.Composable) -> sql.Composable:
    """Return a query of the names of all documents, each once, as answers name them."""
    return sql.SQL("SELECT {distinct}{named} AS name FROM {source} WHERE s.{key} IS NOT NULL").format(
        distinct=sql.SQL("DISTINCT " if source.group_column is not None else ""),
        named=rows.named(source),
        source=rows.documents(source, document),
        key=_name(source.id_column),
    )


async def present(connections: Pool, index: IndexSpec, ids: Collection[str]) -> frozenset[str]:
    source = tables.source_of(index)

    async def read(document: sql.Composable) -> list[Any]:
        query = sql.SQL("SELECT d.name FROM ({}) d WHERE d.name = ANY(%s)").format(_documents(source, document))
        async with transaction(connections, _SECONDS) as connection:
            return await (await connection.execute(query, [sorted(ids)])).fetchall()

    async with transaction(connections, _SECONDS) as connection:
        key = await tables.key_of(connection, source)
    return frozenset(found for (found,) in await rows.each(source, key.type, read))


async def recorded(connections: Pool, evaluation_id: str) -> EvaluationReport | None:
    async with using(connections, _SECONDS) as connection:
        query = f"SELECT {_COLUMNS} FROM reembed.evaluation WHERE id = %s"  # noqa: S608 the constant above
        row = await (await connection.execute(query, [evaluation_id])).fetchone()
        if row is None:
            return None
        *values, metrics, slices = row
        return replace(
            EvaluationReport(*values),
            metrics=tuple(MetricReport(**one) for one in metrics),
            slices=tuple(SliceReport(**one) for one in slices),
        )


async def record(connections: Pool, index_key: str, report: EvaluationReport) -> None:
    """Keep an outcome; the first one of its id holds, whoever else came to another."""
    async with transaction(connections, 15) as connection:
        await connection.execute(
            _RECORD,
            [index_key, report.id, report.verdict, report.queries, report.k, report.mrr_serving, report.mrr_candidate,
             report.low, report.high, report.message, Jsonb([asdict(one) for one in report.metrics]),
             Jsonb([asdict(one) for one in report.slices])],
        )  # fmt: skip
