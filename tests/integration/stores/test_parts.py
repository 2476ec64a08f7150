"""A document that is cut is replaced as one, found as one, and counted as one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import psycopg
import pytest

from reembed.backfill.cutting import Cutter
from reembed.backfill.documents import text_hash
from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.follower import outcomes
from reembed.backfill.inspecting import Order, inspect
from reembed.backfill.retries import Backoff, Retrying
from reembed.backfill.shard import Work, fill
from reembed.client import TextTooLong
from reembed.core.chunking import Span
from reembed.core.fingerprint import of_collection
from reembed.core.model import Chunking, CutAt, VectorIndex
from reembed.stores.pgvector import recall, schema
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.connection import transaction
from reembed.stores.pgvector.inspection import InspectionStore
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Debt, Differences, Hit, Page, Paid, Part, Rejected, StoreError, Written
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

CHUNKING = Chunking(2, 0, CutAt.TOKEN)
CUT = of_collection("fp-new", CHUNKING)
RETRYING = Retrying(Backoff(0.001, 0.01), random.Random(1))
CUT_PLAN = plan(fingerprint=CUT, shards=1)


@dataclass
class Store:
    """A cut collection of one shard, parts of two words each."""

    documents: Documents
    keeper: Keeper
    pods: ShardStore
    changes: Changes
    searcher: Searcher

    def parts(self) -> list[tuple[int, int, int, bool]]:
        """Return id, part, revision and whether there is a vector."""
        return self.documents.rows("SELECT id, part, rev, embedding IS NOT NULL FROM reembed.c_new ORDER BY id, part")

    def texts(self) -> dict[int, list[str]]:
        """Return what the parts of each document are of its text of now."""
        found: dict[int, list[str]] = {}
        for one, text in self.documents.rows(
            "SELECT d.id, substr(d.body, c.starts + 1, c.ends - c.starts) FROM reembed.c_new c JOIN docs d USING (id)"
            " WHERE c.embedding IS NOT NULL ORDER BY d.id, c.part"
        ):
            found.setdefault(one, []).append(text)
        return found

    async def fill(self, embedder: FakeEmbedder | None = None) -> None:
        await fill(Work(PLAN.name, 0, CUT), self.pods, embedder or FakeEmbedder())

    async def pay(self, outcome: Written | Rejected | bytes | None, rev: int) -> None:
        await self.changes.pay(PLAN.name, [Paid(Debt("1", rev), outcome)])


@asynccontextmanager
async def store(database: Database, *texts: str) -> AsyncIterator[Store]:
    documents = Documents(database).create(0)
    for number, text in enumerate(texts, 1):
        documents.run("INSERT INTO docs VALUES (%s, %s)", [number, text])
    async with (
        Keeper(database.owner_dsn, KEY, UID) as keeper,
        ShardStore(database.owner_dsn) as pods,
        Changes(database.owner_dsn, KEY) as changes,
        Searcher(database.gateway_dsn, 2) as searcher,
    ):
        await keeper.prepare(SPEC)
        await keeper.claim()
        assert await keeper.capture(SPEC) is None
        await keeper.create(SPEC, CUT_PLAN)
        yield Store(documents, keeper, pods, changes, searcher)


def until_somebody_waits(documents: Documents) -> None:
    while not documents.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        pass


async def follow_up(changes: Changes) -> None:
    """Pay what is owed, as the follower does."""
    documents = DocumentEmbedder(FakeEmbedder(), "fp-new", RETRYING)
    read = await changes.read(PLAN.name, await changes.owed(PLAN.name, 10))
    async for paid in outcomes(read, Cutter(CHUNKING, documents, RETRYING), PLAN.dimensions):
        await changes.pay(PLAN.name, paid)


def written(*parts: str) -> Written:
    """A document of these parts."""
    spans = [Span(10 * n, 10 * n + len(part)) for n, part in enumerate(parts)]
    first, *others = [Part(span, vector_of(part)) for span, part in zip(spans, parts, strict=True)]
    return Written("1", text_hash(" ".join(parts)), first.vector, first.span, tuple(others))


async def test_a_backfill_stores_each_document_with_all_its_parts(database: Database) -> None:
    async with store(database, "a b c d e", "f", "g h") as there:
        await there.fill()
        held = (await there.keeper.held())[0]
        assert there.texts() == {1: ["a b", "c d", "e"], 2: ["f"], 3: ["g h"]}
        assert (held.written, held.rejected, held.total) == (3, 0, 3)


async def test_a_page_that_comes_late_leaves_newer_parts_alone(database: Database) -> None:
    async with store(database, "a b c d e") as there:
        lease = await there.pods.claim(PLAN.name, 0)
        await there.pay(written("new"), 7)
        await there.pods.commit(lease, Page(None, "1", (written("old", "older", "oldest"),), ()), {})
        assert there.parts() == [(1, 0, 7, True)]


async def test_a_newer_text_replaces_all_parts_and_an_older_one_none(database: Database) -> None:
    async with store(database, "a b c d e") as there:
        await there.fill()
        await there.pay(written("x", "y"), 5)
        newest = there.parts()
        await there.pay(written("older", "b", "c", "d"), 4)
        assert newest == there.parts() == [(1, 0, 5, True), (1, 1, 0, True)]


async def test_parts_that_were_stored_while_a_newer_text_waited_are_replaced_too(database: Database) -> None:
    """A backfill's page holds the document's first part; who waits for it deletes what came with it."""
    async with store(database, "a b c d e") as there:
        with psycopg.connect(database.owner_dsn) as page:
            page.execute(
                "INSERT INTO reembed.c_new (id, part, embedding)"
                " SELECT 1, n, '[1,0,0,0,0,0,0,0]' FROM generate_series(0, 3) n"
            )
            paying = asyncio.create_task(there.pay(written("x", "y"), 5))
            await asyncio.to_thread(until_somebody_waits, there.documents)
        await paying
        assert there.parts() == [(1, 0, 5, True), (1, 1, 0, True)]


@pytest.mark.parametrize("outcome", [None, Rejected("1", "TextEmpty", "nothing")], ids=["deleted", "rejected"])
async def test_of_a_document_that_is_gone_no_part_answers(database: Database, outcome: Rejected | None) -> None:
    async with store(database, "a b c d e") as there:
        await there.fill()
        await there.pay(outcome, 5)
        assert there.parts() == [(1, 0, 5, False)]


async def test_of_a_source_that_was_emptied_no_part_answers(database: Database) -> None:
    async with store(database, "a b c d e", "f g h") as there:
        await there.fill()
        there.documents.run("TRUNCATE docs")
        await there.changes.spread(0)
        assert [(one, part, there_is) for one, part, _, there_is in there.parts()] == [(1, 0, False), (2, 0, False)]


async def test_parts_without_their_document_are_found_and_buried(database: Database) -> None:
    async with store(database, "a b c d e", "f g h") as there:
        await there.fill()
        there.documents.run("UPDATE reembed.c_new SET embedding = NULL WHERE id = 1 AND part = 0")
        there.documents.run("DELETE FROM docs WHERE id = 1")
        there.documents.run("DELETE FROM reembed.dirty")
        found, _ = await there.changes.compare(PLAN.name, None, 1000)
        changes = await there.changes.read(PLAN.name, await there.changes.owed(PLAN.name, 10))
        await there.changes.pay(PLAN.name, [Paid(change.debt, None) for change in changes])
        again, _ = await there.changes.compare(PLAN.name, None, 1000)
        assert (found, again) == (Differences(orphaned=1), Differences())
        assert there.parts() == [(1, 0, 0, False), (2, 0, 0, True), (2, 1, 0, True)]


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("DELETE FROM reembed.c_new WHERE (id, part) = (1, 2)", id="the last is missing"),
        pytest.param("DELETE FROM reembed.c_new WHERE (id, part) = (1, 1)", id="one in the middle is missing"),
        pytest.param("UPDATE reembed.c_new SET part = 7 WHERE (id, part) = (1, 2)", id="one has another's number"),
        pytest.param("DELETE FROM reembed.c_new WHERE id = 1 AND part > 0", id="all but the first are missing"),
        pytest.param(
            "INSERT INTO reembed.c_new (id, part, embedding) SELECT 1, 3, embedding FROM reembed.c_new"
            " WHERE (id, part) = (1, 0)",
            id="one too many",
        ),
    ],
)
async def test_a_document_that_lacks_parts_or_has_too_many_is_found_and_made_again(
    database: Database, harm: str
) -> None:
    async with store(database, "a b c d e", "f g h") as there:
        await there.fill()
        before = there.documents.rows("SELECT id, part, starts, ends, embedding::text FROM reembed.c_new ORDER BY 1, 2")
        there.documents.run(harm)
        found, _ = await there.changes.compare(PLAN.name, None, 1000)
        (change,) = await there.changes.read(PLAN.name, await there.changes.owed(PLAN.name, 10))
        assert (found, change.debt.id, change.text_hash) == (Differences(stale=1), "1", None)
        await follow_up(there.changes)
        again, _ = await there.changes.compare(PLAN.name, None, 1000)
        after = there.documents.rows("SELECT id, part, starts, ends, embedding::text FROM reembed.c_new ORDER BY 1, 2")
        assert (again, after) == (Differences(), before)


async def test_a_document_that_is_whole_is_kept_by_a_mark_that_changes_nothing(database: Database) -> None:
    async with store(database, "a b c d e") as there:
        await there.fill()
        change = (await there.changes.read(PLAN.name, [Debt("1", 5)]))[0]
        assert change.text_hash == text_hash("a b c d e")


async def test_a_search_answers_documents_by_their_nearest_parts(database: Database) -> None:
    async with store(database, "a b c d e", "f", "g h") as there:
        await there.fill()
        await there.keeper.build_index(PLAN.name, VectorIndex())
        hits = await there.searcher.search(PLAN.name, CUT, vector_of("c d"), 3)
        assert hits[0] == Hit("1", pytest.approx(1.0, abs=1e-6), Span(4, 7))
        assert sorted(hit.id for hit in hits) == ["1", "2", "3"]
        assert await there.searcher.search(PLAN.name, CUT, vector_of("c d"), 2) == hits[:2]


async def test_a_search_goes_on_until_it_has_as_many_documents_as_asked_for(database: Database) -> None:
    """All parts of document 1 are nearer than any other document, and they are more than are asked for at first."""
    near = vector_of("near")
    embedder = FakeEmbedder(vector=lambda text, n: near if text.startswith("near") else vector_of(text, n))
    async with store(database, " ".join(["near x"] * 150), *[f"far {n}" for n in range(9)]) as there:
        await there.fill(embedder)
        await there.keeper.build_index(PLAN.name, VectorIndex())
        hits = await there.searcher.search(PLAN.name, CUT, near, 10)
        assert (len(hits), hits[0].id, len({hit.id for hit in hits})) == (10, "1", 10)


async def test_a_document_of_too_many_parts_is_rejected_whole(database: Database) -> None:
    async with store(database, " ".join("abc"[n % 3] for n in range(2001)), "f g h") as there:
        await there.fill()
        held = (await there.keeper.held())[0]
        assert there.documents.rows("SELECT id, reason, message FROM reembed.rejected") == [
            (
                "1",
                "TooManyParts",
                "the text has 2001 tokens, which are 1001 parts of 2, above the limit of 1000 for a document, so it is "
                "not embedded; divide it, or choose longer parts",
            )
        ]
        assert (held.written, held.rejected, there.texts()) == (1, 1, {2: ["f g", "h"]})


async def test_a_document_one_part_of_which_is_refused_is_not_stored(database: Database) -> None:
    def zeros(text: str, dimensions: int) -> bytes:
        return bytes(4 * dimensions) if text == "c d" else vector_of(text, dimensions)

    async with store(database, "a b c d e", "f g h") as there:
        await there.fill(FakeEmbedder(vector=zeros))
        rejected = there.documents.rows("SELECT id, reason, message FROM reembed.rejected")
        assert [(one, reason, message[:12]) for one, reason, message in rejected] == [
            ("1", "VectorZero", "part 2 of 3:")
        ]
        assert there.texts() == {2: ["f g", "h"]}


async def test_the_same_model_with_another_cut_is_another_collection(database: Database) -> None:
    async with store(database, "a b c d e") as there:
        with pytest.raises(StoreError, match="holds vectors of fp-new\\+2-0-Token where the plan says fp-new"):
            await there.keeper.create(SPEC, plan(shards=1))


async def test_a_collection_that_is_not_cut_has_no_columns_for_parts(database: Database) -> None:
    async with store(database, "a b c d e") as there:
        await there.keeper.create(SPEC, plan(name="c_whole"))
        assert _columns(there.documents, "c_whole") == ["id", "part", "rev", "text_hash", "embedding"]
        assert _columns(there.documents, "c_new")[5:] == ["starts", "ends", "parts"]


async def test_a_collection_of_before_parts_answers_as_it_did(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = Documents(database).create(2)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper, Searcher(database.owner_dsn, 1) as searcher:
        monkeypatch.setattr(schema, "VERSION", 5)
        await keeper.prepare(replace(SPEC, gateway_role=None))
        documents.run(_BEFORE_PARTS)
        monkeypatch.undo()
        await keeper.prepare(SPEC)
        hits = await searcher.search(PLAN.name, "fp-new", vector_of("text 1"), 5)
        assert [(hit.id, hit.span) for hit in hits] == [("2", None)]
        assert documents.rows("SELECT count(*) FROM reembed.search('c_new', 'fp-new', '[1,0,0,0,0,0,0,0]', 5)") == [
            (1,)
        ]


_BEFORE_PARTS = f"""
INSERT INTO reembed.collection
    (name, index_key, uid, fingerprint, dimensions, type, metric, state, id_type, source, total)
VALUES ('c_new', '{KEY}', '{UID}', 'fp-new', 8, 'vector', 'Cosine', 'Indexed', 'bigint',
        '{{"schema": "public", "table": "docs", "id": "id", "text": "body"}}', 2);
CREATE TABLE reembed.c_new (id bigint NOT NULL, part integer NOT NULL DEFAULT 0, rev bigint NOT NULL DEFAULT 0,
    text_hash bytea, embedding vector(8), PRIMARY KEY (id, part));
INSERT INTO reembed.c_new (id, embedding) VALUES (1, NULL), (2, '[1,0,0,0,0,0,0,0]')"""


async def test_an_index_is_measured_as_searches_ask_it(database: Database) -> None:
    async with store(database, "a b c d e") as there, transaction(there.pods._pool, 10) as connection:
        await connection.execute(recall._SETTINGS)
        row = await (await connection.execute("SELECT current_setting('hnsw.ef_search')")).fetchone()
    assert row == ("100",)


def _columns(documents: Documents, table: str) -> Sequence[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    return [name for (name,) in documents.rows(query, [f"reembed.{table}"])]


async def test_parts_are_inspected_each_by_itself_and_by_the_model_that_made_them(database: Database) -> None:
    async with (
        store(database, "one two three four five", "alpha beta", "gone since") as it,
        InspectionStore(database.owner_dsn) as inspection,
    ):
        await it.fill()
        it.documents.run("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET body = 'written since' WHERE id = 3")
        sample = await inspection.sample(PLAN.name, 100)
        report = await inspect(Order("first", PLAN.name, CUT), inspection, FakeEmbedder(before=refuse_five))
    assert sorted((one.id, one.text) for one in sample) == [
        ("1", "five"),
        ("1", "one two"),
        ("1", "three four"),
        ("2", "alpha beta"),
    ]
    assert report.reproduced is not None
    assert (report.reproduced.sample, round(report.reproduced.low, 6)) == (3, 1.0)


def refuse_five(texts: Sequence[str]) -> None:
    """What a pool refuses says nothing of who made its vector."""
    if "five" in texts:
        raise TextTooLong(texts.index("five"), "it is too long")
