"""What the application writes comes into every live collection, each by itself, and nothing that is gone answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from reembed.backfill.follower import Follower
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.retries import Backoff, Retrying
from reembed.backfill.shard import Work, fill
from reembed.client import EmbedderUnavailable, TextRefused
from reembed.core.model import CollectionPlan, Desired, IndexSpec
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

OLD = plan(name="c_old", fingerprint="fp-old", desired=Desired.INDEXED)
NEW = replace(PLAN, desired=Desired.PRESENT)


@dataclass
class Followed:
    """A follower at work on two full collections, with an embedder for each fingerprint."""

    documents: Documents
    keeper: Keeper
    embedders: dict[str, FakeEmbedder]
    follower: Follower = field(init=False)
    later: float = 0.0  # seconds that the follower's clock is ahead

    def clock(self) -> float:
        return time.monotonic() + self.later

    async def settled(self) -> None:
        """Wait until nothing that was written lacks anywhere."""
        await self.until("SELECT (SELECT count(*) FROM reembed.dirty) + (SELECT count(*) FROM reembed.owed)", 0)

    async def until(self, query: str, expected: Any) -> None:
        async with asyncio.timeout(20):
            while self.documents.rows(query) != [(expected,)]:  # noqa: ASYNC110 a database is read, it tells nobody
                await asyncio.sleep(0.02)

    async def found(self, made: CollectionPlan, text: str) -> str:
        """Return the document that is nearest to a text."""
        hits = await self.keeper.search(made.name, made.fingerprint, vector_of(text), 1)
        return hits[0].id

    async def look(self) -> None:
        held = {one.name: one for one in await self.keeper.held()}
        self.follower.follow((OLD, NEW), held)


@asynccontextmanager
async def following(
    database: Database, count: int = 20, spec: IndexSpec = SPEC, prepare: str = "SELECT 1"
) -> AsyncIterator[Followed]:
    documents = Documents(database).create(count)
    documents.run("ALTER TABLE docs ADD COLUMN size int NOT NULL DEFAULT 1; UPDATE docs SET size = 0 WHERE id = 3")
    documents.run(prepare)
    embedders = {made.fingerprint: FakeEmbedder(made.fingerprint) for made in (OLD, NEW)}

    @asynccontextmanager
    async def connect(made: CollectionPlan) -> AsyncIterator[FakeEmbedder]:
        yield embedders[made.fingerprint]

    async with Keeper(database.owner_dsn, KEY, UID) as keeper, Changes(database.owner_dsn, KEY) as changes:
        await keeper.prepare(spec)
        await keeper.claim()
        await keeper.capture(spec)
        for made in (OLD, NEW):
            await keeper.create(spec, made)
            await full(database, made)
            await keeper.build_index(made.name)
        retrying = Retrying(Backoff(0.001, 0.01), random.Random(1))
        followed = Followed(documents, keeper, embedders)
        followed.follower = follower = Follower(changes, connect, retrying, followed.clock, WorkerMetrics())
        await followed.look()
        task = asyncio.create_task(follower.run())
        try:
            yield followed
        finally:
            task.cancel()
            await asyncio.wait({task})


async def full(database: Database, made: CollectionPlan) -> None:
    async with ShardStore(database.owner_dsn) as store:
        work = [Work(made.name, shard, made.fingerprint) for shard in range(made.shards)]
        await asyncio.gather(*[fill(one, store, FakeEmbedder(made.fingerprint)) for one in work])


def behind(followed: Followed) -> dict[str, int]:
    return {name: lag.documents for name, lag in followed.follower.lags.items()}


def always(error: Exception) -> Callable[[Sequence[str]], None]:
    def fail(texts: Sequence[str]) -> None:
        raise error

    return fail


def refuse(text: str) -> Callable[[Sequence[str]], None]:
    def look(texts: Sequence[str]) -> None:
        if text in texts:
            raise TextRefused(texts.index(text), "the text is not for this model")

    return look


async def test_what_is_written_is_found_in_both_collections(database: Database) -> None:
    async with following(database) as followed:
        followed.documents.run("UPDATE docs SET body = 'changed' WHERE id = 7")
        followed.documents.run("INSERT INTO docs VALUES (100, 'added')")
        await followed.settled()
        found = [await followed.found(made, text) for made in (OLD, NEW) for text in ("changed", "added")]
    assert found == ["7", "100", "7", "100"]


async def test_a_deleted_document_leaves_a_tombstone_without_a_vector(database: Database) -> None:
    async with following(database) as followed:
        followed.documents.run("DELETE FROM docs WHERE id = 7")
        await followed.settled()
    for made in (OLD, NEW):
        assert followed.documents.rows(f"SELECT id, embedding FROM reembed.{made.name} WHERE id = 7") == [(7, None)]


async def test_a_text_that_is_written_back_is_not_embedded_again(database: Database) -> None:
    async with following(database) as followed:
        followed.documents.run("UPDATE docs SET body = body || '' WHERE id = 7")
        followed.documents.run("BEGIN; DELETE FROM docs WHERE id = 8; INSERT INTO docs VALUES (8, 'text 8'); COMMIT")
        await followed.settled()
    assert [one.embedded for one in followed.embedders.values()] == [{}, {}]


async def test_a_text_that_became_unembeddable_answers_no_more_and_is_listed(database: Database) -> None:
    async with following(database) as followed:
        followed.documents.run("UPDATE docs SET body = ' ' WHERE id = 7")
        await followed.settled()
        rejected = followed.documents.rows("SELECT collection, id, reason FROM reembed.rejected ORDER BY 1")
        nearest = await followed.found(NEW, "text 7")
        followed.documents.run("UPDATE docs SET body = 'text 7' WHERE id = 7")
        await followed.settled()
        again = await followed.found(NEW, "text 7")
    assert rejected == [("c_new", "7", "TextEmpty"), ("c_old", "7", "TextEmpty")]
    assert nearest != "7"
    assert again == "7"
    assert followed.documents.rows("SELECT count(*) FROM reembed.rejected") == [(0,)]


async def test_a_text_that_the_embedder_refuses_holds_up_no_other(database: Database) -> None:
    async with following(database) as followed:
        followed.embedders["fp-new"].before = refuse("poison")
        followed.documents.run("UPDATE docs SET body = 'good ' || id WHERE id < 12")
        followed.documents.run("UPDATE docs SET body = 'poison' WHERE id = 7")
        await followed.settled()
        found = await followed.found(NEW, "good 11")
    assert found == "11"
    assert followed.documents.rows("SELECT collection, id, reason FROM reembed.rejected") == [
        ("c_new", "7", "TextInvalid")
    ]


async def test_a_dead_embedder_makes_its_own_collection_late_and_no_other(database: Database) -> None:
    async with following(database) as followed:
        followed.embedders["fp-old"].before = always(EmbedderUnavailable("gone"))
        followed.documents.run("UPDATE docs SET body = 'changed' WHERE id = 7")
        async with asyncio.timeout(20):
            while behind(followed) != {"c_old": 1, "c_new": 0}:  # noqa: ASYNC110 a figure is read, it tells nobody
                await asyncio.sleep(0.02)
        found = await followed.found(NEW, "changed")
        followed.embedders["fp-old"].before = lambda texts: None
        await followed.settled()
    assert found == "7"


async def test_marks_that_cannot_be_read_are_no_sign_of_health(database: Database) -> None:
    async with following(database) as followed:
        followed.documents.run("ALTER TABLE reembed.dirty RENAME TO dirty_away")
        await asyncio.sleep(0.3)
        followed.later = 60.0
        async with asyncio.timeout(20):
            while not all(lag.seconds > 50 for lag in followed.follower.lags.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        followed.documents.run("ALTER TABLE reembed.dirty_away RENAME TO dirty")
        async with asyncio.timeout(20):
            while any(lag.seconds > 50 for lag in followed.follower.lags.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_an_emptied_table_leaves_tombstones_and_what_comes_after_is_found(database: Database) -> None:
    async with following(database) as followed:
        followed.documents.run("TRUNCATE docs")
        followed.documents.run("INSERT INTO docs VALUES (3, 'text 3'), (4, 'new')")
        await followed.settled()
        found = await followed.found(NEW, "new")
    assert found == "4"
    for made in (OLD, NEW):
        alive = f"SELECT array_agg(id ORDER BY id) FROM reembed.{made.name} WHERE embedding IS NOT NULL"
        assert followed.documents.rows(alive) == [([3, 4],)]


async def test_changes_behind_the_back_of_the_triggers_are_found_and_mended(database: Database) -> None:
    async with following(database) as followed:
        await until_verified(followed)
        followed.documents.run(
            "ALTER TABLE docs DISABLE TRIGGER USER;"
            "UPDATE docs SET body = 'changed' WHERE id = 7; DELETE FROM docs WHERE id = 8;"
            "INSERT INTO docs VALUES (100, 'added'); ALTER TABLE docs ENABLE TRIGGER USER"
        )
        followed.documents.run("DROP TRIGGER IF EXISTS nothing ON docs")
        followed.documents.run("INSERT INTO reembed.gap (index_key, message) VALUES (%s, 'told by a trigger')", [KEY])
        await followed.keeper.capture(SPEC)
        unverified = [one.verified for one in await followed.keeper.held()]
        await until_verified(followed)
        await followed.settled()
        found = [await followed.found(made, text) for made in (OLD, NEW) for text in ("changed", "added")]
    assert unverified == [False, False]
    assert found == ["7", "100", "7", "100"]
    differences = "SELECT missing, stale, orphaned FROM reembed.collection"
    assert followed.documents.rows(differences) == [(1, 1, 1), (1, 1, 1)]


async def test_a_row_whose_expression_fails_answers_no_more_until_it_is_mended(database: Database) -> None:
    spec = replace(SPEC, text_column=None, text_sql="body || (8 / size)::text")
    async with following(database, spec=spec) as followed:
        backfilled = followed.documents.rows("SELECT collection, id, reason, message FROM reembed.rejected ORDER BY 1")
        followed.documents.run("UPDATE docs SET size = 0 WHERE id = 7")
        followed.documents.run("UPDATE docs SET body = 'changed' WHERE id = 8")
        await followed.settled()
        rejected = followed.documents.rows("SELECT collection, id, reason FROM reembed.rejected ORDER BY 1, 2")
        nearest = [await followed.found(NEW, text) for text in ("text 78", "changed8")]
        await until_verified(followed)
        differences = followed.documents.rows("SELECT missing, stale, orphaned FROM reembed.collection")
        followed.documents.run("UPDATE docs SET size = 2 WHERE id IN (3, 7)")
        await followed.settled()
        again = [await followed.found(made, text) for made in (OLD, NEW) for text in ("text 34", "text 74")]
    message = (
        "the source's expression fails for this row with SQLSTATE 22012 DivisionByZero, so there is nothing to embed; "
        "correct the row, and its update is embedded"
    )
    assert backfilled == [("c_new", "3", "TextFailed", message), ("c_old", "3", "TextFailed", message)]
    assert rejected == [(name, found, "TextFailed") for name in ("c_new", "c_old") for found in ("3", "7")]
    assert nearest[0] != "7"
    assert nearest[1] == "8"
    assert differences == [(0, 0, 0), (0, 0, 0)]
    assert again == ["3", "7", "3", "7"]
    assert followed.documents.rows("SELECT count(*) FROM reembed.rejected") == [(0,)]


async def test_a_comparison_finds_what_is_missed_beside_rows_whose_expression_fails(database: Database) -> None:
    spec = replace(SPEC, text_column=None, text_sql="body || (8 / size)::text")
    async with following(database, spec=spec) as followed:
        await until_verified(followed)
        followed.documents.run(
            "ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET size = 0 WHERE id = 7;"
            "UPDATE docs SET body = 'changed' WHERE id = 8; ALTER TABLE docs ENABLE TRIGGER USER"
        )
        followed.documents.run("INSERT INTO reembed.gap (index_key, message) VALUES (%s, 'told by a trigger')", [KEY])
        await followed.keeper.capture(spec)
        await until_verified(followed)
        await followed.settled()
        nearest = [await followed.found(NEW, text) for text in ("text 78", "changed8")]
    assert (nearest[0] != "7", nearest[1]) == (True, "8")
    assert followed.documents.rows("SELECT missing, stale, orphaned FROM reembed.collection") == [(0, 2, 0), (0, 2, 0)]


FILTERED = replace(SPEC, filter="size % 7 <> 6 AND 1 / size >= 0")


async def test_a_row_outside_the_filter_is_no_document_until_it_comes_in(database: Database) -> None:
    async with following(database, spec=FILTERED, prepare="UPDATE docs SET size = 6 WHERE id > 15") as followed:
        filled = [(one.total, one.written, one.rejected) for one in await followed.keeper.held()]
        counted = await followed.keeper.documents(FILTERED)
        followed.documents.run("UPDATE docs SET size = 6 WHERE id = 7")
        followed.documents.run("UPDATE docs SET size = 1 WHERE id = 17")
        followed.documents.run("INSERT INTO docs VALUES (100, 'outside', 6), (101, 'inside', 1)")
        await followed.settled()
        await until_verified(followed)
        found = [await followed.found(made, text) for made in (OLD, NEW) for text in ("text 17", "inside")]
        present = await followed.keeper.present(FILTERED, ["7", "8", "100", "101"])
        followed.documents.run("UPDATE docs SET size = 1 WHERE id = 7")
        await followed.settled()
        again = await followed.found(NEW, "text 7")
    # One row fails, and is rejected: it may be a document.
    assert filled == [(15, 14, 1), (15, 14, 1)]
    assert counted == 15
    assert found == ["17", "101", "17", "101"]
    assert present == {"8", "101"}
    assert again == "7"
    assert followed.documents.rows("SELECT missing, stale, orphaned FROM reembed.collection") == [(0, 0, 0), (0, 0, 0)]
    assert followed.documents.rows(f"SELECT count(*) FROM reembed.{NEW.name} WHERE id IN (16, 18, 100)") == [(0,)]


async def test_a_row_that_left_the_filter_is_not_found_before_the_follower_knows(database: Database) -> None:
    async with following(database, spec=FILTERED) as followed:
        followed.documents.run("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET size = 6 WHERE id = 7")
        left = await followed.found(NEW, "text 7")
        followed.documents.run("UPDATE docs SET size = 0 WHERE id = 8")
        failing = [await followed.found(NEW, text) for text in ("text 7", "text 8", "text 9")]
    assert left != "7"
    assert (failing[0] != "7", failing[1] != "8", failing[2]) == (True, True, "9")


async def test_a_table_that_is_emptied_and_filled_with_rows_outside_the_filter_leaves_nothing(
    database: Database,
) -> None:
    async with following(database, spec=FILTERED) as followed:
        followed.documents.run("TRUNCATE docs; INSERT INTO docs VALUES (4, 'text 4', 6), (5, 'text 5', 1)")
        await followed.settled()
    for made in (OLD, NEW):
        alive = f"SELECT array_agg(id ORDER BY id) FROM reembed.{made.name} WHERE embedding IS NOT NULL"
        assert followed.documents.rows(alive) == [([5],)]


async def until_verified(followed: Followed) -> None:
    async with asyncio.timeout(20):
        while not all(one.verified for one in await followed.keeper.held()):
            await followed.look()
            await asyncio.sleep(0.02)


async def test_a_withdrawn_collection_is_followed_no_more(database: Database) -> None:
    async with following(database) as followed:
        await followed.keeper.withdraw("c_old")
        held = {one.name: one for one in await followed.keeper.held()}
        followed.follower.follow((replace(OLD, desired=Desired.WITHDRAWN), NEW), held)
        followed.documents.run("UPDATE docs SET body = 'changed' WHERE id = 7")
        await followed.settled()
        found = await followed.found(NEW, "changed")
    assert (found, followed.embedders["fp-old"].embedded) == ("7", {})
