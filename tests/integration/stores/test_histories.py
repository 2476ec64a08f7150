"""Random histories of a busy index: whatever happens in whatever order, nothing is lost, stale or brought back.

The text is a column in half of the histories, in the others an expression that fails for some rows,
of those that satisfy a filter.

Two applications write in transactions that stay open for a while, backfill pods and followers are interrupted between
any two of their steps, come back late with what they once read, or do the same twice. PostgreSQL is a real one. At
every step a comparison of source and collection finds nothing that is not on its way, and at the end every collection
holds exactly one vector of each document, of its newest text; the second collection, whose documents are cut into one
to three parts, exactly their vectors, and none of an older text.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reembed.backfill.documents import text_hash, unreadable
from reembed.core.chunking import cut
from reembed.core.fingerprint import chunking_of, of_collection
from reembed.core.model import Chunking, CollectionPlan, CutAt, Desired
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import (
    Change,
    Differences,
    Document,
    Fenced,
    Lease,
    Page,
    Paid,
    Part,
    Rejected,
    Written,
)
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, vector_of, words

T = TypeVar("T")

SPECS = {
    "column": SPEC,
    "expression": replace(
        SPEC,
        text_column=None,
        text_sql="body || CASE WHEN body LIKE '%5%' THEN 1 / (n - n) ELSE n END",
        filter="n % 3 <> 2",
    ),
}
# What is to be embedded, for each of them; a row without one is no document.
EXPECTED = {"column": "body", "expression": "CASE WHEN n % 3 <> 2 AND body NOT LIKE '%5%' THEN body || n END"}
DIMENSIONS = 4
SHARDS = 2
IDS = st.integers(1, 3)
TEXTS = st.one_of(
    st.none(), st.integers(0, 5).map(lambda n: " ".join(["text", *map(str, range(1, n + 1))])), st.just("  ")
)
CUT = Chunking(2, 0, CutAt.TOKEN)
WHO = st.integers(0, 1)
STAYS_OPEN = st.sampled_from([False, False, True])
PUT = "INSERT INTO docs VALUES (%(id)s, %(text)s, %(other)s) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
CHANGES = (
    PUT,
    PUT,
    "UPDATE docs SET body = %(text)s || id WHERE id BETWEEN %(id)s AND %(other)s",
    "UPDATE docs SET n = %(other)s WHERE id = %(id)s",
    "DELETE FROM docs WHERE id = %(id)s",
    "UPDATE docs SET id = %(other)s WHERE id = %(id)s",
    # Never left open: everybody would wait for the lock of the table, and nothing could be found.
    "TRUNCATE docs",
)


class Histories(RuleBasedStateMachine):
    """`database` is set by the test: one database serves all histories, each with tables of its own."""

    database: Database
    kind: str

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.documents = Documents(self.database)
        self.documents.run("DROP SCHEMA IF EXISTS reembed CASCADE")
        self.documents.run("DROP TABLE IF EXISTS docs")
        self.documents.create(3)
        self.documents.run("ALTER TABLE docs ADD COLUMN n int NOT NULL DEFAULT 0")
        self.spec = SPECS[self.kind]
        self.stack = AsyncExitStack()
        self.keeper, self.pods, *self.followers = self.wait(self._open())
        self.applications = [psycopg.connect(self.database.owner_dsn) for _ in range(2)]
        for application in self.applications:
            application.execute("SET lock_timeout = '20ms'")
            application.commit()
        self.collections: list[str] = []
        self.leases: list[Lease] = []
        self.pages: list[tuple[Lease, Page]] = []
        self.after: dict[tuple[str, int, int], str | None] = {}
        self.reads: list[tuple[str, list[Change]]] = []

    async def _open(self) -> list[Any]:
        keeper = await self.stack.enter_async_context(Keeper(self.database.owner_dsn, KEY, UID))
        await keeper.prepare(self.spec)
        await keeper.claim()
        assert await keeper.capture(self.spec) is None
        rest = [ShardStore(self.database.owner_dsn), *[Changes(self.database.owner_dsn, KEY) for _ in range(2)]]
        return [keeper, *[await self.stack.enter_async_context(one) for one in rest]]  # type: ignore[type-var]

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def write(self, who: int, stays_open: bool, statement: str, given: Mapping[str, object]) -> None:
        """Write in the application's open transaction; where the other one holds the row, give the whole of it up."""
        try:
            self.applications[who].execute(statement, given)
            if not stays_open:
                self.applications[who].commit()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
            self.applications[who].rollback()

    @rule(who=WHO, stays_open=STAYS_OPEN, change=st.sampled_from(CHANGES), id=IDS, other=IDS, text=TEXTS)
    def change(
        self,
        who: int,
        stays_open: bool,
        change: str,
        id: int,  # noqa: A002 as the column is called
        other: int,
        text: str | None,
    ) -> None:
        given = {"id": id, "other": other, "text": text}
        self.write(who, stays_open and not change.startswith("TRUNCATE"), change, given)

    @rule(who=WHO, kept=st.booleans())
    def end(self, who: int, kept: bool) -> None:
        self.applications[who].commit() if kept else self.applications[who].rollback()

    @precondition(lambda self: len(self.collections) < 2)
    @rule()
    def begin_a_collection(self) -> None:
        name = f"c_{len(self.collections)}"
        self.wait(self.keeper.create(self.spec, plan_of(name)))
        self.collections.append(name)

    @precondition(lambda self: self.collections)
    @rule(data=st.data(), shard=st.integers(0, SHARDS - 1))
    def claim(self, data: st.DataObject, shard: int) -> None:
        lease = self.wait(self.pods.claim(data.draw(st.sampled_from(self.collections)), shard))
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), limit=st.integers(1, 4))
    def read_a_page(self, data: st.DataObject, limit: int) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        key = (lease.collection, lease.shard, lease.token)
        after = self.after.get(key, lease.position)
        if found := self.wait(self.pods.read(lease, after, limit)):
            self.pages.append((lease, page_of(after, found, lease.fingerprint)))

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def store_a_page(self, data: st.DataObject) -> None:
        """Also again, and also long after it was read."""
        lease, page = data.draw(st.sampled_from(self.pages))
        try:
            self.wait(self.pods.commit(lease, page, {}))
        except Fenced:
            return
        self.after[(lease.collection, lease.shard, lease.token)] = page.last

    @rule(who=WHO, after=st.sampled_from([0, 5, 10]))
    def spread(self, who: int, after: int) -> None:
        self.wait(self.followers[who].spread(after))

    @precondition(lambda self: self.collections)
    @rule(data=st.data(), who=WHO, limit=st.integers(1, 8))
    def read_debts(self, data: st.DataObject, who: int, limit: int) -> None:
        name = data.draw(st.sampled_from(self.collections))
        if data.draw(st.booleans()):
            self.wait(self.followers[who].spread(0))
        if changes := self.wait(self._changes(who, name, limit)):
            self.reads.append((name, changes))

    @precondition(lambda self: self.reads)
    @rule(who=WHO)
    def pay_the_newest_debts(self, who: int) -> None:
        self.pay(who, len(self.reads) - 1)

    @precondition(lambda self: self.reads)
    @rule(data=st.data(), who=WHO)
    def pay_debts(self, data: st.DataObject, who: int) -> None:
        """Also again, by another follower, and also long after they were read."""
        self.pay(who, data.draw(st.integers(0, len(self.reads) - 1)))

    def pay(self, who: int, number: int) -> None:
        name, changes = self.reads[number]
        self.wait(self.followers[who].pay(name, [paid(change, fingerprint_of(name)) for change in changes]))

    @invariant()
    def nothing_is_missed(self) -> None:
        """What differs is on its way; where a backfill is still to come, documents are only missing."""
        for name in getattr(self, "collections", []):
            differences, _ = self.wait(self.followers[0].compare(name, None, 1000))
            held = [one for one in self.wait(self.keeper.held()) if one.name == name]
            full = held[0].shards_done == held[0].shards
            assert (differences.missing if full else 0, differences.stale, differences.orphaned) == (0, 0, 0)
            if not full:
                self.documents.run("DELETE FROM reembed.owed WHERE collection = %s AND rev = 0", [name])

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            for application in self.applications:
                application.rollback()
                application.close()
            for name in self.collections:
                self.fill(name)
            self.drain()
            for name in self.collections:
                assert self.held(name) == self.expected(name)
                assert self.wait(self.followers[0].compare(name, None, 1000)) == (Differences(), None)
        finally:
            self.wait(self.stack.aclose())
            self.runner.close()

    def fill(self, name: str) -> None:
        for shard in range(SHARDS):
            lease = self.wait(self.pods.claim(name, shard))
            after = lease.position
            while not lease.done and (found := self.wait(self.pods.read(lease, after, 100))):
                page = page_of(after, found, lease.fingerprint)
                self.wait(self.pods.commit(lease, page, {}))
                after = page.last
            if not lease.done:
                self.wait(self.pods.finish(lease))

    def drain(self) -> None:
        follower = self.followers[1]
        self.wait(follower.spread(0))
        for name in self.collections:
            # Twice: what is owed is paid at once, and nothing is owed again.
            for _ in range(2):
                changes = self.wait(self._changes(1, name, 100))
                self.wait(follower.pay(name, [paid(change, fingerprint_of(name)) for change in changes]))
        assert self.documents.rows("SELECT * FROM reembed.dirty") == []
        assert self.documents.rows("SELECT * FROM reembed.owed") == []

    async def _changes(self, who: int, name: str, limit: int) -> list[Change]:
        follower = self.followers[who]
        debts = await follower.owed(name, limit)
        return list(await follower.read(name, debts)) if debts else []

    def held(self, name: str) -> dict[tuple[int, int], tuple[bytes | None, bytes]]:
        """Return the vectors by document and part, with the hash of the whole text at the first."""
        rows = self.documents.rows(
            f"SELECT id, part, text_hash, embedding::text FROM reembed.{name} WHERE embedding IS NOT NULL"
        )
        return {(found, part): (hashed, vector) for found, part, hashed, vector in rows}

    def expected(self, name: str) -> dict[tuple[int, int], tuple[bytes | None, bytes]]:
        rows = self.documents.rows(
            f"SELECT id, text FROM (SELECT id, {EXPECTED[self.kind]} AS text FROM docs) d WHERE btrim(text) <> ''"
        )
        return {
            (found, number): (text_hash(text) if number == 0 else None, self._as_stored(part))
            for found, text in rows
            for number, part in enumerate(parts_of(text, fingerprint_of(name)))
        }

    def _as_stored(self, text: str) -> bytes:
        numbers = memoryview(vector_of(text, DIMENSIONS)).cast("f")
        given = "[" + ",".join(f"{number:.9g}" for number in numbers) + "]"
        return self.documents.rows("SELECT %s::vector::text", [given])[0][0]


def fingerprint_of(name: str) -> str:
    return of_collection(f"fp-{name}", CUT if name == "c_1" else None)


def plan_of(name: str) -> CollectionPlan:
    return CollectionPlan(name, "pool", fingerprint_of(name), DIMENSIONS, SHARDS, Desired.PRESENT)


def page_of(after: str | None, found: list[Document], fingerprint: str) -> Page:
    outcomes = [outcome_of(document, fingerprint) for document in found]
    return Page(
        after,
        found[-1].id,
        tuple(one for one in outcomes if isinstance(one, Written)),
        tuple(one for one in outcomes if isinstance(one, Rejected)),
    )


def parts_of(text: str, fingerprint: str) -> list[str]:
    chunking = chunking_of(fingerprint)
    if chunking is None:
        return [text]
    return [text[one.start : one.end] for one in cut(text, words(text), chunking)]


def outcome_of(document: Document, fingerprint: str) -> Written | Rejected:
    text, chunking = document.text or "", chunking_of(fingerprint)
    if (rejected := unreadable(document)) is not None:
        return rejected
    if chunking is None:
        return Written(document.id, text_hash(text), vector_of(text, DIMENSIONS))
    spans = cut(text, words(text), chunking)
    first, *others = [Part(one, vector_of(text[one.start : one.end], DIMENSIONS)) for one in spans]
    return Written(document.id, text_hash(text), first.vector, first.span, tuple(others))


def paid(change: Change, fingerprint: str) -> Paid:
    if change.document is None:
        return Paid(change.debt, None)
    outcome = outcome_of(change.document, fingerprint)
    kept = isinstance(outcome, Written) and outcome.text_hash == change.text_hash
    return Paid(change.debt, change.text_hash if kept else outcome)


@pytest.mark.parametrize("kind", SPECS)
def test_no_order_of_events_loses_or_resurrects_a_document(database: Database, kind: str) -> None:
    Histories.database, Histories.kind = database, kind
    examples = int(os.environ.get("HISTORIES", "40")) // len(SPECS)
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # A shorter history of the same kind costs hundreds of runs: HISTORIES with a seed finds one again.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
