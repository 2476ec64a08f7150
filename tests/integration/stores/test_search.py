"""The database answers only from the collection that the query's model made, and only while it may answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from reembed.backfill.shard import Work, fill
from reembed.core.model import CollectionPlan, IndexSpec, Metric
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import CollectionMismatch, Hit, StoreError, StoreUnavailable
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, FakeEmbedder, plan, vector_of


@asynccontextmanager
async def searching(
    database: Database, spec: IndexSpec = SPEC, made: CollectionPlan = PLAN
) -> AsyncIterator[tuple[Keeper, Searcher]]:
    """An indexed collection over the documents, and a gateway's connection."""
    async with (
        Keeper(database.owner_dsn, KEY, UID) as keeper,
        ShardStore(database.owner_dsn) as store,
        Searcher(database.gateway_dsn, 2) as searcher,
    ):
        await keeper.prepare(spec)
        await keeper.create(spec, made)
        for shard in range(made.shards):
            embedder = FakeEmbedder(made.fingerprint, made.dimensions)
            await fill(Work(made.name, shard, made.fingerprint), store, embedder)
        await keeper.build_index(made.name)
        yield keeper, searcher


async def test_the_document_itself_is_found_first(database: Database) -> None:
    Documents(database).create(300)
    async with searching(database) as (_, searcher):
        hits = await searcher.search("c_new", "fp-new", vector_of("text 42"), 3)
    assert hits[0] == Hit("42", pytest.approx(1.0, abs=1e-6))
    assert len(hits) == 3


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        pytest.param(Metric.COSINE, lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b), id="cosine"),
        pytest.param(Metric.INNER_PRODUCT, lambda a, b: a @ b, id="inner product"),
        pytest.param(Metric.EUCLIDEAN, lambda a, b: -np.linalg.norm(a - b), id="euclidean"),
    ],
)
async def test_each_metric_orders_and_scores_as_it_should(database: Database, metric, score) -> None:
    Documents(database).create(60)
    query = np.frombuffer(vector_of("a question"), "<f4")
    expected = sorted(
        [Hit(str(n), score(query, np.frombuffer(vector_of(f"text {n}"), "<f4"))) for n in range(1, 61)],
        key=lambda hit: -hit.score,
    )[:5]
    async with searching(database, replace(SPEC, metric=metric)) as (_, searcher):
        hits = await searcher.search("c_new", "fp-new", query.tobytes(), 5)
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)


@pytest.mark.parametrize(
    ("collection", "fingerprint", "message"),
    [
        pytest.param(
            "c_new", "fp-old", "collection c_new holds vectors of fp-new, the query is of fp-old", id="another model"
        ),
        pytest.param("c_gone", "fp-new", "collection c_gone does not exist", id="no such collection"),
        pytest.param("c_early", "fp-new", "collection c_early answers no queries: it is filling", id="not indexed yet"),
    ],
)
async def test_a_search_that_could_be_wrong_raises(
    database: Database, collection: str, fingerprint: str, message: str
) -> None:
    Documents(database).create(10)
    async with searching(database) as (keeper, searcher):
        await keeper.create(SPEC, plan(name="c_early"))
        with pytest.raises(CollectionMismatch) as caught:
            await searcher.search(collection, fingerprint, vector_of("text 1"), 1)
    assert str(caught.value) == message


async def test_a_withdrawn_collection_answers_no_more_whatever_is_built_of_it(database: Database) -> None:
    Documents(database).create(10)
    async with searching(database) as (keeper, searcher):
        await keeper.withdraw("c_new")
        await keeper.build_index("c_new")
        with pytest.raises(CollectionMismatch, match="it is withdrawn"):
            await searcher.search("c_new", "fp-new", vector_of("text 1"), 1)


async def test_a_dropped_collection_is_a_mismatch(database: Database) -> None:
    Documents(database).create(10)
    async with searching(database) as (keeper, searcher):
        await keeper.drop("c_new")
        with pytest.raises(CollectionMismatch, match="collection c_new does not exist"):
            await searcher.search("c_new", "fp-new", vector_of("text 1"), 1)


async def test_documents_that_left_the_source_and_tombstones_are_not_found(database: Database) -> None:
    documents = Documents(database).create(50)
    async with searching(database) as (_, searcher):
        documents.run("DELETE FROM docs WHERE id = 1")
        documents.run("UPDATE reembed.c_new SET embedding = NULL WHERE id = 2")
        hits = await searcher.search("c_new", "fp-new", vector_of("text 1"), 50)
    assert sorted(int(hit.id) for hit in hits) == list(range(3, 51))


async def test_k_documents_are_found_among_many_that_left(database: Database) -> None:
    documents = Documents(database).create(3000)
    async with searching(database) as (_, searcher):
        documents.run("DELETE FROM docs WHERE id > 5")
        hits = await searcher.search("c_new", "fp-new", vector_of("text 2000"), 5)
    assert sorted(hit.id for hit in hits) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("dimensions", [2000, 2001, 3584, 4000])
async def test_large_vectors_are_held_and_found(database: Database, dimensions: int) -> None:
    documents = Documents(database).create(20)
    async with searching(database, made=plan(dimensions=dimensions, shards=1)) as (_, searcher):
        hits = await searcher.search("c_new", "fp-new", vector_of("text 7", dimensions), 1)
    assert [hit.id for hit in hits] == ["7"]
    column = documents.rows("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'embedding'"
                            " AND attrelid = 'reembed.c_new'::regclass")  # fmt: skip
    assert column == [(f"{'vector' if dimensions <= 2000 else 'halfvec'}({dimensions})",)]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        pytest.param("smallint", "n", "42", id="smallint"),
        pytest.param("text", "'doc-' || n", "doc-42", id="text"),
        pytest.param('text COLLATE "C"', "'Doc ' || n", "Doc 42", id="text of another collation"),
        pytest.param("varchar(40)", "'päge/' || n", "päge/42", id="varchar"),
        pytest.param("uuid", "md5(n::text)::uuid", "a1d0c6e8-3f02-7327-d846-1063f4ac58a6", id="uuid"),
    ],
)
async def test_keys_of_every_supported_type(database: Database, key: str, value: str, expected: str) -> None:
    Documents(database).create(90, key=key, value=value)
    async with searching(database) as (keeper, searcher):
        held = await keeper.held()
        hits = await searcher.search("c_new", "fp-new", vector_of("text 42"), 1)
    assert ([hit.id for hit in hits], held[0].written) == ([expected], 90)


async def test_names_that_need_quotes_are_quoted(database: Database) -> None:
    spec = replace(SPEC, schema='My "App"', table="Docs; 100%s {0}", id_column='The "Id"', text_column="body % text")
    documents = Documents(database, spec)
    documents.run('CREATE SCHEMA "My ""App"""')
    documents.create(30)
    async with searching(database, spec) as (_, searcher):
        hits = await searcher.search("c_new", "fp-new", vector_of("text 7"), 1)
    assert [hit.id for hit in hits] == ["7"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM docs",
        "SELECT * FROM reembed.c_new",
        "SELECT * FROM reembed.collection",
        "SELECT * FROM reembed.claim",
        "UPDATE reembed.pointer SET generation = 9",
        "DELETE FROM reembed.c_new",
        "INSERT INTO docs VALUES (1000, 'x')",
        "CREATE TABLE reembed.mine (n int)",
    ],
)
async def test_the_gateways_role_can_search_and_nothing_else(database: Database, statement: str) -> None:
    documents = Documents(database).create(10)
    async with searching(database):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            documents.run(statement, dsn=database.gateway_dsn)


async def test_a_role_without_the_grant_is_refused(database: Database) -> None:
    Documents(database).create(10)
    async with searching(database, replace(SPEC, gateway_role=None)) as (_, searcher):
        with pytest.raises(StoreError, match=r"PostgreSQL \(42501\): permission denied for schema reembed"):
            await searcher.search("c_new", "fp-new", vector_of("text 1"), 1)


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    async with Searcher("postgresql://nobody:secret@127.0.0.1:9/none", 1) as searcher:
        with pytest.raises(StoreUnavailable) as caught:
            await searcher.search("c_new", "fp-new", vector_of("text 1"), 1)
    assert "secret" not in str(caught.value)


def test_an_unreadable_connection_string_is_not_quoted() -> None:
    with pytest.raises(StoreError) as caught:
        Searcher("postgresql//owner:hunter2 @db", 1)
    assert str(caught.value) == (
        "the connection string cannot be read; write postgresql://user:password@host:5432/database"
    )
    assert caught.value.__cause__ is None
