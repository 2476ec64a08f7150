"""What the store worker makes is made once, by whoever comes first, and only forwards."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from reembed.core.model import PointerPlan
from reembed.stores.pgvector import collections, schema
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Fenced, Page, Rejected, StoreBusy, StoreError, Written
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, plan, vector_of


@asynccontextmanager
async def keeping(database: Database) -> AsyncIterator[Keeper]:
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.claim()
        yield keeper


async def indexed(database: Database, keeper: Keeper, *names: str) -> None:
    for name in names:
        await keeper.create(SPEC, plan(name=name))
        Documents(database).run("UPDATE reembed.shard SET done = true WHERE collection = %s", [name])
        await keeper.build_index(name)


async def test_workers_that_meet_make_the_schema_once(database: Database) -> None:
    documents = Documents(database).create(1)
    async with keeping(database) as one, Keeper(database.owner_dsn, KEY, UID) as two:
        documents.run("DROP SCHEMA reembed CASCADE")
        await asyncio.gather(one.prepare(SPEC), two.prepare(SPEC))
    assert documents.rows("SELECT version FROM reembed.version") == [(schema.VERSION,)]


async def test_workers_that_meet_grant_once(database: Database) -> None:
    documents = Documents(database).create(1)
    pair = ("reembed_gateway", "reembed.search(text, text, text, integer)")
    async with keeping(database) as one, AsyncExitStack() as stack:
        others = [await stack.enter_async_context(Keeper(database.owner_dsn, KEY, UID)) for _ in range(7)]
        for _ in range(5):
            documents.run(f"REVOKE ALL ON FUNCTION {pair[1]} FROM {pair[0]}")
            documents.run(f"REVOKE ALL ON SCHEMA reembed FROM {pair[0]}")
            await asyncio.gather(*[each.prepare(SPEC) for each in (one, *others)])
    assert documents.rows("SELECT has_function_privilege(%s, %s, 'EXECUTE')", list(pair)) == [(True,)]


async def test_a_schema_of_a_newer_program_is_left_alone(database: Database) -> None:
    documents = Documents(database).create(1)
    async with keeping(database) as keeper:
        documents.run("UPDATE reembed.version SET version = 99")
        with pytest.raises(
            StoreError, match=f"schema reembed is of version 99, this program knows version {schema.VERSION}"
        ):
            await keeper.prepare(SPEC)


async def test_a_collection_is_made_once(database: Database) -> None:
    Documents(database).create(100)
    async with keeping(database) as keeper:
        await asyncio.gather(*[keeper.create(SPEC, PLAN) for _ in range(3)])
        await keeper.create(SPEC, PLAN)
        held = await keeper.held()
    assert [(one.name, one.shards, one.shards_done, one.total) for one in held] == [("c_new", 4, 0, 100)]


async def test_shards_are_equal_and_empty_ones_are_done(database: Database) -> None:
    documents = Documents(database).create(2)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
    assert documents.rows("SELECT n, lower, upper, done FROM reembed.shard ORDER BY n") == [
        (0, None, "1", False),
        (1, "1", "2", False),
        (2, "2", None, False),
        (3, None, None, True),
    ]


@pytest.mark.parametrize("view", [pytest.param(False, id="a table"), pytest.param(True, id="a view")])
async def test_a_large_source_is_cut_by_a_sample_where_one_can_be_taken(
    database: Database, monkeypatch: pytest.MonkeyPatch, view: bool
) -> None:
    monkeypatch.setattr(collections, "_LARGE", 10_000)
    monkeypatch.setattr(collections, "_SAMPLE", 10_000)
    documents = Documents(database).create(20_000)
    if view:
        documents.run("ALTER TABLE docs RENAME TO kept")
        documents.run("CREATE VIEW docs AS SELECT * FROM kept")
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        held = await keeper.held()
    rows = documents.rows("SELECT lower::int, upper::int, done FROM reembed.shard ORDER BY n")
    uppers = [upper for _, upper, _ in rows[:-1]]
    assert (held[0].total, [done for *_, done in rows]) == (20_000, [False] * 4)
    assert [lower for lower, *_ in rows] == [None, *uppers]
    # A sample's boundaries lie near their places: each shard has a twentieth of all at least, by five deviations.
    ends = [0, *uppers, 20_000]
    assert all(end - begin >= 1_000 for begin, end in itertools.pairwise(ends))
    assert view is (uppers == [5_000, 10_000, 15_000])


async def test_a_collection_is_never_taken_over_by_another_model(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        with pytest.raises(StoreError, match="c_new holds vectors of fp-new where the plan says fp-other"):
            await keeper.create(SPEC, plan(fingerprint="fp-other"))


async def test_the_pointer_moves_by_generation_alone(database: Database) -> None:
    Documents(database).create(1)
    old, new = PointerPlan("c_old", "fp-new", 1), PointerPlan("c_new", "fp-new", 2)
    async with keeping(database) as keeper:
        await indexed(database, keeper, "c_old", "c_new")
        seen = []
        for move in (old, new, old, PointerPlan("c_old", "fp-new", 2), PointerPlan("c_old", "fp-new", 3)):
            await keeper.move_pointer(move)
            seen.append(await keeper.pointer())
    assert seen == [old, new, new, new, PointerPlan("c_old", "fp-new", 3)]


async def test_the_pointer_names_no_collection_that_does_not_answer(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        await indexed(database, keeper, "c_ready")
        for move in (PointerPlan("c_new", "fp-new", 1), PointerPlan("c_ready", "fp-wrong", 1)):
            await keeper.move_pointer(move)
        assert await keeper.pointer() is None


async def test_an_index_that_another_worker_builds_is_not_built_twice(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        with psycopg.connect(database.owner_dsn) as other:
            other.execute("SELECT pg_advisory_xact_lock(hashtextextended('c_new', 1))")
            with pytest.raises(StoreBusy, match="another worker builds the index of c_new"):
                await keeper.build_index("c_new")


async def test_a_lock_on_the_collection_is_not_waited_for(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        with psycopg.connect(database.owner_dsn) as other:
            other.execute("LOCK TABLE reembed.c_new")
            with pytest.raises(StoreBusy, match="canceling statement due to lock timeout"):
                await keeper.drop("c_new")


async def test_a_page_whose_answer_was_lost_is_not_counted_twice(database: Database) -> None:
    documents = Documents(database).create(2)
    page = Page(None, "2", (Written("1", b"h" * 16, vector_of("text 1")),), (Rejected("2", "TextEmpty", "empty"),))
    async with keeping(database) as keeper, ShardStore(database.owner_dsn) as store:
        await keeper.create(SPEC, plan(shards=1))
        lease = await store.claim("c_new", 0)
        await store.commit(lease, page, {"embed": 1.0})
        await store.commit(lease, page, {"embed": 1.0})
        held = await keeper.held()
    assert (held[0].written, held[0].rejected, held[0].stages) == (1, 1, ({"embed": 1.0},))
    assert documents.rows("SELECT position FROM reembed.shard") == [("2",)]


async def test_a_page_is_refused_once_another_pod_holds_the_shard(database: Database) -> None:
    documents = Documents(database).create(2)
    page = Page(None, "1", (Written("1", b"h" * 16, vector_of("text 1")),), (Rejected("2", "TextEmpty", "empty"),))
    async with keeping(database) as keeper, ShardStore(database.owner_dsn) as store:
        await keeper.create(SPEC, plan(shards=1))
        lease = await store.claim("c_new", 0)
        await store.claim("c_new", 0)
        with pytest.raises(Fenced):
            await store.commit(lease, page, {})
        with pytest.raises(Fenced):
            await store.finish(lease)
    assert documents.rows("SELECT count(*) FROM reembed.c_new") == [(0,)]
    assert documents.rows("SELECT count(*) FROM reembed.rejected") == [(0,)]


async def test_pages_of_large_texts_are_cut_by_their_size(database: Database) -> None:
    documents = Documents(database).create(4)
    documents.run("UPDATE docs SET body = repeat('x', 9 * 1024 * 1024) WHERE id < 4")
    async with keeping(database) as keeper, ShardStore(database.owner_dsn) as store:
        await keeper.create(SPEC, plan(shards=1))
        lease = await store.claim("c_new", 0)
        first = await store.read(lease, None, 500)
        second = await store.read(lease, first[-1].id, 500)
    assert ([one.id for one in first], [one.id for one in second]) == (["1", "2"], ["3", "4"])


async def test_a_deleted_index_leaves_its_collections_withdrawn_and_its_name_free(database: Database) -> None:
    documents = Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        await keeper.release()
    assert documents.rows("SELECT state FROM reembed.collection") == [("Withdrawn",)]
    assert documents.rows("SELECT uid FROM reembed.claim") == []
