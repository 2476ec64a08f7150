"""Vectors in a column of the application's own table: adopted as they are, and kept fresh by whoever says so."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import psycopg
import pytest

from reembed.backfill.documents import text_hash
from reembed.backfill.follower import Follower
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.retries import Backoff, Retrying
from reembed.core.model import Adopted, CollectionPlan, Desired, IndexSpec, Kept, MaintainedBy, Metric
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher, literal
from reembed.stores.pgvector.watched import ROOM
from reembed.stores.protocol import Change, Differences, Paid, Rejected, Unfit, Watched, Watching, Written
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, FakeEmbedder, vector_of

BY_APPLICATION = replace(SPEC, adopted=Adopted("embedding", "old"))
BY_REEMBED = replace(SPEC, adopted=Adopted("embedding", "old", MaintainedBy.REEMBED))
PLAN = CollectionPlan("a_docs", "old", "fp-old", 8, 1, Desired.INDEXED)
COUNT = 20


def table(database: Database, kind: str = "vector(8)") -> Documents:
    """Make the application's table with a vector for each text."""
    documents = Documents(database).create(COUNT)
    documents.run(f"ALTER TABLE docs ADD embedding {kind}")
    for n in range(1, COUNT + 1):
        documents.run("UPDATE docs SET embedding = %s WHERE id = %s", [literal(vector_of(f"text {n}")), n])
    return documents


@dataclass
class Adopting:
    documents: Documents
    keeper: Keeper
    changes: Changes
    searcher: Searcher

    async def nearest(self, text: str, k: int = 1) -> list[str]:
        return [hit.id for hit in await self.searcher.search(PLAN.name, PLAN.fingerprint, vector_of(text), k)]

    async def owed(self) -> list[Change]:
        await self.changes.spread(0)
        debts = await self.changes.owed(PLAN.name, 100)
        return list(await self.changes.read(PLAN.name, debts)) if debts else []

    async def pay(self, changes: list[Change]) -> int:
        return await self.changes.pay(PLAN.name, [Paid(one.debt, outcome(one)) for one in changes])

    def holds(self, n: int) -> str | None:
        """Return the text whose vector the column holds for a document, None if it holds none."""
        found = self.documents.rows("SELECT embedding::text FROM docs WHERE id = %s", [n])
        texts = ["new", "newer", *[f"text {one}" for one in range(1, COUNT + 1)]]
        same = "SELECT %s::vector(8) = %s::vector(8)"
        if not found or found[0][0] is None:
            return None
        return next(t for t in texts if self.documents.rows(same, [found[0][0], literal(vector_of(t))]) == [(True,)])


def outcome(change: Change) -> Written | Rejected | None:
    if change.document is None:
        return None
    if change.document.text is None:
        return Rejected(change.document.id, "NullText", "it has no text")
    return Written(change.document.id, text_hash(change.document.text), vector_of(change.document.text))


@asynccontextmanager
async def adopting(database: Database, spec: IndexSpec, plan: CollectionPlan = PLAN) -> AsyncIterator[Adopting]:
    async with (
        Keeper(database.owner_dsn, KEY, UID) as keeper,
        Changes(database.owner_dsn, KEY) as changes,
        Searcher(database.gateway_dsn, 2) as searcher,
    ):
        await keeper.prepare(spec)
        await keeper.claim()
        await keeper.capture(spec)
        await keeper.create(spec, plan)
        yield Adopting(Documents(database), keeper, changes, searcher)


@pytest.mark.parametrize("kind", ["vector(8)", "vector", "halfvec(8)"])
async def test_a_column_answers_as_it_is_and_nothing_is_copied(database: Database, kind: str) -> None:
    table(database, kind)
    async with adopting(database, BY_APPLICATION) as it:
        found = await it.nearest("text 7")
        (held,) = await it.keeper.held()
    assert found == ["7"]
    assert (held.name, held.state, held.total, held.verified, held.followed) == (
        "a_docs",
        "Indexed",
        COUNT,
        True,
        False,
    )
    assert it.documents.rows("SELECT to_regclass('reembed.a_docs')") == [(None,)]


async def test_what_the_application_writes_is_found_at_once_and_nothing_is_owed(database: Database) -> None:
    table(database)
    async with adopting(database, BY_APPLICATION) as it:
        it.documents.run("UPDATE docs SET body = 'new', embedding = %s WHERE id = 3", [literal(vector_of("new"))])
        it.documents.run("DELETE FROM docs WHERE id = 4")
        owed = await it.owed()
        assert (await it.nearest("new"), owed) == (["3"], [])
        assert "4" not in await it.nearest("text 4", COUNT)


async def test_a_filter_of_the_index_holds_for_an_adopted_column(database: Database) -> None:
    table(database).run("ALTER TABLE docs ADD draft boolean DEFAULT false; UPDATE docs SET draft = true WHERE id < 11")
    async with adopting(database, replace(BY_APPLICATION, filter="NOT draft", metadata=("draft",))) as it:
        assert sorted(map(int, await it.nearest("text 1", COUNT))) == list(range(11, 21))


async def test_a_vector_of_another_length_that_comes_later_is_not_found_and_breaks_nothing(database: Database) -> None:
    table(database, "vector")
    async with adopting(database, BY_APPLICATION) as it:
        it.documents.run("UPDATE docs SET embedding = '[1,2]' WHERE id = 5")
        assert "5" not in await it.nearest("text 5", COUNT)


async def test_the_column_outlives_whatever_becomes_of_the_index(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        await it.keeper.withdraw(PLAN.name)
        await it.keeper.drop(PLAN.name)
        held = await it.keeper.held()
        await it.keeper.release()
    assert (held, it.holds(7)) == ((), "text 7")


async def test_reembed_writes_what_changed_into_the_column_and_that_is_no_change_of_its_own(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 3; UPDATE docs SET body = NULL WHERE id = 4")
        it.documents.run("INSERT INTO docs (id, body) VALUES (99, 'newer'); DELETE FROM docs WHERE id = 5")
        cleared = await it.pay(await it.owed())
        again = await it.owed()
    assert (cleared, again) == (4, [])
    assert [it.holds(n) for n in (3, 4, 5, 6, 99)] == ["new", None, None, "text 6", "newer"]
    assert it.documents.rows("SELECT id, reason FROM reembed.rejected") == [("4", "NullText")]


async def test_a_vector_of_a_text_that_went_meanwhile_is_never_written(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 3")
        slow = await it.owed()
        it.documents.run("UPDATE docs SET body = 'newer' WHERE id = 3")
        cleared, between = await it.pay(slow), it.holds(3)
        await it.pay(await it.owed())
    assert (cleared, between, it.holds(3)) == (0, "text 3", "newer")


async def test_a_slow_follower_erases_nothing_that_another_one_wrote_since(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("UPDATE docs SET body = NULL WHERE id = 3")
        slow = await it.owed()
        it.documents.run("UPDATE docs SET body = 'newer' WHERE id = 3")
        await it.pay(await it.owed())
        cleared = await it.pay(slow)
    assert (cleared, it.holds(3)) == (0, "newer")


async def test_a_row_that_the_application_holds_is_passed_over_and_stays_owed(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id IN (3, 4)")
        owed = await it.owed()
        with psycopg.connect(database.owner_dsn) as application:
            application.execute("SELECT FROM docs WHERE id = 3 FOR UPDATE")
            cleared = await it.pay(owed)
        assert (cleared, it.holds(3), it.holds(4)) == (1, "text 3", "new")
        assert await it.pay(await it.owed()) == 1
    assert it.holds(3) == "new"


async def test_texts_without_a_vector_and_vectors_without_a_text_are_owed(database: Database) -> None:
    table(database).run("UPDATE docs SET embedding = NULL WHERE id = 3; UPDATE docs SET body = NULL WHERE id = 4")
    async with adopting(database, BY_REEMBED) as it:
        first, last = await it.changes.compare(PLAN.name, None, 7)
        rest, end = await it.changes.compare(PLAN.name, last, 7)
        await it.pay(await it.owed())
        again, _ = await it.changes.compare(PLAN.name, None, 100)
    assert (first, last, rest) == (Differences(missing=1, stale=1), "7", Differences())
    assert (end, again, it.holds(3), it.holds(4)) == ("14", Differences(), "text 3", None)


@pytest.mark.parametrize(
    ("prepare", "spec", "expected"),
    [
        pytest.param(
            "ALTER TABLE docs DROP COLUMN embedding",
            BY_APPLICATION,
            ("AdoptedColumnMissing", '"public"."docs" has no column "embedding"'),
            id="no column",
        ),
        pytest.param(
            "ALTER TABLE docs DROP COLUMN embedding, ADD embedding real[]",
            BY_APPLICATION,
            ("AdoptedColumnUnsupported", "is of type _float4"),
            id="no vectors",
        ),
        pytest.param(
            "ALTER TABLE docs DROP COLUMN embedding, ADD embedding vector(1536)",
            BY_APPLICATION,
            ("AdoptedDimensions", "holds 1536 dimensions and the model of pool 'old' has 8"),
            id="another model's dimensions",
        ),
        pytest.param(
            "ALTER TABLE docs ALTER COLUMN embedding TYPE vector; UPDATE docs SET embedding = '[1,2]' WHERE id < 3",
            BY_APPLICATION,
            ("AdoptedDimensions", "has 2 vectors of other lengths than the 8"),
            id="mixed dimensions",
        ),
        pytest.param(
            "CREATE INDEX ON docs USING hnsw (embedding vector_l2_ops)",
            BY_APPLICATION,
            ("AdoptedMetric", "is built with vector_l2_ops and spec.metric is Cosine"),
            id="an index of another metric",
        ),
        pytest.param(
            "ALTER TABLE docs ALTER COLUMN embedding SET NOT NULL",
            BY_REEMBED,
            ("AdoptedColumnNotNull", 'run ALTER TABLE "public"."docs" ALTER COLUMN "embedding" DROP NOT NULL;'),
            id="a column that must be filled",
        ),
    ],
)
async def test_a_column_that_is_not_what_its_owner_says_is_refused(
    database: Database, prepare: str, spec: IndexSpec, expected: tuple[str, str]
) -> None:
    table(database).run(prepare)
    with pytest.raises(Unfit) as caught:
        async with adopting(database, spec):
            pass
    reason, message = expected
    assert (caught.value.problem.reason, message in caught.value.problem.message) == (reason, True)


async def test_an_index_of_the_metric_is_no_obstacle(database: Database) -> None:
    table(database).run("CREATE INDEX ON docs USING hnsw (embedding vector_ip_ops)")
    async with adopting(database, replace(BY_APPLICATION, metric=Metric.INNER_PRODUCT)) as it:
        assert await it.nearest("text 7") == ["7"]


async def test_a_role_that_may_not_write_the_column_cannot_maintain_it(database: Database) -> None:
    table(database).run("REVOKE UPDATE ON docs FROM CURRENT_USER")
    with pytest.raises(Unfit, match="may not write column"):
        async with adopting(database, BY_REEMBED):
            pass


async def test_a_change_that_no_trigger_saw_makes_every_text_owed(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        await it.changes.compared(PLAN.name, await it.changes.epoch(), Differences())
        it.documents.run("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET body = 'new' WHERE id = 3")
        await it.keeper.capture(BY_REEMBED)
        found, _ = await it.changes.compare(PLAN.name, None, 100)
        await it.pay(await it.owed())
    assert (found, it.holds(3), it.holds(4)) == (Differences(missing=COUNT), "new", "text 4")


async def test_a_row_that_its_application_refuses_to_have_written_keeps_no_other_back(database: Database) -> None:
    table(database).run("ALTER TABLE docs ADD CHECK (id <> 3) NOT VALID")
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("ALTER TABLE docs DROP CONSTRAINT docs_id_check")
        it.documents.run("UPDATE docs SET body = 'new' WHERE id IN (3, 4)")
        it.documents.run("ALTER TABLE docs ADD CHECK (id <> 3) NOT VALID")
        cleared = await it.pay(await it.owed())
    assert (cleared, it.holds(3), it.holds(4)) == (1, "text 3", "new")


async def test_more_rows_than_are_read_at_once_are_held_and_the_others_get_their_turn(database: Database) -> None:
    documents = table(database)
    documents.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1001, 1100) n")
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id > 1000")
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 3")
        await it.changes.spread(0)
        with psycopg.connect(database.owner_dsn) as application:
            application.execute("SELECT FROM docs WHERE id > 1000 FOR UPDATE")
            for _ in range(200):
                debts = await it.changes.owed(PLAN.name, 20)
                if await it.pay(list(await it.changes.read(PLAN.name, debts))):
                    break
    assert it.holds(3) == "new"


async def test_a_column_is_adopted_by_one_model(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED):
        with pytest.raises(Unfit, match="has adopted column"):
            async with Keeper(database.owner_dsn, "default/other", "another-uid") as other:
                await other.create(BY_REEMBED, replace(PLAN, name="a_other", fingerprint="fp-other"))


async def watched(it: Adopting, grace: float = 0.0, count: int = 5) -> Watching:
    await it.changes.spread(0)
    return await it.changes.watched(PLAN.name, grace, count)


async def test_what_the_application_changed_is_looked_at_with_what_its_column_holds_now(database: Database) -> None:
    table(database)
    async with adopting(database, BY_APPLICATION) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 3")
        it.documents.run("INSERT INTO docs (id, body) VALUES (99, 'newer'), (98, ' '); DELETE FROM docs WHERE id = 4")
        found = await watched(it)
    stale = Watched("3", "new", vector_of("text 3"))
    assert (set(found.documents), found.changed) == ({stale, Watched("99", "newer", None)}, True)


async def test_what_changed_a_moment_ago_is_not_held_against_the_application_and_others_are_looked_at(
    database: Database,
) -> None:
    table(database)
    async with adopting(database, BY_APPLICATION) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 3")
        found = await watched(it, grace=60.0)
        it.documents.run("UPDATE reembed.watched SET at = at - interval '2 minutes'")
        later = await watched(it, grace=60.0)
    assert (len(found.documents), found.changed) == (5, False)
    assert ([one.id for one in later.documents], later.changed) == (["3"], True)


async def test_many_changes_fill_no_more_than_the_room_and_leave_some_for_what_comes(database: Database) -> None:
    documents = table(database)
    documents.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1001, 1500) n")
    async with adopting(database, BY_APPLICATION) as it:
        counts, count = list[int](), "SELECT count(*)::int FROM reembed.watched"
        for n in range(12):
            it.documents.run("UPDATE docs SET body = 'new' WHERE id BETWEEN 1001 + 30 * %s AND 1030 + 30 * %s", [n, n])
            await it.changes.spread(0)
            counts += [found for (found,) in it.documents.rows(count)]
        await it.changes.watched(PLAN.name, 0.0, 5)
        ((left,),) = it.documents.rows(count)
    assert (counts[0], counts[-1], left) == (20, ROOM, ROOM // 2)


@pytest.mark.parametrize("end", ["withdraw", "release"])
async def test_what_answers_no_more_is_not_watched(database: Database, end: str) -> None:
    table(database)
    async with adopting(database, BY_APPLICATION) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id IN (3, 4)")
        await it.changes.spread(0)
        before = it.documents.rows("SELECT count(*) FROM reembed.watched")
        await (it.keeper.withdraw(PLAN.name) if end == "withdraw" else it.keeper.release())
        it.documents.run("UPDATE docs SET body = 'newer' WHERE id = 5")
        await it.changes.spread(0)
        after = it.documents.rows("SELECT count(*) FROM reembed.watched")
    assert (before, after) == ([(2,)], [(0,)])


async def test_what_reembed_keeps_itself_is_not_watched(database: Database) -> None:
    table(database)
    async with adopting(database, BY_REEMBED) as it:
        it.documents.run("UPDATE docs SET body = 'new' WHERE id = 3")
        assert not (await watched(it)).changed


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        pytest.param("", Kept(changed=True, looked=2, missing=0, compared=2, far=0), id="with every text"),
        pytest.param(
            "UPDATE docs SET embedding = CASE WHEN id = 3 THEN embedding END WHERE id IN (3, 4)",
            Kept(changed=True, looked=2, missing=1, compared=1, far=0, examples=("4",)),
            id="not all",
        ),
        pytest.param(
            "ALTER TABLE docs DROP COLUMN embedding",
            Kept(changed=False, looked=0, missing=0, compared=0, far=0, problem="PostgreSQL (42703): column"),
            id="no more",
        ),
    ],
)
async def test_the_follower_says_whether_the_application_keeps_its_column(
    database: Database, kept: str, expected: Kept
) -> None:
    table(database)

    @asynccontextmanager
    async def connect(plan: CollectionPlan) -> AsyncIterator[FakeEmbedder]:
        yield FakeEmbedder(plan.fingerprint)

    async with adopting(database, BY_APPLICATION) as it:
        for n in (3, 4):
            it.documents.run(
                "UPDATE docs SET body = 'new ' || id, embedding = %s WHERE id = %s", [literal(vector_of(f"new {n}")), n]
            )
        await it.changes.spread(0)
        it.documents.run("UPDATE reembed.watched SET at = at - interval '2 minutes'")
        it.documents.run(kept or "SELECT 1")
        retrying = Retrying(Backoff(0.001, 0.01), random.Random(1))
        follower = Follower(it.changes, connect, retrying, time.monotonic, WorkerMetrics())
        follower.follow([PLAN], {one.name: one for one in await it.keeper.held()})
        running = asyncio.create_task(follower.run())
        async with asyncio.timeout(20):
            while PLAN.name not in follower.kept:  # noqa: ASYNC110 what was seen is read, it tells nobody
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait({running})
    found = follower.kept[PLAN.name]
    assert replace(found, problem=found.problem[: len(expected.problem)]) == expected


async def test_a_vector_of_zeros_has_no_angle_to_any_query(database: Database) -> None:
    table(database).run("UPDATE docs SET embedding = '[0,0,0,0,0,0,0,0]' WHERE id = 5")
    async with adopting(database, BY_APPLICATION) as it:
        hits = await it.searcher.search(PLAN.name, PLAN.fingerprint, vector_of("text 1"), COUNT)
    assert (len(hits), all(hit.score == hit.score for hit in hits)) == (COUNT - 1, True)
