"""How a row of the source becomes a document in SQL: the one place that writes its text and the source's filter.

An expression is evaluated in a subquery over one row, `SELECT (expression) FROM (SELECT s.*) AS reembed_row`: its bare
names are the row's columns wherever it stands: in a page's read, beside a collection's columns, or in a trigger
over OLD, NEW and transition tables. The planner makes one scan of it. `preflight` saw to it that it is one expression
over columns alone; `connection.transaction` and the trigger fix the search path, so that it means the same everywhere.

An expression may fail for some rows and must not stop the others. `each` runs a statement as it is first, and again if
a row fails: then `reembed.attempt` evaluates each row by itself and says with which SQLSTATE it failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from psycopg import sql

from reembed.stores.pgvector import tables
from reembed.stores.protocol import Source, StoreError

T = TypeVar("T")

# Classes of SQLSTATE that a row's values can cause: cardinality, data, constraints (of a domain), functions of any
# language, limits of the program, and what PL/pgSQL raises. Functions of the schema have the same list, which a test
# compares, since what a step of the schema says cannot be changed afterwards. A column that is gone (42) is none of
# them: it fails every row, and stops the work until somebody looks.
OF_ROWS = ("21", "22", "23", "2F", "38", "39", "54", "P0")


async def each(source: Source, id_type: str, read: Callable[[sql.Composable], Awaitable[T]]) -> T:
    """Return what `read` returns, whose statement is given a lateral subquery over `s`, a row of the source.

    Its columns are the row's text and why it failed; it is empty for a row that is no document: one outside the filter,
    or of nulls, as an outer join has it. It stands in statements that are run with parameters.
    """
    try:
        return await read(_at_once(source))
    except StoreError as error:
        if source.plain or not by_row(error):
            raise
    return await read(_by_itself(source, id_type))


def by_row(error: StoreError) -> bool:
    """Return whether the values of a row caused an error."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith(OF_ROWS)


def documents(source: Source, document: sql.Composable, percent: sql.Composable | None = None) -> sql.Composable:
    """Return what stands behind FROM for the ids of all documents, or of those on a sample of the table's pages.

    Without a filter it is the table alone, so that an index of the ids answers.
    """
    sample = sql.SQL("") if percent is None else sql.SQL(" TABLESAMPLE SYSTEM ({})").format(percent)
    inside = sql.SQL("") if source.filter is None else sql.SQL(" CROSS JOIN LATERAL {} t").format(document)
    return sql.SQL("{} s{}{}").format(tables.table(source), sample, inside)


def named(source: Source) -> sql.Composable:
    """Return the name of the document that the row `s` is, or is a part of; one that is of no group stands alone."""
    key = sql.SQL("s.{}::text").format(tables.identifier(source.id_column))
    if source.group_column is None:
        return key
    return sql.SQL("coalesce(s.{}::text, {})").format(tables.identifier(source.group_column), key)


def inside(source: Source, alias: str) -> sql.Composable:
    """Return whether the row or record `alias` is a document, for a function's body: nothing is doubled there."""
    if source.filter is None:
        return sql.SQL("true")
    return sql.SQL("coalesce((SELECT ({}) FROM (SELECT {}.*) AS reembed_row), false)").format(
        sql.SQL(source.filter), sql.SQL(alias)
    )


def differing(source: Source, before: str, after: str) -> sql.Composable:
    """Return whether a document changed, came or went between two rows or records, for a function's body."""
    texts = sql.SQL("{} IS DISTINCT FROM {}").format(_text_of(source, before), _text_of(source, after))
    if source.filter is None:
        return texts
    there, now = inside(source, before), inside(source, after)
    return sql.SQL("(CASE WHEN {there} <> {now} THEN true WHEN {now} THEN {texts} ELSE false END)").format(
        there=there, now=now, texts=texts
    )


def failure(sqlstate: str | None) -> str | None:
    """Return a SQLSTATE with its name; the server's own words may quote the row, and are never kept."""
    if sqlstate is None:
        return None
    try:
        return f"{sqlstate} {psycopg.errors.lookup(sqlstate).__name__}"
    except KeyError:
        return sqlstate


def _at_once(source: Source) -> sql.Composable:
    here = sql.SQL("s.{}").format(tables.identifier(source.id_column))
    if source.plain:
        column = tables.identifier(source.text_column or "")
        return sql.SQL("(SELECT s.{}::text, NULL::text WHERE {} IS NOT NULL)").format(column, here)
    return sql.SQL(
        "(SELECT ({})::text, NULL::text FROM (SELECT s.*) AS reembed_row WHERE {} IS NOT NULL AND ({}))"
    ).format(sql.SQL(_doubled(_text(source))), here, sql.SQL(_doubled(source.filter or "true")))


def _by_itself(source: Source, id_type: str) -> sql.Composable:
    # OFFSET 0 keeps the planner from evaluating an expression for rows of other ids, which might fail.
    query = sql.SQL(
        "SELECT ({text})::text, NULL::text FROM (SELECT * FROM {table} WHERE {id} = $1::{type} OFFSET 0) AS reembed_row"
        " WHERE ({filter})"
    ).format(
        text=sql.SQL(_text(source)),
        table=sql.Identifier(source.schema, source.table),
        id=sql.Identifier(source.id_column),
        type=sql.SQL(id_type),
        filter=sql.SQL(source.filter or "true"),
    )
    return sql.SQL("reembed.attempt({}, s.{}::text)").format(
        sql.Literal(_doubled(query.as_string())), tables.identifier(source.id_column)
    )


def _text(source: Source) -> str:
    return source.text_sql if source.text_sql is not None else sql.Identifier(source.text_column or "").as_string()


def _text_of(source: Source, alias: str) -> sql.Composable:
    if source.text_sql is None:
        return sql.SQL("{}.{}::text").format(sql.SQL(alias), sql.Identifier(source.text_column or ""))
    return sql.SQL("(SELECT ({})::text FROM (SELECT {}.*) AS reembed_row)").format(
        sql.SQL(source.text_sql), sql.SQL(alias)
    )


def _doubled(text: str) -> str:
    return text.replace("%", "%%")
