"""Whether an expression of an EmbeddingIndex may be evaluated for every row; asked by `preflight`, before anything is.

Whoever may edit an EmbeddingIndex writes it, and it runs as the owner's role and inside the application's transactions.
So it must be one expression over the columns of its row and nothing more, which two readers have to agree on:

* `smuggled`, here, sees that it can be put between parentheses: they are balanced, nothing hides in a comment, a dollar
  quote or a string whose meaning a setting decides, and no statement ends in it.
* PostgreSQL, in savepoints that are rolled back: a read-only query of no rows gives its type, and a generated column of
  an empty temporary table is made from it. PostgreSQL refuses subqueries, aggregates, window and set-returning
  functions there, and every function that is not IMMUTABLE. STABLE ones are refused with the volatile: what depends on
  settings or on other tables differs between the trigger's session and the follower's, or changes without an update.

Neither evaluates it for a row. Functions outside pg_catalog need their schema, since the search path is fixed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql

from reembed.stores.pgvector.connection import Connection

_SECONDS = 5.0
# A double-quoted name, an E string, a plain string: what stands in them is no syntax.
_QUOTED = re.compile(r""""(?:[^"]|"")*"|(?<![\w$])[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'""", re.DOTALL)
_PAIRS = {")": "(", "]": "["}
# SQLSTATE -> what the expression does, and what to write instead.
_MEANING = {
    "0A000": "subqueries and functions that return sets are not allowed: use the columns of the row alone",
    "42803": "aggregates are not allowed: use the columns of the row alone",
    "42P20": "window functions are not allowed: use the columns of the row alone",
    "42P17": "only functions that are IMMUTABLE are allowed: write || and coalesce in place of concat, concat_ws and "
    "format, and nothing that depends on the time, a time zone or settings",
    "42883": "correct it, or write the schema of a function or operator that is not PostgreSQL's own",
    "57014": "it must be planned within 5 s: write a simpler one",
}
_SYNTAX = "correct it"
# Classes that say something of the expression; others (a lock, a shutdown) say nothing of it.
_OF_EXPRESSIONS = ("0A", "21", "22", "42", "54")

_TYPE = "SELECT typcategory = 'S', format_type(oid, NULL) FROM pg_type WHERE oid = %s"
_MADE = """
CREATE TEMPORARY TABLE {checked} (LIKE {table}, {column} {type} GENERATED ALWAYS AS (({expression})::{type}) STORED)"""
_VIRTUAL = """
SELECT s.attname FROM pg_attribute s WHERE s.attrelid = {source}::regclass AND s.attgenerated = 'v' AND EXISTS (
    SELECT FROM pg_depend d JOIN pg_attribute c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refobjid = {checked}::regclass AND c.attname = s.attname)"""
_CHECKED = "reembed checked"  # the temporary table and its column; no application's column is called so


@dataclass(frozen=True, slots=True)
class Expression:
    """What is to be looked at: `text` over the rows of a table, and whether it is to be text or a condition."""

    text: str
    schema: str
    table: str
    condition: bool = False

    @property
    def type(self) -> str:
        return "boolean" if self.condition else "text"


async def unfit(connection: Connection, given: Expression) -> str | None:
    """Return what is wrong with the expression and what to do, None if it may be evaluated."""
    if (found := smuggled(given.text)) is not None:
        return found
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{_SECONDS:.0f}s"])
            await connection.execute("SELECT set_config('transaction_read_only', 'on', true)")
            found = await _of_another_type(connection, given)
        if found is not None:
            return found
        async with connection.transaction(force_rollback=True):
            await connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{_SECONDS:.0f}s"])
            return await _refused(connection, given)
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if state not in _MEANING and not state.startswith(_OF_EXPRESSIONS):
            raise
        return f"PostgreSQL refuses it ({error.diag.message_primary}): {_MEANING.get(state, _SYNTAX)}"


def smuggled(text: str) -> str | None:
    """Return what keeps the text from being one expression between parentheses, whatever stands around it."""
    bare = _QUOTED.sub("''", text)
    # A string that does not end, or that ends elsewhere for a server with other settings, leaves its quote behind.
    if "'" in bare.replace("''", "") or '"' in bare:
        return "a quote in it does not end: write it again"
    if any("\\" in one.group() for one in _QUOTED.finditer(text) if one.group()[0] == "'"):
        return r"""a string has a backslash, whose meaning is a setting's: write E'\\'"""
    for found in ("--", "/*", ";", "$", "\0"):
        if found in bare:
            return f"{found!r} is not allowed outside quotes: no comments, statements, parameters or dollar quotes"
    opened = list[str]()
    for character in bare:
        if character in "([":
            opened.append(character)
        elif character in _PAIRS and (not opened or opened.pop() != _PAIRS[character]):
            return f"it closes a {character!r} that it did not open: it must be one expression"
    if opened:
        return f"it does not close a {opened[-1]!r}: it must be one expression"
    return None if bare.strip() else "it is empty: write an expression"


async def _of_another_type(connection: Connection, given: Expression) -> str | None:
    query = sql.SQL("SELECT ({}) FROM (SELECT s.* FROM {} s LIMIT 0) AS reembed_row LIMIT 0").format(
        sql.SQL(given.text), sql.Identifier(given.schema, given.table)
    )
    # Binary results take the extended protocol, in which a query is one statement.
    cursor = await connection.execute(query, binary=True)
    oid = cursor.description[0].type_code if cursor.description else 0
    row = await (await connection.execute(_TYPE, [oid])).fetchone()
    textual, name = row or (False, "unknown")
    if given.condition:
        return None if name == "boolean" else f"it gives {name}: write a condition, which is true or false"
    return None if textual else f"it gives {name}, which is no text: write a text, or a cast to one"


async def _refused(connection: Connection, given: Expression) -> str | None:
    table, checked = sql.Identifier(given.schema, given.table), sql.Identifier("pg_temp", _CHECKED)
    made = sql.SQL(_MADE).format(
        checked=checked,
        column=sql.Identifier(_CHECKED),
        table=table,
        type=sql.SQL(given.type),
        expression=sql.SQL(given.text),
    )
    await connection.execute(made, binary=True)
    virtual = sql.SQL(_VIRTUAL).format(source=sql.Literal(table.as_string()), checked=sql.Literal(checked.as_string()))
    row = await (await connection.execute(virtual)).fetchone()
    return virtual_column(row[0]) if row is not None else None


def virtual_column(name: str) -> str:
    """Return what is wrong with a column that PostgreSQL computes on reading (version 18)."""
    return (
        f"column {sql.Identifier(name).as_string()} is generated VIRTUAL, and triggers are not given its values: make "
        "it STORED, or write what it is generated from"
    )
