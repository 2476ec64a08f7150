"""A backfill stores every document once, whatever happens to its pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import numpy as np
import pytest

from reembed.backfill.documents import text_hash
from reembed.backfill.pipeline import PAGE
from reembed.backfill.retries import Backoff
from reembed.backfill.shard import Work, fill
from reembed.client import EmbedderBusy, EmbedderUnavailable, TextInvalid, TextTooLong
from reembed.core.model import CollectionPlan
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Fenced, Held, StoreError
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

QUICK = Backoff(first=0.001, longest=0.01)


@asynccontextmanager
async def filling(database: Database, made: CollectionPlan = PLAN) -> AsyncIterator[Keeper]:
    """A store with an empty collection over the documents."""
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, made)
        yield keeper


def shards(database: Database) -> AbstractAsyncContextManager[ShardStore]:
    return ShardStore(database.owner_dsn)


async def fill_one(store: ShardStore, embedder: FakeEmbedder, shard: int = 0) -> None:
    await fill(Work(PLAN.name, shard, PLAN.fingerprint), store, embedder, backoff=QUICK)


async def test_four_pods_store_every_document_once(database: Database) -> None:
    documents, embedder = Documents(database).create(2000), FakeEmbedder()
    async with filling(database) as keeper, shards(database) as store:
        await asyncio.gather(*[fill_one(store, embedder, shard) for shard in range(4)])
        held = await keeper.held()
    assert set(embedder.embedded.values()) == {1}
    assert held == (Held("c_new", "fp-new", 8, "Filling", 4, 4, 2000, 0, 2000, (), verified=False),)
    stored = documents.rows("SELECT id, part, rev, text_hash, embedding::text FROM reembed.c_new ORDER BY id")
    assert [(found, part, rev, bytes(digest)) for found, part, rev, digest, _ in stored] == [
        (n, 0, 0, text_hash(f"text {n}")) for n in range(1, 2001)
    ]
    vectors = np.array([embedding.strip("[]").split(",") for *_, embedding in stored], "<f4")
    assert np.array_equal(vectors, [np.frombuffer(vector_of(f"text {n}"), "<f4") for n in range(1, 2001)])


async def test_a_shard_that_is_done_ends_at_once(database: Database) -> None:
    Documents(database).create(20)
    async with filling(database, plan(shards=1)), shards(database) as store:
        await fill_one(store, FakeEmbedder())
        again = FakeEmbedder()
        await fill_one(store, again)
    assert again.embedded.total() == 0


async def test_a_killed_pod_costs_a_page_at_most_and_loses_nothing(database: Database) -> None:
    documents, embedder = Documents(database).create(3000), FakeEmbedder()
    kills = [700, 1500, 1600, 2500]  # after so many texts in all

    def deadly(_: Sequence[str]) -> None:
        if kills and embedder.embedded.total() >= kills[0]:
            kills.pop(0)
            pod.cancel()

    embedder.before = deadly
    async with filling(database, plan(shards=1)) as keeper, shards(database) as store:
        for _ in range(5):
            pod = asyncio.create_task(fill_one(store, embedder))
            await asyncio.wait({pod})
        held = await keeper.held()
    assert (kills, pod.cancelled(), held[0].shards_done) == ([], False, 1)
    assert (held[0].written, held[0].rejected) == (3000, 0)
    assert documents.rows("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM reembed.c_new") == [
        (3000, 3000, 1, 3000)
    ]
    assert embedder.embedded.total() - 3000 <= 4 * PAGE


async def test_of_two_pods_on_a_shard_the_first_is_fenced(database: Database) -> None:
    documents = Documents(database).create(1000)
    async with filling(database, plan(shards=1)) as keeper, shards(database) as store:
        first = asyncio.create_task(fill_one(store, FakeEmbedder(seconds=0.01)))
        await asyncio.sleep(0.1)
        await fill_one(store, FakeEmbedder())
        with pytest.raises(Fenced, match="shard 0 of c_new was taken over by another pod"):
            await first
        held = await keeper.held()
    assert (held[0].written, held[0].shards_done) == (1000, 1)
    assert documents.rows("SELECT count(*) FROM reembed.c_new") == [(1000,)]


async def test_a_late_page_neither_overwrites_a_newer_write_nor_revives_a_deleted_document(database: Database) -> None:
    documents = Documents(database).create(3)
    async with filling(database, plan(shards=1)) as keeper, shards(database) as store:
        documents.run("INSERT INTO reembed.c_new (id, rev, embedding) VALUES (1, 7, '[1,0,0,0,0,0,0,0]')")
        documents.run("INSERT INTO reembed.c_new (id, rev) VALUES (2, 8)")
        await fill_one(store, FakeEmbedder())
        held = await keeper.held()
    assert documents.rows("SELECT id, rev, embedding IS NULL FROM reembed.c_new ORDER BY id") == [
        (1, 7, False),
        (2, 8, True),
        (3, 0, False),
    ]
    assert held[0].written == 3


async def test_bad_documents_are_rejected_with_their_reasons_and_the_others_stored(database: Database) -> None:
    documents = Documents(database).create(40)
    for found, text in {3: None, 5: "", 7: " \n\t", 9: "endless", 11: "odd"}.items():
        documents.run("UPDATE docs SET body = %s WHERE id = %s", [text, found])
    bad = {"text 13": b"\x00" * 32, "text 15": vector_of("x", 4), "text 17": np.full(8, np.nan, "<f4").tobytes()}
    embedder = FakeEmbedder(
        before=refusing, vector=lambda text, dimensions: bad.get(text) or vector_of(text, dimensions)
    )
    async with filling(database, plan(shards=1)) as keeper, shards(database) as store:
        await fill_one(store, embedder)
        held = await keeper.held()
    assert (held[0].written, held[0].rejected, held[0].shards_done) == (32, 8, 1)
    assert documents.rows("SELECT id, reason, message FROM reembed.rejected ORDER BY id::int") == [
        ("3", "TextMissing", "the text is NULL, so there is nothing to embed"),
        ("5", "TextEmpty", "the text is empty or only white space, so there is nothing to embed"),
        ("7", "TextEmpty", "the text is empty or only white space, so there is nothing to embed"),
        ("9", "TextTooLong", "600 tokens, above 512"),
        ("11", "TextInvalid", "not a text"),
        ("13", "VectorZero", "the embedder answered a vector of zeros, which is near to nothing"),
        ("15", "VectorWrongLength", "the embedder answered 4 dimensions, the collection has 8"),
        ("17", "VectorNotFinite", "the embedder answered a vector with NaN or infinite numbers"),
    ]
    assert documents.rows("SELECT count(*) FROM reembed.c_new WHERE id IN (3, 5, 7, 9, 11, 13, 15, 17)") == [(0,)]


def refusing(texts: Sequence[str]) -> None:
    if "endless" in texts:
        raise TextTooLong(list(texts).index("endless"), "600 tokens, above 512")
    if "odd" in texts:
        raise TextInvalid(None, "not a text")


async def test_an_embedder_that_is_rolled_is_waited_for(database: Database) -> None:
    Documents(database).create(200)
    answers = iter([EmbedderBusy(0.001, "full"), EmbedderUnavailable("gone")] * 20)

    def rolled(_: Sequence[str]) -> None:
        if (error := next(answers, None)) is not None:
            raise error

    async with filling(database, plan(shards=1)) as keeper, shards(database) as store:
        await fill_one(store, FakeEmbedder(before=rolled))
        assert (await keeper.held())[0].written == 200


async def test_vectors_of_another_model_are_never_stored(database: Database) -> None:
    documents = Documents(database).create(20)
    async with filling(database, plan(shards=1)), shards(database) as store:
        pod = asyncio.create_task(fill_one(store, FakeEmbedder(fingerprint="fp-other")))
        await asyncio.wait({pod}, timeout=0.3)
        pod.cancel()
    assert documents.rows("SELECT count(*) FROM reembed.c_new") == [(0,)]


async def test_a_pod_made_for_another_model_writes_nothing(database: Database) -> None:
    Documents(database).create(20)
    async with filling(database, plan(shards=1)), shards(database) as store:
        with pytest.raises(StoreError, match="holds vectors of fp-new, this pod was made for fp-other"):
            await fill(Work(PLAN.name, 0, "fp-other"), store, FakeEmbedder(), backoff=QUICK)


async def test_documents_added_behind_the_last_boundary_are_stored(database: Database) -> None:
    documents = Documents(database).create(40)
    async with filling(database), shards(database) as store:
        documents.run("INSERT INTO docs VALUES (1000, 'late')")
        for shard in range(4):
            await fill_one(store, FakeEmbedder(), shard)
    assert documents.rows("SELECT count(*) FROM reembed.c_new WHERE id = 1000") == [(1,)]
