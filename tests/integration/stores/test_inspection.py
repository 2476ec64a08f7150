"""What an inspection counts in a real database: each defect is planted alone and found, and a sound table has none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from reembed.core.inspection import REPEATED, judge
from reembed.core.model import Counted, Finding, IndexSpec, InspectionReport, Metric, Norms, Reproduced, Survey
from reembed.stores.pgvector.inspection import InspectionStore
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.protocol import StoreError, StoreSlow
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan, vector_of

COUNT = 40
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
ONE = "[1,0,0,0,0,0,0,0]"


def literal(vector: bytes) -> str:
    return str(np.frombuffer(vector, "<f4").tolist())


def store_all(documents: Documents) -> None:
    """Give each document of the source the vector of its text."""
    found = documents.rows("SELECT id, body FROM docs ORDER BY id")
    rows = [(one, hashlib.sha256(text.encode()).digest()[:16], literal(vector_of(text))) for one, text in found]
    with psycopg.connect(documents.database.owner_dsn, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO reembed.c_new (id, text_hash, embedding) VALUES (%s, %s, %s)", rows
        )


async def collection(database: Database, spec: IndexSpec = SPEC, count: int = COUNT) -> Documents:
    """Make a source with a collection of Reembed's own, complete and sound."""
    documents = Documents(database).create(count)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(spec)
        await keeper.create(spec, plan(shards=1))
    store_all(documents)
    return documents


def adopt(documents: Documents) -> None:
    """Move the vectors into a column of the application's own table, whose type says no dimensions."""
    documents.run("ALTER TABLE reembed.collection ADD COLUMN IF NOT EXISTS adopted text")
    documents.run("ALTER TABLE docs ADD COLUMN v vector")
    documents.run("UPDATE docs SET v = c.embedding FROM reembed.c_new c WHERE c.id = docs.id")
    documents.run("UPDATE reembed.collection SET adopted = 'v'")
    documents.run("DROP TABLE reembed.c_new")


@pytest.fixture(params=["own", "adopted"])
async def sound(request: pytest.FixtureRequest, database: Database) -> Documents:
    """A complete and sound collection of either kind."""
    documents = await collection(database)
    if request.param == "adopted":
        adopt(documents)
    return documents


def vectors_of(documents: Documents) -> tuple[str, str]:
    """Return the table and the column that hold the vectors."""
    there = documents.rows("SELECT to_jsonb(c) ->> 'adopted' FROM reembed.collection c") == [("v",)]
    return ("docs", "v") if there else ("reembed.c_new", "embedding")


def put(documents: Documents, vector: str, where: str) -> None:
    """Store another vector of some documents."""
    table, column = vectors_of(documents)
    documents.run(f"UPDATE {table} SET {column} = '{vector}' WHERE {where}")


async def survey(documents: Documents, most: int | None = None) -> Survey:
    async with InspectionStore(documents.database.owner_dsn) as store:
        return await store.survey("c_new", *([] if most is None else [most]))


async def findings(documents: Documents) -> list[tuple[str, int, tuple[str, ...]]]:
    found, _ = judge(await survey(documents), None)
    return [(one.reason, one.count, one.examples) for one in found]


async def test_of_a_sound_collection_nothing_is_found(sound: Documents) -> None:
    found = await survey(sound)
    assert found.norms is not None
    assert (found.norms.outside, found.norms.counted, round(found.norms.median, 4)) == (0, COUNT, 1.0)
    assert replace(found, norms=None) == Survey("c_new", "fp-new", "Cosine", COUNT, COUNT, COUNT, {8: COUNT})
    assert judge(found, None) == ((), None)


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        pytest.param(
            lambda it: put(it, "[0,0,0,0,0,0,0,0]", "id IN (3, 7)"), ("VectorsZero", 2, ("3", "7")), id="zero vectors"
        ),
        pytest.param(
            lambda it: put(it, "[1e30,0,0,0,0,0,0,0]", "id = 5"), ("VectorsNotFinite", 1, ("5",)), id="not finite"
        ),
        pytest.param(
            lambda it: put(it, "[3,0,0,0,0,0,0,0]", "id = 9"), ("VectorsUnnormalised", 1, ("9",)), id="mixed norms"
        ),
        pytest.param(
            lambda it: put(it, ONE, "id IN (1, 2)"), ("VectorsShared", 2, ("1", "2")), id="two texts with one vector"
        ),
        pytest.param(
            lambda it: it.run("UPDATE docs SET body = NULL WHERE id = 4"),
            ("DocumentsWithoutText", 1, ("4",)),
            id="a text that is NULL",
        ),
        pytest.param(
            lambda it: it.run("UPDATE docs SET body = E' \\n' WHERE id = 4"),
            ("DocumentsWithoutText", 1, ("4",)),
            id="a text of white space",
        ),
    ],
)
async def test_a_defect_is_found(
    sound: Documents, plant: Callable[[Documents], None], finding: tuple[str, int, tuple[str, ...]]
) -> None:
    plant(sound)
    assert await findings(sound) == [finding]


async def test_a_document_without_a_vector_is_found(sound: Documents) -> None:
    table, column = vectors_of(sound)
    sound.run(f"UPDATE {table} SET {column} = NULL WHERE id = 6")
    sound.run("INSERT INTO reembed.rejected VALUES ('c_new', '7', 'TextTooLong', 'too long')")
    sound.run(f"UPDATE {table} SET {column} = NULL WHERE id = 7")
    assert await findings(sound) == [("DocumentsWithoutVector", 1, ("6",))]


async def test_what_is_on_its_way_is_neither_missing_nor_left_over(database: Database) -> None:
    documents = await collection(database)
    documents.run("DELETE FROM reembed.c_new WHERE id = 6")
    documents.run("INSERT INTO reembed.owed (collection, id, rev, at) VALUES ('c_new', '6', 1, now())")
    documents.run("DELETE FROM docs WHERE id = 8")
    documents.run("INSERT INTO reembed.dirty (index_key, id) VALUES (%s, '8')", [KEY])
    assert await findings(documents) == []


async def test_a_vector_without_a_document_is_found(database: Database) -> None:
    documents = await collection(database)
    documents.run("DELETE FROM docs WHERE id IN (10, 11)")
    assert await findings(documents) == [("VectorsWithoutDocument", 2, ("10", "11"))]


async def test_a_tombstone_is_no_vector_without_a_document(database: Database) -> None:
    documents = await collection(database)
    documents.run("DELETE FROM docs WHERE id = 10")
    documents.run("UPDATE reembed.c_new SET embedding = NULL WHERE id = 10")
    assert await findings(documents) == []


async def test_a_vector_of_a_row_outside_the_filter_has_no_document(database: Database) -> None:
    documents = await collection(database, replace(SPEC, filter="id <> 12"))
    assert await findings(documents) == [("VectorsWithoutDocument", 1, ("12",))]


async def test_an_adopted_vector_of_a_row_outside_the_filter_is_not_looked_at(database: Database) -> None:
    documents = await collection(database, replace(SPEC, filter="id <> 12"))
    adopt(documents)
    put(documents, "[0,0,0,0,0,0,0,0]", "id = 12")
    found = await survey(documents)
    assert (found.vectors, found.read, judge(found, None)) == (COUNT - 1, COUNT - 1, ((), None))


async def test_vectors_of_several_dimensions_are_found_in_an_adopted_column(database: Database) -> None:
    documents = await collection(database)
    adopt(documents)
    put(documents, "[1,0,0]", "id = 20")
    assert await findings(documents) == [("MixedDimensions", 1, ("20",))]


async def test_one_vector_of_very_many_documents_is_found(database: Database) -> None:
    documents = await collection(database, count=REPEATED + 1)
    put(documents, ONE, "true")
    documents.run("UPDATE reembed.c_new SET text_hash = 'the same'")  # texts are not what tells it
    assert [found[:2] for found in await findings(documents)] == [("VectorsRepeated", REPEATED + 1)]


async def test_one_text_of_two_documents_may_have_one_vector(database: Database) -> None:
    documents = await collection(database)
    documents.run("UPDATE reembed.c_new SET (text_hash, embedding) = ('the same', %s) WHERE id < 9", [ONE])
    assert await findings(documents) == []


async def test_parts_of_documents_may_have_one_vector(database: Database) -> None:
    """Of a document that was cut the first part carries the hash of the whole text."""
    documents = await collection(database)
    put(documents, ONE, "id < 9")
    documents.run("INSERT INTO reembed.c_new (id, part, embedding) SELECT id, 1, embedding FROM reembed.c_new")
    found = await survey(documents)
    assert (found.vectors, found.shared, found.without_document) == (2 * COUNT, Counted(), Counted())
    async with InspectionStore(database.owner_dsn) as store:
        assert await store.sample("c_new", 5) == []


async def test_half_vectors_are_looked_at_too(database: Database) -> None:
    documents = await collection(database)
    documents.run("ALTER TABLE reembed.c_new ALTER embedding TYPE halfvec(8)")
    assert await findings(documents) == []
    put(documents, "[0,0,0,0,0,0,0,0]", "id = 3")
    assert await findings(documents) == [("VectorsZero", 1, ("3",))]


async def test_lengths_matter_to_an_inner_product(database: Database) -> None:
    documents = await collection(database, replace(SPEC, metric=Metric.INNER_PRODUCT))
    documents.run("UPDATE reembed.c_new SET embedding = embedding + embedding")
    assert [found[:2] for found in await findings(documents)] == [("VectorsUnnormalised", COUNT)]


async def test_a_row_whose_expression_fails_has_no_text_and_stops_nothing(database: Database) -> None:
    spec = replace(SPEC, text_column=None, text_sql="body || (1 / (id - 30))::text")
    documents = await collection(database, spec)
    documents.run("DELETE FROM reembed.c_new WHERE id = 30")
    assert await findings(documents) == [("DocumentsWithoutText", 1, ("30",))]


@pytest.mark.parametrize("analysed", [True, False])
async def test_of_a_large_table_a_sample_is_read(database: Database, analysed: bool) -> None:
    documents = await collection(database, count=3000)
    for name in ("docs", "reembed.c_new"):
        documents.run(f"ANALYZE {name}" if analysed else f"ALTER TABLE {name} SET (autovacuum_enabled = false)")
    found = await survey(documents, most=1500)  # of some dozens of pages, each read or not
    assert found.documents == 3000 if analysed else found.documents > 1500  # as the planner guesses
    assert 0 < found.read < 3000
    assert 0 < found.vectors < 3000
    assert judge(found, None) == ((), None)


async def test_what_takes_too_long_ends_and_fewer_rows_are_read_in_time(sound: Documents) -> None:
    """Here each row takes 10 ms to evaluate, as a slow disk or a large text may."""
    slow = (
        "CREATE FUNCTION slow(t text) RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.01); RETURN t; END$$"
    )
    sound.run(slow)
    sound.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1000, 2999) n; ANALYZE docs")
    expression = (
        """UPDATE reembed.collection SET source = source - 'text_column' || '{"text_sql": "public.slow(body)"}'"""
    )
    sound.run(expression)
    async with InspectionStore(sound.database.owner_dsn, seconds=3.0) as store:
        with pytest.raises(StoreSlow, match="timeout"):
            await store.survey("c_new", 100_000)
        assert (await store.survey("c_new", 10)).read < 200


async def test_a_sample_has_documents_with_their_texts_and_vectors(sound: Documents) -> None:
    sound.run("UPDATE docs SET body = ' ' WHERE id = 1")
    async with InspectionStore(sound.database.owner_dsn) as store:
        found = await store.sample("c_new", 200)
        few = await store.sample("c_new", 5)
    assert sorted(int(one.id) for one in found) == list(range(2, COUNT + 1))
    assert all(one.text == f"text {one.id}" for one in found)
    assert all(
        np.allclose(np.frombuffer(one.vector, "<f4"), np.frombuffer(vector_of(one.text), "<f4")) for one in found
    )
    assert len({one.id for one in few}) == 5


async def test_a_document_whose_text_changed_since_is_not_in_the_sample(database: Database) -> None:
    documents = await collection(database)
    documents.run("UPDATE docs SET body = 'another' WHERE id < 30")
    async with InspectionStore(database.owner_dsn) as store:
        assert {int(one.id) for one in await store.sample("c_new", 200)} == set(range(30, COUNT + 1))


async def test_a_collection_that_is_not_there_is_named(database: Database) -> None:
    await collection(database, count=1)
    async with InspectionStore(database.owner_dsn) as store:
        with pytest.raises(StoreError, match="collection c_gone does not exist, so nothing was inspected"):
            await store.survey("c_gone")


def report(name: str, minutes: int = 0, where: str = "c_new") -> InspectionReport:
    return InspectionReport(
        name,
        NOON + timedelta(minutes=minutes),
        where,
        "fp-new",
        40,
        40,
        (Finding("VectorsZero", 2, 0.05, ("3", "7"), "2 vectors are zero"),),
        Reproduced(40, 0.99, 0.98, 1.0),
        Norms(0.0, 1.0, 2.0, 3, 38),
    )


async def test_the_first_outcome_of_an_id_is_kept_and_of_a_collection_the_last_ones(database: Database) -> None:
    await collection(database, count=1)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper, InspectionStore(database.owner_dsn) as store:
        assert await keeper.inspections() == ()
        await store.record(report("a"))
        await store.record(report("a", minutes=9))
        await store.record(report("x", where="c_gone"))
        assert await keeper.inspections() == (report("a"),)
        for number in range(1, 8):
            await store.record(report(f"b{number}", minutes=number))
        assert [one.id for one in await keeper.inspections()] == ["b7", "b6", "b5", "b4", "b3"]
        await keeper.drop("c_new")
        assert await keeper.inspections() == ()
