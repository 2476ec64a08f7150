"""The rules that make every order of events end in the newest text, one by one; test_histories mixes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from reembed.backfill.documents import text_hash
from reembed.stores.pgvector import comparison, rows, tables
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Change, Differences, Document, Fenced, Lease, Page, Paid, Written
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, plan, vector_of

ONE_SHARD = plan(shards=1)


@dataclass
class Following:
    """A collection of one shard over three documents, of which nothing is stored yet."""

    documents: Documents
    changes: Changes
    pods: ShardStore

    async def owed(self) -> list[Change]:
        """Spread what is marked, and read what is owed."""
        await self.changes.spread(0)
        debts = await self.changes.owed(PLAN.name, 100)
        return list(await self.changes.read(PLAN.name, debts)) if debts else []

    async def pay(self, changes: Sequence[Change]) -> int:
        return await self.changes.pay(PLAN.name, [Paid(change.debt, outcome(change)) for change in changes])

    async def page(self) -> tuple[Lease, Page]:
        """Read all documents as a backfill pod does."""
        lease = await self.pods.claim(PLAN.name, 0)
        found = await self.pods.read(lease, None, 100)
        return lease, Page(None, found[-1].id, tuple([written(one) for one in found]), ())

    async def fill(self) -> None:
        lease, page = await self.page()
        await self.pods.commit(lease, page, {})
        await self.pods.finish(lease)

    async def waits_or_ends(self, task: asyncio.Task[object]) -> None:
        """Return once the task ended, or its connection waits for a lock."""
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not task.done() and not self.documents.rows(waiting):  # noqa: ASYNC110 a database is read, it tells nobody
            await asyncio.sleep(0.01)

    def held(self) -> dict[int, str | None]:
        """Return the text of each stored vector by its document, None for a tombstone."""
        texts = {text_hash(text): text for text in [*[f"text {n}" for n in range(1, 4)], "new", "newer"]}
        rows = self.documents.rows("SELECT id, text_hash FROM reembed.c_new ORDER BY id")
        return {found: texts[bytes(hashed)] if hashed is not None else None for found, hashed in rows}


@asynccontextmanager
async def following(database: Database) -> AsyncIterator[Following]:
    documents = Documents(database).create(3)
    async with (
        Keeper(database.owner_dsn, KEY, UID) as keeper,
        Changes(database.owner_dsn, KEY) as changes,
        ShardStore(database.owner_dsn) as pods,
    ):
        await keeper.prepare(SPEC)
        await keeper.claim()
        await keeper.capture(SPEC)
        await keeper.create(SPEC, ONE_SHARD)
        yield Following(documents, changes, pods)


def written(document: Document) -> Written:
    text = document.text or ""
    return Written(document.id, text_hash(text), vector_of(text))


def outcome(change: Change) -> Written | bytes | None:
    if change.document is None:
        return None
    found = written(change.document)
    return change.text_hash if found.text_hash == change.text_hash else found


async def test_a_debt_that_grew_while_it_was_paid_stays(database: Database) -> None:
    async with following(database) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 1")
        slow = await it.owed()
        it.documents.run("UPDATE docs SET body = 'newer' WHERE id = 1")
        await it.changes.spread(0)
        cleared = await it.pay(slow)
        between = it.held()
        await it.pay(await it.owed())
    assert (cleared, between, it.held()) == (0, {1: "new"}, {1: "newer"})


async def test_a_slow_follower_puts_no_older_text_over_a_newer_one(database: Database) -> None:
    async with following(database) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 1")
        slow = await it.owed()
        it.documents.run("UPDATE docs SET body = 'newer' WHERE id = 1")
        await it.pay(await it.owed())
        await it.pay(slow)
    assert it.held() == {1: "newer"}


async def test_a_text_that_is_there_already_is_kept_from_slow_followers_as_well(database: Database) -> None:
    async with following(database) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 1")
        slow = await it.owed()
        it.documents.run("UPDATE docs SET body = 'newer' WHERE id = 1")
        await it.fill()  # of the newer text, and without a revision
        cleared = await it.pay(await it.owed())
        await it.pay(slow)
    assert (cleared, it.held()) == (1, {1: "newer", 2: "text 2", 3: "text 3"})


async def test_a_backfill_that_comes_late_brings_nothing_old_and_nothing_deleted_back(database: Database) -> None:
    async with following(database) as it:
        lease, page = await it.page()
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 1; DELETE FROM docs WHERE id = 2")
        await it.pay(await it.owed())
        await it.pods.commit(lease, page, {})
    assert it.held() == {1: "new", 2: None, 3: "text 3"}


async def test_a_page_that_was_read_before_the_table_was_emptied_is_not_stored_after(database: Database) -> None:
    async with following(database) as it:
        lease, page = await it.page()
        it.documents.run("TRUNCATE docs")
        await it.changes.spread(0)
        with pytest.raises(Fenced):
            await it.pods.commit(lease, page, {})
    assert it.held() == {}


async def test_who_read_a_document_before_the_table_was_emptied_cannot_clear_its_debt(database: Database) -> None:
    async with following(database) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 1")
        slow = await it.owed()
        it.documents.run("TRUNCATE docs")
        await it.changes.spread(0)
        await it.pay(slow)
        await it.pay(await it.owed())
    assert it.held() == {1: None}


async def test_a_change_that_is_not_committed_while_its_document_is_mended_is_stored_all_the_same(
    database: Database,
) -> None:
    async with following(database) as it:
        await it.fill()
        it.documents.run("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET body = 'new' WHERE id = 1")
        it.documents.run("ALTER TABLE docs ENABLE TRIGGER USER")
        with psycopg.connect(database.owner_dsn) as application:
            application.execute("UPDATE docs SET body = 'newer' WHERE id = 1")
            found, _ = await it.changes.compare(PLAN.name, None, 100)
            await it.pay(await it.owed())
            application.commit()
        await it.pay(await it.owed())
        again, _ = await it.changes.compare(PLAN.name, None, 100)
    assert (found, again) == (Differences(stale=1), Differences())
    assert it.held() == {1: "newer", 2: "text 2", 3: "text 3"}


@pytest.mark.parametrize("finds", ["spread", "compare"])
async def test_nothing_is_owed_to_a_collection_that_is_withdrawn_meanwhile(database: Database, finds: str) -> None:
    async with following(database) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 1")
        with psycopg.connect(database.owner_dsn) as worker:
            worker.execute("UPDATE reembed.collection SET state = 'Withdrawn'")
            worker.execute("DELETE FROM reembed.owed")
            found = asyncio.create_task(
                it.changes.spread(0) if finds == "spread" else it.changes.compare(PLAN.name, None, 9)
            )
            await it.waits_or_ends(found)
            worker.commit()
        await found
    assert it.documents.rows("SELECT id FROM reembed.owed") == []


async def test_a_rejected_text_is_no_difference(database: Database) -> None:
    async with following(database) as it:
        await it.fill()
        it.documents.run("UPDATE docs SET body = NULL WHERE id = 1")
        assert (await it.owed())[0].document == Document("1", None)
        differences, _ = await it.changes.compare(PLAN.name, None, 100)
    assert differences == Differences()


@pytest.mark.parametrize("parts", [1, 3], ids=["whole documents", "parts"])
async def test_a_page_of_a_comparison_reads_no_rows_behind_it(database: Database, parts: int) -> None:
    """Of 4,000 documents 100 are compared: were the rest read with each page, a large collection would take days."""
    documents = Documents(database).create(4000)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, plan(fingerprint="fp-new" if parts == 1 else "fp-new+2-0-Token", shards=1))
    documents.run(
        "INSERT INTO reembed.c_new (id, part, embedding)"
        f" SELECT n, p - 1, '[1,0,0,0,0,0,0,0]' FROM generate_series(1, 4000) n, generate_series(1, {parts}) p"
    )
    documents.run("VACUUM ANALYZE reembed.c_new")
    source = tables.source_of(SPEC)
    query = comparison._query(PLAN.name, source, "bigint", rows._at_once(source), first=False, is_cut=parts > 1)
    given = {"after": "200", "limit": 100, "name": PLAN.name, "key": KEY}
    with psycopg.connect(database.owner_dsn) as worker:
        found = worker.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + query, given).fetchone()
    assert found is not None
    assert 100 * parts <= read_of("c_new", found[0][0]["Plan"]) <= 200 * parts


def read_of(table: str, node: dict[str, Any]) -> float:
    """Return how many rows of a table a plan read, with those that it passed over."""
    here = 0.0
    if node.get("Relation Name") == table:
        names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        here = sum([node.get(name, 0.0) for name in names]) * node["Actual Loops"]
    return here + sum([read_of(table, one) for one in node.get("Plans", [])])
