"""How fast a shard fills when the embedder costs nothing; printed for people, never judged."""

from __future__ import annotations

import asyncio
import time

import pytest

from reembed.backfill.pipeline import Senses
from reembed.backfill.shard import Work, fill
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

ROWS, DIMENSIONS, SHARDS = 20_000, 384, 2
VECTOR = vector_of("any text", DIMENSIONS)


async def test_rate_of_a_backfill_without_a_model(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    Documents(database).create(ROWS)
    embedder = FakeEmbedder(dimensions=DIMENSIONS, vector=lambda text, dimensions: VECTOR)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper, ShardStore(database.owner_dsn) as store:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, plan(dimensions=DIMENSIONS, shards=SHARDS))
        senses = Senses(lambda: (0.1, 0.1))
        start = time.perf_counter()
        await asyncio.gather(
            *[fill(Work(PLAN.name, n, PLAN.fingerprint), store, embedder, senses) for n in range(SHARDS)]
        )
        seconds = time.perf_counter() - start
        held = await keeper.held()
    with capsys.disabled():
        print(f"\nbackfill: {ROWS / seconds:,.0f} documents/s ({ROWS} x {DIMENSIONS}, no model)")  # noqa: T201 the figure is the purpose
    assert held[0].written == ROWS
