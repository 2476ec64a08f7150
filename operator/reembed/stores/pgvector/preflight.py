"""What must hold before anything is made in a store: ordered checks, the first finding is reported.

Run by the store worker at each pass until it finds nothing, so an administrator's change is seen within seconds. Each
check reads catalogs only, touches no document and takes no lock that could stop the application; expressions are tried
on empty tables, and what that makes is rolled back (`expressions`). A message says what was found, what follows, and
the SQL that an administrator would run; names are quoted there as SQL needs them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from reembed.core.model import IndexSpec, Problem, Store
from reembed.stores.pgvector.connection import Connection
from reembed.stores.pgvector.expressions import Expression, unfit, virtual_column

# Ordered by `id > last`, and held in the same type by the collection.
KEY_TYPES = frozenset({"int8", "int4", "int2", "text", "varchar", "uuid"})
MIN_EXTENSION = (0, 8, 0)  # iterative index scans, without which a filter loses answers

_EXTENSION = """
SELECT current_database(),
       (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"""
_TABLE = """
SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s"""
_COLUMN = """
SELECT t.typname, t.typtype FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attname = %s AND a.attnum > 0 AND NOT a.attisdropped"""
_UNIQUE = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %s AND a.attname = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indnkeyatts = 1 AND i.indpred IS NULL)"""
_PRIMARY_KEY = """
SELECT array_agg(a.attname::text ORDER BY k.n) FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, n)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = %s AND i.indisprimary HAVING count(*) > 1"""
# An expression may name any column.
_RIGHTS = """
SELECT has_schema_privilege(current_user, %(namespace)s, 'USAGE'),
       CASE WHEN %(text)s::text IS NULL THEN has_table_privilege(current_user, %(table)s::oid, 'SELECT')
            ELSE has_column_privilege(current_user, %(table)s::oid, %(id)s, 'SELECT')
             AND has_column_privilege(current_user, %(table)s::oid, %(text)s::text, 'SELECT')
             AND (SELECT coalesce(bool_and(has_column_privilege(current_user, %(table)s::oid, m, 'SELECT')), true)
                  FROM unnest(%(beside)s::text[]) AS m) END,
       %(text)s::text IS NOT NULL OR has_database_privilege(current_user, current_database(), 'TEMPORARY'),
       CASE WHEN to_regnamespace('reembed') IS NULL
            THEN has_database_privilege(current_user, current_database(), 'CREATE')
            ELSE has_schema_privilege(current_user, 'reembed', 'CREATE')
             AND has_schema_privilege(current_user, 'reembed', 'USAGE') END,
       row_security_active(%(table)s),
       %(gateway)s::text IS NULL OR EXISTS (SELECT FROM pg_roles WHERE rolname = %(gateway)s),
       %(agents)s::text IS NULL OR EXISTS (SELECT FROM pg_roles WHERE rolname = %(agents)s),
       current_user, current_database()"""

_ANOTHER = ". A source is immutable: create another EmbeddingIndex with what is right"


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose index is looked at, and where its documents are said to be."""

    spec: IndexSpec
    index_key: str
    uid: str

    @property
    def table(self) -> str:
        return quoted(self.spec.schema, self.spec.table)


Check = Callable[[Connection, Asked], Awaitable[Problem | None]]


async def store_mismatched(connection: Connection, asked: Asked) -> Problem | None:
    del connection
    if asked.spec.store is Store.PGVECTOR:
        return None
    return Problem(
        "StoreMismatch",
        f"the index's Secret leads to PostgreSQL where spec.store.type is {asked.spec.store.value}; nothing was "
        "changed. Correct the Secret",
    )


async def extension_missing(connection: Connection, _: Asked) -> Problem | None:
    database, version, available = await _row(connection, _EXTENSION)
    if version is not None:
        return None
    how = "run" if available else "install pgvector 0.8.0 or later on the server, then run"
    return Problem(
        "ExtensionMissing",
        f"extension vector is not in database {quoted(database)}, so no vectors can be stored; "
        f"{how} CREATE EXTENSION vector; as an administrator",
    )


async def extension_too_old(connection: Connection, _: Asked) -> Problem | None:
    _, version, _ = await _row(connection, _EXTENSION)
    found = tuple(int(part) for part in str(version).split(".") if part.isdigit())
    if found >= MIN_EXTENSION:
        return None
    return Problem(
        "ExtensionTooOld",
        f"extension vector is {version}, below 0.8.0, whose index scans can stop short of the answer; install a newer "
        "pgvector on the server and run ALTER EXTENSION vector UPDATE;",
    )


async def table_missing(connection: Connection, asked: Asked) -> Problem | None:
    _, kind = await _row(connection, _TABLE, [asked.spec.schema, asked.spec.table], (None, None))
    if kind in {"r", "p"}:
        return None
    found = "does not exist" if kind is None else "is no table"
    return Problem(
        "SourceTableMissing",
        f"{asked.table} {found}, so there are no documents to read; create the table or correct spec.source",
    )


async def column_missing(connection: Connection, asked: Asked) -> Problem | None:
    table, _ = await _row(connection, _TABLE, [asked.spec.schema, asked.spec.table])
    text = () if asked.spec.text_sql is not None else (asked.spec.text_column or "",)
    for name in (asked.spec.id_column, *text, *_beside(asked.spec)):
        if await _row(connection, _COLUMN, [table, name], None) is None:
            return Problem(
                "SourceColumnMissing",
                f"{asked.table} has no column {quoted(name)}, so its documents cannot be read; "
                "add it or correct spec.source",
            )
    return None


async def key_unsupported(connection: Connection, asked: Asked) -> Problem | None:
    table, _ = await _row(connection, _TABLE, [asked.spec.schema, asked.spec.table])
    name = asked.spec.id_column
    type_name, _ = await _row(connection, _COLUMN, [table, name])
    if type_name not in KEY_TYPES:
        return Problem(
            "SourceKeyUnsupported",
            f"column {quoted(name)} of {asked.table} is of type {type_name}; documents are named by a column of type "
            "bigint, integer, smallint, text, varchar or uuid: choose such a column or add one",
        )
    if await _row(connection, _UNIQUE, [table, name]) != (True,):
        parts = await _row(connection, _PRIMARY_KEY, [table], ([],))
        if name in parts[0]:
            return Problem("SourceKeyUnsupported", _composite(asked, parts[0]))
        return Problem(
            "SourceKeyUnsupported",
            f"column {quoted(name)} of {asked.table} is not unique by itself, so it cannot name a document; choose the "
            f"primary key or run CREATE UNIQUE INDEX CONCURRENTLY ON {asked.table} ({quoted(name)});",
        )
    return None


def _composite(asked: Asked, parts: list[str]) -> str:
    """Say how a table whose key has several columns gets one that names a row."""
    joined = " || '/' || ".join(f"{quoted(part)}::text" for part in parts)
    return (
        f"the primary key of {asked.table} has the columns {', '.join(map(quoted, parts))}, and a document is named by "
        f"one column. Add one, e.g. ALTER TABLE {asked.table} ADD COLUMN document_id text GENERATED ALWAYS AS "
        f"({joined}) STORED UNIQUE; which rewrites the table, and name it in idColumn{_ANOTHER}"
    )


async def group_unsupported(connection: Connection, asked: Asked) -> Problem | None:
    name = asked.spec.group_column
    if name is None:
        return None
    table, _ = await _row(connection, _TABLE, [asked.spec.schema, asked.spec.table])
    type_name, _ = await _row(connection, _COLUMN, [table, name])
    if type_name in KEY_TYPES:
        return None
    return Problem(
        "SourceGroupUnsupported",
        f"column {quoted(name)} of {asked.table} is of type {type_name}, so it cannot name the documents that its rows "
        "are parts of; groupColumn must be of type bigint, integer, smallint, text, varchar or uuid: choose such a "
        f"column or add one{_ANOTHER}",
    )


def _beside(spec: IndexSpec) -> tuple[str, ...]:
    """Return the columns that a search reads beside a document's id and text."""
    return (*spec.metadata, *([spec.group_column] if spec.group_column is not None else []))


async def privileges_missing(connection: Connection, asked: Asked) -> Problem | None:
    table, _ = await _row(connection, _TABLE, [asked.spec.schema, asked.spec.table])
    spec = asked.spec
    given = {
        "namespace": spec.schema,
        "table": table,
        "id": spec.id_column,
        "text": None if spec.filter is not None else spec.text_column,
        "beside": list(_beside(spec)),
        "gateway": spec.gateway_role,
        "agents": spec.agent_role,
    }
    enter, read, temporary, create, filtered, gateway, agents, user, database = await _row(connection, _RIGHTS, given)
    role = quoted(user)
    findings = (
        (enter, f"role {role} may not use schema {quoted(spec.schema)}",
         f"GRANT USAGE ON SCHEMA {quoted(spec.schema)} TO {role};"),
        (read, f"role {role} may not read {asked.table}", f"GRANT SELECT ON {asked.table} TO {role};"),
        (temporary, f"role {role} may not try spec.source on temporary tables of database {quoted(database)}",
         f"GRANT TEMPORARY ON DATABASE {quoted(database)} TO {role};"),
        (create, f"role {role} may not create tables in schema reembed of database {quoted(database)}",
         f"CREATE SCHEMA IF NOT EXISTS reembed; ALTER SCHEMA reembed OWNER TO {role};"),
        (not filtered, f"row-level security hides rows of {asked.table} from role {role}",
         f"ALTER ROLE {role} BYPASSRLS;"),
        (gateway, f"the gateways' role {quoted(spec.gateway_role or '')} does not exist",
         f"CREATE ROLE {quoted(spec.gateway_role or '')} LOGIN;"),
        (agents, f"the agents' role {quoted(spec.agent_role or '')} does not exist",
         f"CREATE ROLE {quoted(spec.agent_role or '')} LOGIN;"),
    )  # fmt: skip
    for holds, found, remedy in findings:
        if not holds:
            return Problem("PrivilegesMissing", f"{found}, so nothing was made; run {remedy} as an administrator")
    return None


async def text_invalid(connection: Connection, asked: Asked) -> Problem | None:
    """Find an expression that may not be evaluated, or a column that triggers cannot see."""
    spec = asked.spec
    if spec.text_sql is not None:
        where = "text"
        found = await unfit(connection, Expression(spec.text_sql, spec.schema, spec.table))
    else:
        where, found = "textColumn", await _virtual(connection, asked, spec.text_column or "")
    if found is None:
        return None
    return Problem("SourceTextInvalid", f"spec.source.{where} cannot be used, so nothing was read: {found}{_ANOTHER}")


async def filter_invalid(connection: Connection, asked: Asked) -> Problem | None:
    spec = asked.spec
    if spec.filter is None:
        return None
    found = await unfit(connection, Expression(spec.filter, spec.schema, spec.table, condition=True))
    if found is None:
        return None
    return Problem("SourceFilterInvalid", f"spec.source.filter cannot be used, so nothing was read: {found}{_ANOTHER}")


async def gateways_unguarded(connection: Connection, asked: Asked) -> Problem | None:
    """Find that what gateways accept of a panel's certificates would not be theirs alone to write."""
    (user,) = await _row(connection, "SELECT current_user")
    if asked.spec.panel is None or asked.spec.gateway_role not in {None, user}:
        return None
    # Whoever fills collections does so at the operator's word; what gateways believe must not depend on that.
    return Problem(
        "PrivilegesMissing",
        f"the index names a panel, and its gateways have no role but {quoted(user)}, the store worker's, so nothing "
        "was made; run CREATE ROLE reembed_gateway LOGIN; as an administrator, and name it in spec.store.gatewayRole "
        "and in the Secret of gatewaySecretRef",
    )


async def _virtual(connection: Connection, asked: Asked, column: str) -> str | None:
    table, _ = await _row(connection, _TABLE, [asked.spec.schema, asked.spec.table])
    generated = "SELECT attgenerated = 'v' FROM pg_attribute WHERE attrelid = %s AND attname = %s"
    return virtual_column(column) if await _row(connection, generated, [table, column]) == (True,) else None


async def index_claimed(connection: Connection, asked: Asked) -> Problem | None:
    if await _row(connection, "SELECT to_regclass('reembed.claim') IS NULL") == (True,):
        return None
    held = await _row(connection, "SELECT uid FROM reembed.claim WHERE index_key = %s", [asked.index_key], None)
    if held is None or held == (asked.uid,):
        return None
    remedy = sql.SQL("DELETE FROM reembed.claim WHERE index_key = {};").format(asked.index_key).as_string()
    return Problem(
        "IndexClaimed",
        f"this database already keeps index {asked.index_key} for another EmbeddingIndex (UID {held[0]}), of another "
        f"cluster or deleted since; nothing was changed. If that one is gone, run {remedy}",
    )


CHECKS: tuple[Check, ...] = (
    store_mismatched,
    extension_missing,
    extension_too_old,
    table_missing,
    column_missing,
    key_unsupported,
    group_unsupported,
    privileges_missing,
    text_invalid,
    filter_invalid,
    gateways_unguarded,
    index_claimed,
)


async def first_problem(connection: Connection, asked: Asked) -> Problem | None:
    """Return the first finding, None if all checks pass."""
    for check in CHECKS:
        if (problem := await check(connection, asked)) is not None:
            return problem
    return None


async def evaluation_table(connection: Connection, schema: str, table: str, columns: tuple[str, ...]) -> Problem | None:
    """Return why labelled queries cannot be read from there, None if they can."""
    name = quoted(schema, table)
    oid, kind = await _row(connection, _TABLE, [schema, table], (None, None))
    if kind not in {"r", "p", "v", "m", "f"}:
        return Problem(
            "EvaluationTableMissing",
            f"{name} does not exist, so the models cannot be compared; create it or correct spec.evaluation",
        )
    for column in columns:
        if await _row(connection, _COLUMN, [oid, column], None) is None:
            return Problem(
                "EvaluationColumnMissing",
                f"{name} has no column {quoted(column)}, so the models cannot be compared; "
                "add it or correct spec.evaluation",
            )
    if await _row(connection, "SELECT has_table_privilege(%s::oid, 'SELECT')", [oid]) != (True,):
        return Problem(
            "PrivilegesMissing",
            f"the store worker's role may not read {name}, so the models cannot be compared; "
            f"run GRANT SELECT ON {name} TO that role as an administrator",
        )
    return None


def quoted(*parts: str) -> str:
    """Return a name of one or more parts as SQL writes it."""
    return sql.Identifier(*parts).as_string()


_ABSENT: Any = object()


async def _row(connection: Connection, query: str, given: Any = None, default: Any = _ABSENT) -> Any:
    cursor = await connection.execute(query, given)
    row = await cursor.fetchone()
    if row is not None:
        return row
    if default is _ABSENT:
        raise LookupError("a row that an earlier check saw is gone")
    return default
