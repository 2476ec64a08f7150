"""An index is built as it is asked for, says how far it is, and answers once it is known what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from reembed.core.model import Metric, PointerPlan, VectorIndex
from reembed.stores.pgvector import recall
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.protocol import StoreError, Unfit
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan

POOR = VectorIndex(m=2, ef_construction=4)
GOOD = VectorIndex(m=16, ef_construction=64)


@asynccontextmanager
async def keeping(database: Database) -> AsyncIterator[Keeper]:
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.claim()
        yield keeper


async def filled(keeper: Keeper, database: Database, vectors: np.ndarray, metric: Metric = Metric.COSINE) -> None:
    """Make collection c_new with these vectors, as a backfill that is done would leave it."""
    await keeper.create(replace(SPEC, metric=metric), plan(dimensions=vectors.shape[1]))
    with psycopg.connect(database.owner_dsn, autocommit=True) as connection:
        with connection.cursor().copy("COPY reembed.c_new (id, embedding) FROM STDIN") as copy:
            for number, vector in enumerate(vectors):
                copy.write_row([number, str([float(one) for one in vector])])
        connection.execute(
            "UPDATE reembed.shard SET done = true, written = CASE WHEN n = 0 THEN %s ELSE 0 END", [len(vectors)]
        )


def noise(count: int, dimensions: int = 48) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, dimensions)).astype("<f4")


@pytest.mark.parametrize("metric", Metric)
async def test_a_good_index_finds_nearly_all(database: Database, metric: Metric) -> None:
    documents = Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(1500, 16), metric)
        await keeper.build_index("c_new", GOOD)
        (held,) = await keeper.held()
    assert held.recall is not None
    assert (held.state, held.recall >= 0.95, held.shape) == ("Indexed", True, (16, 64))
    assert documents.rows("SELECT recall_queries, recall_at IS NOT NULL FROM reembed.collection") == [(200, True)]


async def test_a_poor_index_is_seen_and_another_one_is_built(database: Database) -> None:
    documents = Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(6000))
        await keeper.build_index("c_new", POOR)
        (poor,) = await keeper.held()
        await keeper.discard_index("c_new")
        (none,) = await keeper.held()
        await keeper.build_index("c_new", VectorIndex(m=48, ef_construction=200))
        (good,) = await keeper.held()
    assert poor.recall is not None
    assert good.recall is not None
    assert (poor.recall < 0.9, none.state, none.recall, good.recall > 0.9) == (True, "Filling", None, True)
    options = "SELECT reloptions FROM pg_class WHERE relname = 'c_new_embedding'"
    assert documents.rows(options) == [(["m=48", "ef_construction=200"],)]


async def test_an_index_that_answers_is_not_discarded(database: Database) -> None:
    documents = Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(20))
        await keeper.build_index("c_new", GOOD)
        await keeper.move_pointer(PointerPlan("c_new", "fp-new", 1))
        await keeper.discard_index("c_new")
        (held,) = await keeper.held()
    assert (held.state, documents.rows("SELECT to_regclass('reembed.c_new_embedding') IS NULL")) == (
        "Indexed",
        [(False,)],
    )


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        pytest.param(noise(0), None, id="none"),
        pytest.param(noise(1), None, id="one"),
        pytest.param(np.zeros((30, 8), "<f4"), None, id="without a direction"),
        pytest.param(np.ones((300, 8), "<f4"), 1.0, id="all the same"),
    ],
)
async def test_vectors_that_say_little_hold_nothing_up(
    database: Database, vectors: np.ndarray, expected: float | None
) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, vectors)
        await keeper.build_index("c_new", GOOD)
        (held,) = await keeper.held()
    assert (held.state, held.recall) == ("Indexed", expected)


async def test_what_cannot_be_measured_in_time_answers_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(20_000, 200))
        monkeypatch.setattr(recall, "_QUERY_SECONDS", 0.002)
        with pytest.raises(Unfit, match=r"set spec\.vectorIndex\.minRecall of the index to 0"):
            await keeper.build_index("c_new", VectorIndex(m=4, ef_construction=8))
        (held,) = await keeper.held()
        await keeper.build_index("c_new", VectorIndex(m=4, ef_construction=8, min_recall=0.0))
        (unmeasured,) = await keeper.held()
    assert (held.state, unmeasured.state, unmeasured.recall) == ("Filling", "Indexed", None)


async def test_the_time_for_measuring_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = Documents(database).create(1)
    monkeypatch.setattr(recall, "_SECONDS", 0.0)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(100))
        await keeper.build_index("c_new", GOOD)
    assert documents.rows("SELECT recall_queries FROM reembed.collection") == [(1,)]


async def test_a_shape_that_pgvector_refuses_is_told(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(5))
        with pytest.raises(StoreError, match="ef_construction must be greater than or equal to 2"):
            await keeper.build_index("c_new", VectorIndex(m=50, ef_construction=64))


async def test_an_index_that_is_built_says_how_far_it_is(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(8000))
        task = asyncio.create_task(keeper.build_index("c_new", VectorIndex(m=32, ef_construction=400)))
        seen = []
        while not task.done():
            seen += [one for one in (await keeper.building({"c_new": 8000})).values() if one.done]
            await asyncio.sleep(0.01)
        await task
    assert seen
    assert {one.phase for one in seen} <= {"building index: loading tuples", "building index"}
    assert all(0 < one.done <= one.total == 8000 for one in seen)
    assert [one.done for one in seen] == sorted([one.done for one in seen])


async def test_the_memory_of_a_build_ends_at_what_an_administrator_set(database: Database) -> None:
    documents = Documents(database).create(1)
    # Below what pgvector needs for so many vectors: a notice says so, and the index is built all the same.
    with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database.name} SET maintenance_work_mem = '1MB'")
    async with keeping(database) as keeper:
        await filled(keeper, database, noise(3000))
        await keeper.build_index("c_new", GOOD)
    assert documents.rows("SELECT state FROM reembed.collection") == [("Indexed",)]
