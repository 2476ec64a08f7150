"""An index moves from one model to another over a real Chroma while an application writes, and may go back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from reembed.backfill.evaluation import Evaluator
from reembed.backfill.follower import Follower
from reembed.backfill.live import LiveRetrieval
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.retries import Backoff, Retrying
from reembed.backfill.shard import Work, fill
from reembed.backfill.worker import Wanted, Worker
from reembed.core.model import (
    Arm,
    CollectionPlan,
    Desired,
    IndexSpec,
    PointerPlan,
    Store,
    StorePlan,
    StoreReport,
    VectorIndex,
)
from reembed.stores.chroma import held, places
from reembed.stores.chroma.changes import Changes
from reembed.stores.chroma.client import Address, Chroma
from reembed.stores.chroma.documents import text_hash
from reembed.stores.chroma.keeper import Keeper
from reembed.stores.chroma.search import Searcher
from reembed.stores.chroma.shards import ShardStore
from reembed.stores.protocol import CollectionMismatch, DocumentWrite, Fenced
from tests.fixtures.stores import KEY, SPEC, UID, FakeEmbedder, plan, vector_of

SPECS: IndexSpec = replace(SPEC, store=Store.CHROMA, table="", id_column="", vector_index=VectorIndex(min_recall=0.0))
OLD = plan(name="c_old", fingerprint="fp-old", shards=3, desired=Desired.INDEXED)
NEW = plan(name="c_new", fingerprint="fp-new", shards=3, desired=Desired.INDEXED)


def vectors_of(fingerprint: str) -> Callable[[str, int], bytes]:
    return lambda text, dimensions: vector_of(text, dimensions, fingerprint)


@dataclass
class World:
    """A store with its follower, and an application that knows what it wrote."""

    dsn: str
    keeper: Keeper
    gateways: tuple[Searcher, Searcher]
    changes: Changes
    follower: Follower
    chroma: Chroma
    truth: dict[str, str | None]
    stop: bool = False

    async def write_on(self, seed: int) -> int:
        """Write, change and delete documents of one's own through both gateways until told to stop."""
        rng, count = random.Random(seed), 0
        while not self.stop:
            names = rng.sample([f"{seed}-{n}" for n in range(40)], rng.randint(1, 5))
            texts = {name: None if rng.random() < 0.3 else f"{name} {rng.randrange(10**6)}" for name in names}
            writes = [DocumentWrite(name, text, gone=text is None) for name, text in texts.items()]
            await rng.choice(self.gateways).write(writes)
            self.truth |= texts
            count += len(writes)
        return count

    async def full(self, made: CollectionPlan) -> None:
        """Fill a collection by pods, two of each shard, of which one is taken over by the other."""
        embedder = FakeEmbedder(made.fingerprint, vector=vectors_of(made.fingerprint))
        async with ShardStore(self.dsn) as store:

            async def shard(n: int) -> None:
                work = Work(made.name, n, made.fingerprint)
                pods = [fill(work, store, embedder) for _ in range(2)]
                ended = await asyncio.gather(*pods, return_exceptions=True)
                assert [type(one) for one in ended if one is not None] in ([], [Fenced])

            await asyncio.gather(*[shard(n) for n in range(made.shards)])

    async def made(self, made: CollectionPlan, *plans: CollectionPlan) -> None:
        await self.keeper.create(SPECS, made)
        await self.look(*plans, made)
        await self.full(made)
        await self.look(*plans, made)
        await self.keeper.build_index(made.name)

    async def look(self, *plans: CollectionPlan) -> None:
        self.follower.follow(plans, {one.name: one for one in await self.keeper.held()})

    async def settled(self, *plans: CollectionPlan) -> None:
        """Wait until nothing lacks anywhere and every collection was compared."""
        async with asyncio.timeout(90):
            while True:
                await self.look(*plans)
                marks = (await self.changes.spread(0))[0]
                owed = sum(count for count, _ in (await self.changes.lag()).values())
                verified = {one.name for one in await self.keeper.held() if one.verified}
                if not marks and not owed and {one.name for one in plans} <= verified:
                    return
                await asyncio.sleep(0.1)

    async def is_right(self, made: CollectionPlan) -> None:
        """Look that every live document has one vector, of its newest text, and that no deleted one answers."""
        shape = await self.keeper._shapes.of(made.name)
        rows = held.by_document(await self.chroma.get(shape.vectors))
        live = {name: text for name, text in self.truth.items() if text is not None}
        assert {name: [(one.live, one.text_hash) for one in found] for name, found in rows.items()} == {
            name: [(True, text_hash(text))] for name, text in live.items()
        }
        for name, text in list(self.truth.items())[::7]:
            hits = await self.gateways[0].search(
                made.name, made.fingerprint, vector_of(text or name, 8, made.fingerprint), 5
            )
            assert ([hit.id for hit in hits][:1] == [name]) if text is not None else (name not in {h.id for h in hits})


@asynccontextmanager
async def world(dsn: str) -> AsyncIterator[World]:
    @asynccontextmanager
    async def connect(made: CollectionPlan) -> AsyncIterator[FakeEmbedder]:
        yield FakeEmbedder(made.fingerprint, vector=vectors_of(made.fingerprint))

    async with (
        Keeper(dsn, KEY, UID) as keeper,
        Changes(dsn, KEY) as changes,
        Searcher(dsn, KEY, 4) as one,
        Searcher(dsn, KEY, 4) as two,
        Chroma(Address.of(dsn)) as chroma,
    ):
        await keeper.prepare(SPECS)
        await keeper.claim()
        await keeper.capture(SPECS)
        retrying = Retrying(Backoff(0.001, 0.01), random.Random(1))
        follower = Follower(changes, connect, retrying, time.monotonic, WorkerMetrics())
        made = World(dsn, keeper, (one, two), changes, follower, chroma, {})
        task = asyncio.create_task(follower.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_migration_under_writes_ends_with_one_vector_of_each_newest_text_and_may_go_back(
    chroma_dsn: str,
) -> None:
    async with world(chroma_dsn) as moving:
        first = [DocumentWrite(f"base-{n}", f"text {n}") for n in range(90)]
        await moving.gateways[0].write(first)
        moving.truth |= {one.id: one.text for one in first}
        writers = [asyncio.create_task(moving.write_on(seed)) for seed in range(2)]
        await moving.made(OLD)
        await moving.keeper.move_pointer(PointerPlan(OLD.name, OLD.fingerprint, 1))
        await moving.made(NEW, OLD)
        await moving.keeper.move_pointer(PointerPlan(NEW.name, NEW.fingerprint, 2))
        switched = await moving.keeper.pointer()
        await moving.keeper.move_pointer(PointerPlan(OLD.name, OLD.fingerprint, 3))  # back, while both are followed
        moving.stop = True
        written = await asyncio.gather(*writers)
        await moving.settled(OLD, NEW)
        for made in (OLD, NEW):
            await moving.is_right(made)
        await moving.keeper.withdraw(NEW.name)
        refused = 0
        try:
            await moving.gateways[1].search(NEW.name, NEW.fingerprint, vector_of("x"), 1)
        except CollectionMismatch:
            refused = 1
        pointer = await moving.keeper.pointer()
    assert (switched, pointer, refused) == (
        PointerPlan(NEW.name, NEW.fingerprint, 2),
        PointerPlan(OLD.name, OLD.fingerprint, 3),
        1,
    )
    assert all(count > 0 for count in written)


async def test_a_worker_makes_what_is_planned_and_takes_it_back(chroma_dsn: str) -> None:
    retrying = Retrying(Backoff(0.001, 0.01), random.Random(1))

    @asynccontextmanager
    async def connect(arm: Arm | CollectionPlan) -> AsyncIterator[FakeEmbedder]:
        yield FakeEmbedder(arm.fingerprint, vector=vectors_of(arm.fingerprint))

    async with (
        Keeper(chroma_dsn, KEY, UID) as keeper,
        Changes(chroma_dsn, KEY) as changes,
        Searcher(chroma_dsn, KEY, 4) as gateway,
        ShardStore(chroma_dsn) as shards,
    ):
        evaluator, metrics = Evaluator(keeper, connect, retrying), WorkerMetrics()
        follower = Follower(changes, connect, retrying, time.monotonic, metrics)
        worker = Worker(keeper, evaluator, LiveRetrieval(keeper, evaluator, random.Random(7)), follower,
                        time.monotonic, metrics)  # fmt: skip
        running = asyncio.create_task(worker.run())

        async def reported(holds: Callable[[StoreReport], bool], plan: StorePlan, *, deleting: bool = False) -> None:
            worker.want(Wanted(SPECS, plan, deleting))
            async with asyncio.timeout(30):
                while worker.report is None or not holds(worker.report):  # noqa: ASYNC110 a report is read, never sent
                    await asyncio.sleep(0.05)

        planned, pointer = StorePlan((NEW,)), PointerPlan(NEW.name, NEW.fingerprint, 1)
        try:
            await reported(lambda one: [each.name for each in one.collections] == [NEW.name], planned)
            await gateway.write([DocumentWrite(f"{n}", f"text {n}") for n in range(20)])
            embedder = FakeEmbedder(NEW.fingerprint, vector=vectors_of(NEW.fingerprint))
            for n in range(NEW.shards):
                await fill(Work(NEW.name, n, NEW.fingerprint), shards, embedder)
            await reported(
                lambda one: [(e.state, e.verified, e.owed) for e in one.collections] == [("Indexed", True, 0)], planned
            )
            await reported(lambda one: one.pointer == pointer, StorePlan((NEW,), pointer))
            hits = await gateway.search(NEW.name, NEW.fingerprint, vector_of("text 7", 8, NEW.fingerprint), 1)
            withdrawn = StorePlan((replace(NEW, desired=Desired.WITHDRAWN),))
            await reported(lambda one: [each.state for each in one.collections] == ["Withdrawn"], withdrawn)
            await reported(lambda one: one.pointer is None, StorePlan(()), deleting=True)
            async with Keeper(chroma_dsn, KEY, "another") as other:
                free = await other.preflight(SPECS)
        finally:
            running.cancel()
            await asyncio.wait({running})
    assert ([hit.id for hit in hits], free) == (["7"], None)


async def test_writes_of_one_document_by_two_gateways_have_one_order(chroma_dsn: str) -> None:
    async with world(chroma_dsn) as moving:

        async def write(n: int) -> int:
            return (await moving.gateways[n % 2].write([DocumentWrite("a", f"text {n}")]))[0].rev

        revisions = await asyncio.gather(*[write(n) for n in range(12)])
        last = await moving.gateways[0].written("a")
    assert len(set(revisions)) == 12
    assert last is not None
    assert (last[0].rev, last[1].text) == (max(revisions), f"text {revisions.index(max(revisions))}")


async def test_documents_that_vanished_delete_no_vector(chroma_dsn: str) -> None:
    async with world(chroma_dsn) as moving:
        await moving.chroma.delete_collection(places.documents(KEY))
        problem = await moving.keeper.preflight(SPECS)
    assert problem is not None
    assert problem.reason == "SourceMissing"
