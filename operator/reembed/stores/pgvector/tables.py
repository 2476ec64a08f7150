"""How a collection looks in SQL: its names, its types, its operator class; shared by all verbs.

Names from objects' specs and from the store's own rows reach SQL only through here, as identifiers of psycopg. Types
come from the database's catalog, which writes and quotes them itself. Both may hold a `%`, which psycopg would take for
a placeholder, so it is doubled here; a statement made with them is always run with parameters, if only an empty list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from reembed.core.model import IndexSpec, Metric, Problem
from reembed.stores.pgvector.connection import Connection
from reembed.stores.protocol import Source, Unfit, Written

# HNSW holds so many dimensions of each type (pgvector 0.8).
VECTOR_DIMENSIONS = 2000
HALFVEC_DIMENSIONS = 4000

_OPERATOR_CLASS = {Metric.COSINE: "cosine", Metric.INNER_PRODUCT: "ip", Metric.EUCLIDEAN: "l2"}


@dataclass(frozen=True, slots=True)
class Key:
    """The type of a source's ids, with the collation that orders them."""

    type: str
    collation: str | None


@dataclass(frozen=True, slots=True)
class Others:
    """All parts of documents but their first ones, as columns."""

    ids: list[str]
    numbers: list[int]
    vectors: list[bytes]
    starts: list[int]
    ends: list[int]


def others(documents: Sequence[Written]) -> Others:
    found = [(one.id, number, part) for one in documents for number, part in enumerate(one.others, 1)]
    return Others(
        ids=[document for document, _, _ in found],
        numbers=[number for _, number, _ in found],
        vectors=[part.vector for _, _, part in found],
        starts=[part.span.start for _, _, part in found],
        ends=[part.span.end for _, _, part in found],
    )


def firsts(documents: Sequence[Written | None]) -> dict[str, list[int | None]]:
    """Return where documents' first parts begin and end, and how many parts there are; None has none."""
    found = [one.span if one is not None else None for one in documents]
    return {
        "starts": [s.start if s else None for s in found],
        "ends": [s.end if s else None for s in found],
        "counts": [1 + len(one.others) if one is not None else None for one in documents],
    }


def vector_type(dimensions: int) -> str:
    """Return the type that holds vectors of so many dimensions and can be indexed.

    Raises:
        Unfit: none can.

    """
    if dimensions <= VECTOR_DIMENSIONS:
        return "vector"
    if dimensions <= HALFVEC_DIMENSIONS:
        return "halfvec"
    raise Unfit(
        Problem(
            "DimensionsTooLarge",
            f"{dimensions} dimensions are above the {HALFVEC_DIMENSIONS} that pgvector can index, so the collection "
            "was not made; choose a model with fewer, or cut its vectors with spec.model.dimensions",
        )
    )


def operator_class(kind: str, metric: str) -> str:
    return f"{kind}_{_OPERATOR_CLASS[Metric(metric)]}_ops"


def source_of(spec: IndexSpec) -> Source:
    return Source(
        schema=spec.schema,
        table=spec.table,
        id_column=spec.id_column,
        text_column=spec.text_column,
        text_sql=spec.text_sql,
        filter=spec.filter,
        metadata=spec.metadata,
        group_column=spec.group_column,
    )


def source_row(source: Source) -> dict[str, Any]:
    return {
        "schema": source.schema,
        "table": source.table,
        "id": source.id_column,
        "text": source.text_column,
        "text_sql": source.text_sql,
        "filter": source.filter,
        "metadata": list(source.metadata),
        "group": source.group_column,
    }


def source_from(row: dict[str, Any]) -> Source:
    """Return the source that a collection was made with; those of before expressions name a column."""
    return Source(
        schema=row["schema"],
        table=row["table"],
        id_column=row["id"],
        text_column=row["text"],
        text_sql=row.get("text_sql"),
        filter=row.get("filter"),
        metadata=tuple(row.get("metadata") or ()),
        group_column=row.get("group"),
    )


def identifier(*parts: str) -> sql.Identifier:
    return sql.Identifier(*[part.replace("%", "%%") for part in parts])


def table(source: Source) -> sql.Identifier:
    return identifier(source.schema, source.table)


def collection(name: str) -> sql.Identifier:
    return identifier("reembed", name)


def written(text: str) -> sql.SQL:
    """Return SQL that the database's catalog wrote: a type, never anybody's input."""
    return sql.SQL(text.replace("%", "%%").replace("{", "{{").replace("}", "}}"))


async def key_of(connection: Connection, source: Source) -> Key:
    """Return the type of the source's ids as the catalog writes it."""
    cursor = await connection.execute(
        """
        SELECT format_type(a.atttypid, a.atttypmod),
               CASE WHEN a.attcollation NOT IN (0, 100) THEN format('%%I.%%I', cn.nspname, co.collname) END
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
        WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND NOT a.attisdropped
        """,
        [source.schema, source.table, source.id_column],
    )
    row = await cursor.fetchone()
    if row is None:
        name = sql.Identifier(source.schema, source.table).as_string()
        raise Unfit(Problem("SourceTableMissing", f"{name} is gone, so nothing was read; create it again"))
    return Key(*row)
