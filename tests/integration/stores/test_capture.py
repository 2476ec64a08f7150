"""Triggers mark what changed and nothing else, never fail the application, and are repaired when broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest

from reembed.core.model import IndexSpec, Problem
from reembed.stores.pgvector import capture
from reembed.stores.pgvector.keeper import Keeper
from tests.fixtures.postgres import GATEWAY, Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents


@asynccontextmanager
async def capturing(database: Database, spec: IndexSpec = SPEC) -> AsyncIterator[Keeper]:
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(spec)
        await keeper.claim()
        assert await keeper.capture(spec) is None
        yield keeper


def marked(documents: Documents) -> list[str | None]:
    """Return the ids that are marked, in the order of the changes, and forget them."""
    return [
        row[0]
        for row in documents.rows("WITH d AS (DELETE FROM reembed.dirty RETURNING *) SELECT id FROM d ORDER BY rev")
    ]


def epoch(documents: Documents) -> int:
    return int(documents.rows("SELECT epoch FROM reembed.capture")[0][0])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO docs VALUES (10, 'ten'), (11, 'eleven')", ["10", "11"]),
        ("UPDATE docs SET body = 'new' WHERE id IN (1, 2)", ["1", "2"]),
        ("UPDATE docs SET body = body, reads = reads + 1", []),
        ("UPDATE docs SET body = NULL WHERE id = 3", ["3"]),
        ("UPDATE docs SET id = 30 WHERE id = 3", ["3", "30"]),
        ("DELETE FROM docs WHERE id <= 2", ["1", "2"]),
        ("DELETE FROM docs WHERE id > 99", []),
        ("TRUNCATE docs", [None]),
        ("INSERT INTO docs VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET body = excluded.body", ["1"]),
        ("MERGE INTO docs d USING (VALUES (1, 'm'), (9, 'n')) v (id, body) ON v.id = d.id"
         " WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.body)", ["1", "9"]),
    ],
)  # fmt: skip
async def test_a_statement_marks_the_documents_whose_key_or_text_differs(
    database: Database, statement: str, expected: list[str | None]
) -> None:
    documents = Documents(database).create(3)
    documents.run("ALTER TABLE docs ADD COLUMN reads bigint NOT NULL DEFAULT 0")
    async with capturing(database):
        documents.run(statement)
    assert sorted(marked(documents), key=str) == sorted(expected, key=str)


SPELT = replace(SPEC, text_column=None, text_sql="lower(body) || ' %s{}' || (100 / size)::text")
SIZED = "ALTER TABLE docs ADD COLUMN size int NOT NULL DEFAULT 1, ADD COLUMN ids int, ADD COLUMN reads int DEFAULT 0"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE docs SET body = upper(body), reads = 1, ids = 7", []),
        ("UPDATE docs SET size = 2 WHERE id IN (1, 2)", ["1", "2"]),
        ("UPDATE docs SET body = 'new' WHERE id = 3", ["3"]),
        ("UPDATE docs SET size = 0, reads = 1 WHERE id = 2", ["2"]),
        ("UPDATE docs SET id = 30 WHERE id = 3", ["3", "30"]),
        ("INSERT INTO docs VALUES (10, 'ten', 0)", ["10"]),
        ("DELETE FROM docs WHERE id = 1", ["1"]),
    ],
)
@pytest.mark.parametrize("by", ["statement", "row"])
async def test_a_statement_marks_the_documents_whose_expression_differs(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: str, expected: list[str], by: str
) -> None:
    if by == "row":
        monkeypatch.setattr(capture, "_BY_STATEMENT", capture._BY_ROW)
    documents = Documents(database).create(3)
    documents.run(SIZED)
    async with capturing(database, SPELT):
        documents.run(statement)
    assert sorted(set(map(str, marked(documents))), key=int) == expected
    assert documents.rows("SELECT count(*) FROM reembed.gap") == [(0,)]


async def test_one_row_that_fails_marks_its_whole_statement_and_fails_no_write(database: Database) -> None:
    documents = Documents(database).create(3)
    documents.run(SIZED)
    async with capturing(database, SPELT):
        documents.run("UPDATE docs SET size = CASE id WHEN 2 THEN 0 ELSE 1 END")
        failing = sorted(map(str, marked(documents)))
        documents.run("UPDATE docs SET size = 1 WHERE id = 2")
        mended = marked(documents)
    assert (failing, mended) == (["1", "2", "3"], ["2"])
    assert documents.rows("SELECT count(*) FROM reembed.gap") == [(0,)]


async def test_an_expression_means_the_same_whatever_the_applications_search_path_is(database: Database) -> None:
    documents = Documents(database).create(3)
    documents.run("CREATE SCHEMA trap; CREATE FUNCTION trap.lower(text) RETURNS text LANGUAGE sql AS 'SELECT ''same'''")
    async with capturing(database, replace(SPEC, text_column=None, text_sql="lower(body)")):
        documents.run("SET search_path = trap, pg_catalog, public; UPDATE public.docs SET body = 'new' WHERE id = 2")
    assert marked(documents) == ["2"]


PUBLISHED = replace(SPEC, filter="published AND size % 7 <> 6 AND 1 / size >= 0")
STATED = (
    "ALTER TABLE docs ADD COLUMN size int NOT NULL DEFAULT 1, ADD COLUMN published bool DEFAULT true;"
    "UPDATE docs SET published = false WHERE id = 3; UPDATE docs SET published = NULL WHERE id = 4"
)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE docs SET published = NOT published", ["1", "2", "3"]),
        ("UPDATE docs SET published = coalesce(published, false), size = 2", []),
        ("UPDATE docs SET body = 'new'", ["1", "2"]),
        ("UPDATE docs SET body = NULL, published = false WHERE id = 1", ["1"]),
        ("UPDATE docs SET size = 6 WHERE id = 2", ["2"]),
        ("UPDATE docs SET size = 0 WHERE id = 2", ["2"]),
        ("UPDATE docs SET id = 30 WHERE id = 3", ["3", "30"]),
        ("INSERT INTO docs VALUES (10, 'ten'), (11, 'eleven')", ["10", "11"]),
        ("INSERT INTO docs VALUES (10, 'ten', 1, false), (11, 'eleven', 1, NULL)", []),
        ("INSERT INTO docs VALUES (10, 'ten', 0)", ["10"]),
        ("DELETE FROM docs", ["1", "2"]),
    ],
)
@pytest.mark.parametrize("by", ["statement", "row"])
async def test_a_statement_marks_the_documents_that_come_into_the_filter_or_leave_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: str, expected: list[str], by: str
) -> None:
    if by == "row":
        monkeypatch.setattr(capture, "_BY_STATEMENT", capture._BY_ROW)
    documents = Documents(database).create(4)
    documents.run(STATED)
    async with capturing(database, PUBLISHED):
        documents.run(statement)
    assert sorted(set(map(str, marked(documents))), key=int) == expected
    assert documents.rows("SELECT count(*) FROM reembed.gap") == [(0,)]


@pytest.mark.parametrize("statement", ["INSERT INTO docs VALUES (10, 'ten', 0), (11, 'x', 1)", "DELETE FROM docs"])
async def test_a_filter_that_fails_marks_by_key(database: Database, statement: str) -> None:
    documents = Documents(database).create(4)
    documents.run(STATED)
    documents.run("UPDATE docs SET size = 0 WHERE id = 2")
    async with capturing(database, PUBLISHED):
        documents.run(statement)
    assert set(marked(documents)) == ({"10", "11"} if "INSERT" in statement else {"1", "2", "3", "4"})
    assert documents.rows("SELECT count(*) FROM reembed.gap") == [(0,)]


async def test_what_is_rolled_back_marks_nothing(database: Database) -> None:
    documents = Documents(database).create(3)
    async with capturing(database):
        with psycopg.connect(database.owner_dsn) as connection:
            connection.execute("UPDATE docs SET body = 'x'")
            connection.rollback()
    assert marked(documents) == []


async def test_an_application_without_any_right_in_the_schema_is_captured(database: Database) -> None:
    documents = Documents(database).create(3)
    documents.run("GRANT SELECT, UPDATE ON docs TO reembed_gateway")
    async with capturing(database):
        documents.run("UPDATE docs SET body = 'by another' WHERE id = 2", dsn=database.gateway_dsn)
    assert marked(documents) == ["2"]


async def test_a_renamed_text_column_fails_no_write_and_marks_by_key(database: Database) -> None:
    documents = Documents(database).create(3)
    async with capturing(database):
        documents.run("ALTER TABLE docs RENAME COLUMN body TO content")
        documents.run("UPDATE docs SET content = 'new' WHERE id = 2")
    assert marked(documents) == ["2"]


async def test_what_cannot_be_marked_is_a_gap_and_begins_a_new_epoch(database: Database) -> None:
    documents = Documents(database).create(3)
    async with capturing(database) as keeper:
        documents.run("ALTER TABLE reembed.dirty RENAME TO dirty_away")
        documents.run("UPDATE docs SET body = 'lost' WHERE id = 2")
        documents.run("ALTER TABLE reembed.dirty_away RENAME TO dirty")
        before = epoch(documents)
        await keeper.capture(SPEC)
    assert (before, epoch(documents), documents.rows("SELECT count(*) FROM reembed.gap")) == (1, 2, [(0,)])


BREAKS = {
    "disabled": "ALTER TABLE docs DISABLE TRIGGER USER",
    "dropped": "DO $$ DECLARE t text; BEGIN SELECT tgname INTO t FROM pg_trigger WHERE tgname LIKE 'reembed%update';"
    " EXECUTE format('DROP TRIGGER %I ON docs', t); END $$",
    "swapped": "ALTER TABLE docs RENAME TO docs_old; CREATE TABLE docs (LIKE docs_old INCLUDING ALL)",
}


@pytest.mark.parametrize("broken", BREAKS)
async def test_broken_capture_is_repaired_in_a_new_epoch(database: Database, broken: str) -> None:
    documents = Documents(database).create(3)
    async with capturing(database) as keeper:
        documents.run(BREAKS[broken])
        assert await keeper.capture(SPEC) is None
        documents.run("INSERT INTO docs VALUES (77, 'seen again')")
    assert (marked(documents), epoch(documents)) == (["77"], 2)


async def test_capture_that_is_sound_is_left_alone(database: Database) -> None:
    documents = Documents(database).create(3)
    async with capturing(database) as keeper:
        before = documents.rows("SELECT oid FROM pg_trigger WHERE tgname LIKE 'reembed%' ORDER BY 1")
        await keeper.capture(SPEC)
    assert documents.rows("SELECT oid FROM pg_trigger WHERE tgname LIKE 'reembed%' ORDER BY 1") == before
    assert epoch(documents) == 1


async def test_partitions_are_captured_whichever_way_they_are_written(database: Database) -> None:
    documents = Documents(database)
    documents.run("CREATE TABLE docs (id bigint PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    documents.run("CREATE TABLE docs_low PARTITION OF docs FOR VALUES FROM (0) TO (100)")
    async with capturing(database) as keeper:
        documents.run("INSERT INTO docs VALUES (1, 'by the parent')")
        documents.run("INSERT INTO docs_low VALUES (2, 'directly')")
        documents.run("CREATE TABLE docs_high PARTITION OF docs FOR VALUES FROM (100) TO (200)")
        await keeper.capture(SPEC)
        documents.run("INSERT INTO docs_high VALUES (101, 'of a new partition')")
    assert (marked(documents), epoch(documents)) == (["1", "2", "101"], 2)


async def test_a_session_that_holds_a_lock_is_named_and_nobody_queues_behind(database: Database) -> None:
    documents = Documents(database).create(3)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        with psycopg.connect(database.superuser_dsn, application_name="report") as connection:
            connection.execute("UPDATE docs SET body = 'open' WHERE id = 1")
            pid = connection.info.backend_pid
            problem = await keeper.capture(SPEC)
        again = await keeper.capture(SPEC)
    assert again is None
    assert problem is not None
    assert problem.reason == "CaptureBlocked"
    assert problem.message.startswith(f"session {pid} of postgres (report, open for ")
    documents.run("SELECT 1")


async def test_the_right_to_make_triggers_is_enough_to_install_repair_and_remove(database: Database) -> None:
    """The owner's role here is the application's; Reembed's own may read and make triggers, and owns nothing."""
    documents = Documents(database).create(3)
    grants = (
        "GRANT SELECT ON docs TO reembed_gateway",
        f'GRANT CREATE ON DATABASE "{database.name}" TO reembed_gateway',
    )
    for grant in grants:
        documents.run(grant)
    spec = replace(SPEC, gateway_role=None)
    async with Keeper(database.gateway_dsn, KEY, UID) as keeper:
        await keeper.prepare(spec)
        await keeper.claim()
        refused = await keeper.capture(spec)
        documents.run("GRANT TRIGGER ON docs TO reembed_gateway")
        installed = await keeper.capture(spec)
        documents.run("ALTER TABLE docs DISABLE TRIGGER USER")
        repaired = await keeper.capture(spec)
        await keeper.release()
    assert refused == Problem(
        "PrivilegesMissing",
        f'role "{GATEWAY}" may not make the triggers on "public"."docs" that capture live writes, so no collection is '
        f'made and changes are missed; run GRANT TRIGGER ON "public"."docs" TO "{GATEWAY}"; as an administrator',
    )
    assert (installed, repaired) == (None, None)
    assert documents.rows("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass") == [(0,)]


async def test_release_leaves_the_table_as_it_was(database: Database) -> None:
    documents = Documents(database).create(3)
    async with capturing(database) as keeper:
        documents.run("UPDATE docs SET body = 'x'")
        await keeper.release()
    assert documents.rows(
        "SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass),"
        " (SELECT count(*) FROM pg_proc WHERE proname LIKE 'capture%'), (SELECT count(*) FROM reembed.dirty)"
    ) == [(0, 0, 0)]


async def test_two_indexes_over_one_table_are_marked_each(database: Database) -> None:
    documents = Documents(database).create(1)
    async with capturing(database), Keeper(database.owner_dsn, "default/other", "uid-2") as other:
        await other.capture(SPEC)
        documents.run("UPDATE docs SET body = 'x'")
    assert documents.rows("SELECT index_key FROM reembed.dirty ORDER BY 1") == [(KEY,), ("default/other",)]


async def test_workers_that_meet_install_once(database: Database) -> None:
    documents = Documents(database).create(1)
    async with capturing(database) as one, Keeper(database.owner_dsn, KEY, UID) as two:
        documents.run("ALTER TABLE docs DISABLE TRIGGER USER")
        assert await asyncio.gather(one.capture(SPEC), two.capture(SPEC)) == [None, None]
    assert epoch(documents) == 2


async def test_writers_at_repeatable_read_are_not_failed_by_the_follower(database: Database) -> None:
    documents = Documents(database).create(3)
    async with capturing(database):
        with psycopg.connect(database.owner_dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT count(*) FROM docs")
            documents.run("UPDATE docs SET body = 'other' WHERE id = 2")
            documents.run("DELETE FROM reembed.dirty")
            connection.execute("UPDATE docs SET body = 'mine' WHERE id = 1")
            connection.commit()
    assert marked(documents) == ["1"]
