"""What is estimated is near what PostgreSQL takes, and what is measured is all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from reembed.core import space
from reembed.stores.pgvector import collections
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.protocol import StoreBusy
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, plan

_FILL = """
INSERT INTO reembed.c_new (id, part, rev, text_hash, embedding)
SELECT n, 0, 0, decode(md5(n::text), 'hex'),
       (SELECT array_agg(random() + n * 0 * d) FROM generate_series(1, {dimensions}) d)::real[]::{kind}
FROM generate_series(1, {rows}) n"""


@asynccontextmanager
async def keeping(database: Database) -> AsyncIterator[Keeper]:
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.claim()
        yield keeper


@pytest.mark.parametrize(
    ("dimensions", "rows"), [(8, 5000), (384, 1500), (768, 1000), (1536, 600), (2000, 400), (3584, 400)]
)
async def test_the_estimate_of_a_collection_is_near_what_it_takes(
    database: Database, dimensions: int, rows: int
) -> None:
    documents = Documents(database).create(1)
    kind = "vector" if dimensions <= 2000 else "halfvec"
    async with keeping(database) as keeper:
        await keeper.create(SPEC, plan(dimensions=dimensions))
        documents.run(sql.SQL(_FILL).format(dimensions=dimensions, rows=rows, kind=sql.SQL(kind)))
        documents.run("UPDATE reembed.shard SET done = true")
        await keeper.build_index("c_new")
        measured = (await keeper.space()).collections["c_new"]
    assert space.estimate(rows, dimensions) == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize("lengths", [1000, 10], ids=["all texts", "a sample"])
async def test_lengths_of_texts_are_told_by_class(
    database: Database, lengths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the texts have 100 bytes, half 3,000; some are empty, some fail, and some rows are no documents."""
    monkeypatch.setattr(collections, "_LENGTHS", lengths)
    documents = Documents(database).create(440)
    documents.run("ALTER TABLE docs ALTER body SET STORAGE PLAIN")
    documents.run(
        "UPDATE docs SET body = repeat(CASE id % 2 WHEN 0 THEN 'ä' ELSE 'abcd' END, (50 + id % 2 * 700)::int)"
    )
    documents.run("UPDATE docs SET body = '' WHERE id > 400")
    spec = replace(SPEC, filter="CASE WHEN id = 1 THEN 1 / (id - 1) = 1 ELSE id < 420 AND id <> 2 END")
    async with keeping(database) as keeper:
        found = await keeper.texts(spec, 400)
    assert [one.bytes / one.documents for one in found] == [100, 3000]
    if lengths > 400:
        assert [one.documents for one in found] == [199, 199]
    else:
        assert sum(one.documents for one in found) < 100


async def test_a_table_that_somebody_works_on_is_not_waited_for(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        with psycopg.connect(database.owner_dsn) as other:
            other.execute("LOCK TABLE reembed.c_new")
            with pytest.raises(StoreBusy):
                await keeper.space()


async def test_what_an_index_of_the_same_name_left_is_told_apart(database: Database) -> None:
    Documents(database).create(1)
    async with keeping(database) as keeper:
        await keeper.create(SPEC, PLAN)
        await keeper.release()
    async with Keeper(database.owner_dsn, KEY, f"{UID}-of-the-next") as keeper:
        found = await keeper.space()
    assert (found.collections, [(one.name, one.state) for one in found.left]) == ({}, [("c_new", "Withdrawn")])
