"""Capture of live writes: triggers on the application's table that say which documents changed, and nothing more.

They belong to the index, not to a migration: installed before its first collection, removed with it, repaired when a
look finds them missing, disabled or bound to a table that was swapped. A repair begins a new epoch, since changes may
have been missed, and every collection of an older epoch is compared with the source (`comparison`).

What they cost the application is one statement trigger that inserts a row for each document whose key or text differs,
or that came into the source's filter or left it; a statement that changes other columns inserts nothing. They never
fail a write of it: what a trigger cannot mark by the text it marks by the key, and what it cannot mark at all it
records as a gap. Statement triggers see nothing of logical replication, so tables under a subscription get row triggers
that always fire. The role needs the right TRIGGER on the table and no ownership: the functions are its own, and
dropping them drops their triggers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from reembed.core.model import IndexSpec, Problem
from reembed.stores.pgvector import rows, tables
from reembed.stores.pgvector.connection import Connection, Pool, transaction, using
from reembed.stores.protocol import Source, StoreBusy

_SECONDS = 15.0
# The application's writers queue up behind a lock that is waited for, so it is waited for this long and asked again.
_LOCK_SECONDS = 1.0

_RELATIONS = """
SELECT r.oid, n.nspname, r.relname, EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = r.oid)
FROM pg_class c JOIN pg_namespace cn ON cn.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT c.oid AS relid UNION SELECT p.relid FROM pg_partition_tree(c.oid) p WHERE c.relkind = 'p'
) found
JOIN pg_class r ON r.oid = found.relid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE cn.nspname = %s AND c.relname = %s AND r.relkind IN ('r', 'p') ORDER BY r.oid"""
_FIRING = """
SELECT t.tgrelid, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'reembed' AND p.proname = %s AND t.tgenabled IN ('O', 'A')"""
_HOLDER = """
SELECT a.pid, a.usename, a.application_name, extract(epoch FROM now() - a.xact_start)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = ANY (%s) AND l.granted AND l.mode <> 'AccessShareLock' AND l.mode <> 'RowShareLock'
  AND a.pid <> pg_backend_pid() ORDER BY a.xact_start LIMIT 1"""

_RIGHTS = """
SELECT has_table_privilege(c.oid, 'TRIGGER'), pg_has_role(c.relowner, 'USAGE'), current_user,
       pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = %(oid)s"""
# The first block marks by what differs, the second by the key alone, the third records a gap.
_FUNCTION = """
#variable_conflict use_column
DECLARE
    ids text[];
BEGIN
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            ids := ARRAY[NULL];
        ELSIF TG_LEVEL = 'ROW' THEN
            IF TG_OP = 'INSERT' THEN
                ids := CASE WHEN {record_came} THEN ARRAY[NEW.{id}::text] END;
            ELSIF TG_OP = 'DELETE' THEN
                ids := CASE WHEN {record_went} THEN ARRAY[OLD.{id}::text] END;
            ELSIF OLD.{id} IS DISTINCT FROM NEW.{id} THEN
                ids := ARRAY[OLD.{id}::text, NEW.{id}::text];
            ELSIF {record_differs} THEN
                ids := ARRAY[NEW.{id}::text];
            END IF;
        ELSIF TG_OP = 'INSERT' THEN
            SELECT array_agg(n.{id}::text) INTO ids FROM new_rows n WHERE n.{id} IS NOT NULL AND {row_came};
        ELSIF TG_OP = 'DELETE' THEN
            SELECT array_agg(o.{id}::text) INTO ids FROM old_rows o WHERE o.{id} IS NOT NULL AND {row_went};
        ELSE
            SELECT array_agg(coalesce(n.{id}, o.{id})::text) INTO ids
            FROM new_rows n FULL JOIN old_rows o ON o.{id} = n.{id}
            WHERE coalesce(n.{id}, o.{id}) IS NOT NULL
              AND (n.{id} IS NULL OR o.{id} IS NULL OR {row_differs});
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF TG_OP = 'TRUNCATE' THEN
            RAISE;
        ELSIF TG_LEVEL = 'ROW' THEN
            ids := CASE TG_OP
                WHEN 'INSERT' THEN ARRAY[NEW.{id}::text]
                WHEN 'DELETE' THEN ARRAY[OLD.{id}::text]
                ELSE ARRAY[OLD.{id}::text, NEW.{id}::text]
            END;
        ELSIF TG_OP = 'INSERT' THEN
            SELECT array_agg(n.{id}::text) INTO ids FROM new_rows n WHERE n.{id} IS NOT NULL;
        ELSIF TG_OP = 'DELETE' THEN
            SELECT array_agg(o.{id}::text) INTO ids FROM old_rows o WHERE o.{id} IS NOT NULL;
        ELSE
            SELECT array_agg(k.id) INTO ids FROM (
                SELECT n.{id}::text AS id FROM new_rows n UNION SELECT o.{id}::text FROM old_rows o
            ) k WHERE k.id IS NOT NULL;
        END IF;
    END;
    INSERT INTO reembed.dirty (index_key, id) SELECT {key}, u.id FROM unnest(ids) AS u (id);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    BEGIN
        INSERT INTO reembed.gap (index_key, message) VALUES ({key}, left(SQLSTATE || ' ' || SQLERRM, 500));
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'reembed could not record a change of %: %', TG_TABLE_NAME, SQLERRM;
    END;
    RETURN NULL;
END
"""
_BY_STATEMENT = {
    "insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT",
    "update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT",
    "delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT",
    "truncate": "AFTER TRUNCATE ON {table} FOR EACH STATEMENT",
}
_BY_ROW = {
    "row": "AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW",
    "truncate": "AFTER TRUNCATE ON {table} FOR EACH STATEMENT",
}


@dataclass(frozen=True, slots=True)
class Relation:
    """The source, or a partition of it; a subscription changes it by rows."""

    oid: int
    schema: str
    name: str
    subscribed: bool

    @property
    def triggers(self) -> dict[str, str]:
        return _BY_ROW if self.subscribed else _BY_STATEMENT


async def keep(connections: Pool, owner: tuple[str, str], spec: IndexSpec) -> Problem | None:
    """Install what is missing, and begin a new epoch where changes may have been missed.

    Returns why that cannot be done just now, such as a session that holds a lock on the table.
    """
    key, source = owner[0], tables.source_of(spec)
    async with using(connections, _SECONDS) as connection:
        relations = await _relations(connection, source)
        if await _sound(connection, key, source, relations):
            return None
        if (problem := await _forbidden(connection, relations)) is not None:
            return problem
    try:
        async with transaction(connections, _SECONDS, lock_seconds=_LOCK_SECONDS) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 2))", [key])
            if not await _sound(connection, key, source, relations):
                await _install(connection, key, source, relations)
    except StoreBusy:
        return await _blocked(connections, source, relations)
    return None


async def remove(connections: Pool, key: str) -> None:
    """Remove triggers, function and marks; the application's table is as it was before."""
    async with transaction(connections, _SECONDS, lock_seconds=_LOCK_SECONDS) as connection:
        await connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {} CASCADE").format(_function(key)))
        for table in ("capture", "dirty", "gap"):
            name = tables.identifier("reembed", table)
            await connection.execute(sql.SQL("DELETE FROM {} WHERE index_key = %s").format(name), [key])


async def _relations(connection: Connection, source: Source) -> tuple[Relation, ...]:
    cursor = await connection.execute(_RELATIONS, [source.schema, source.table])
    return tuple([Relation(*row) for row in await cursor.fetchall()])


async def _sound(connection: Connection, key: str, source: Source, relations: tuple[Relation, ...]) -> bool:
    """Return whether every trigger there should be fires, on the tables of today, and missed nothing."""
    cursor = await connection.execute("SELECT relations, definition FROM reembed.capture WHERE index_key = %s", [key])
    row: tuple[Any, ...] | None = await cursor.fetchone()
    if row != ([relation.oid for relation in relations], _definition(key, source)):
        return False
    cursor = await connection.execute(_FIRING, [_name(key)])
    firing = set(await cursor.fetchall())
    if not {(one.oid, _trigger(key, kind)) for one in relations for kind in one.triggers} <= firing:
        return False
    gap = await connection.execute("SELECT EXISTS (SELECT FROM reembed.gap WHERE index_key = %s)", [key])
    return await gap.fetchone() == (False,)


async def _install(connection: Connection, key: str, source: Source, relations: tuple[Relation, ...]) -> None:
    function, definition = _function(key), _definition(key, source)
    # Also ends triggers that somebody disabled, which only the table's owner could enable again.
    await connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {} CASCADE").format(function))
    await connection.execute(
        sql.SQL(
            "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {}"
        ).format(function, sql.Literal(definition))
    )
    await connection.execute(sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function))
    for relation in relations:
        await _attach(connection, key, relation)
    # Committed with the triggers: from here on every change is seen, and before it perhaps not.
    await connection.execute(
        "INSERT INTO reembed.capture (index_key, epoch, relations, definition) VALUES (%(key)s, 1, %(oids)s, %(text)s)"
        " ON CONFLICT (index_key) DO UPDATE SET epoch = capture.epoch + 1, relations = excluded.relations,"
        " definition = excluded.definition, since = now()",
        {"key": key, "oids": [relation.oid for relation in relations], "text": definition},
    )
    await connection.execute("DELETE FROM reembed.gap WHERE index_key = %s", [key])


async def _attach(connection: Connection, key: str, relation: Relation) -> None:
    table = sql.Identifier(relation.schema, relation.name)
    for kind, clause in relation.triggers.items():
        trigger = sql.Identifier(_trigger(key, kind))
        await connection.execute(
            sql.SQL("CREATE TRIGGER {} {} EXECUTE FUNCTION {}()").format(
                trigger, sql.SQL(clause).format(table=table), _function(key)
            )
        )
        if relation.subscribed:
            await connection.execute(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(table, trigger))


async def _forbidden(connection: Connection, relations: tuple[Relation, ...]) -> Problem | None:
    for relation in relations:
        row = await (await connection.execute(_RIGHTS, {"oid": relation.oid})).fetchone()
        trigger, owner, user, owning = row or (False, False, "", "")
        name, role = sql.Identifier(relation.schema, relation.name).as_string(), sql.Identifier(user).as_string()
        if not trigger:
            remedy = f"GRANT TRIGGER ON {name} TO {role};"
        elif relation.subscribed and not owner:
            remedy = f"GRANT {sql.Identifier(owning).as_string()} TO {role};"
        else:
            continue
        return Problem(
            "PrivilegesMissing",
            f"role {role} may not make the triggers on {name} that capture live writes, so no collection is made and "
            f"changes are missed; run {remedy} as an administrator",
        )
    return None


async def _blocked(connections: Pool, source: Source, relations: tuple[Relation, ...]) -> Problem:
    async with using(connections, _SECONDS) as connection:
        cursor = await connection.execute(_HOLDER, [[relation.oid for relation in relations]])
        row = await cursor.fetchone()
    name = sql.Identifier(source.schema, source.table).as_string()
    who = "a session"
    if row is not None:
        pid, user, application, seconds = row
        who = (
            f"session {pid} of {user or 'an unknown role'} ({application or 'no name'}, open for {seconds or 0:.0f} s)"
        )
    return Problem(
        "CaptureBlocked",
        f"{who} holds a lock on {name}, so the triggers that capture live writes were not installed within "
        f"{_LOCK_SECONDS:g} s; it is tried again, so that no writer queues up behind the wait. End that transaction",
    )


def _definition(key: str, source: Source) -> str:
    body = sql.SQL(_FUNCTION).format(
        id=sql.Identifier(source.id_column),
        key=sql.Literal(key),
        record_came=rows.inside(source, "NEW"),
        record_went=rows.inside(source, "OLD"),
        record_differs=rows.differing(source, "OLD", "NEW"),
        row_came=rows.inside(source, "n"),
        row_went=rows.inside(source, "o"),
        row_differs=rows.differing(source, "o", "n"),
    )
    return body.as_string()


def _name(key: str) -> str:
    return f"capture_{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _function(key: str) -> sql.Identifier:
    return sql.Identifier("reembed", _name(key))


def _trigger(key: str, kind: str) -> str:
    return f"reembed_{_name(key)}_{kind}"
