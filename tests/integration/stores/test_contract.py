"""The promises of the stores' protocol, each stated once, against every store's real server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

import pytest

from reembed.core.model import (
    CollectionPlan,
    EvaluationReport,
    EvaluationSpec,
    IndexSpec,
    PanelRef,
    PointerPlan,
    Store,
    VectorIndex,
)
from reembed.stores import opening
from reembed.stores.protocol import (
    CollectionMismatch,
    Differences,
    DocumentWrite,
    Fenced,
    Filling,
    Following,
    Keeping,
    Page,
    Paid,
    Rejected,
    Searching,
    StoreError,
    Unfit,
    Writing,
    Written,
)
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan, vector_of

CHROMA = replace(SPEC, store=Store.CHROMA, table="", id_column="", vector_index=VectorIndex(min_recall=0.0))
STORES = ("pgvector", "Chroma")
ONE = plan(shards=1)


@dataclass
class Kept:
    """A store with all its sides, and an application that writes into it in the store's own way."""

    kind: str
    dsn: str
    spec: IndexSpec
    keeper: Keeping
    shards: Filling
    changes: Following
    searching: Searching
    documents: Documents | None

    async def write(self, **texts: str | None) -> None:
        """Write documents `d<id>=text`; None deletes one."""
        if self.documents is None:
            assert isinstance(self.searching, Writing)
            await self.searching.write(
                [DocumentWrite(name.removeprefix("d"), text, gone=text is None) for name, text in texts.items()]
            )
            return
        for name, text in texts.items():
            number = int(name.removeprefix("d"))
            self.documents.run("DELETE FROM docs WHERE id = %s AND %s", [number, text is None])
            if text is not None:
                upsert = "INSERT INTO docs VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                self.documents.run(upsert, [number, text])

    async def begin(self, *plans: CollectionPlan, count: int = 0) -> None:
        await self.write(**{f"d{n}": f"text {n}" for n in range(1, count + 1)})
        await self.follow()
        for made in plans or (ONE,):
            await self.keeper.create(self.spec, made)

    async def fill(self, made: CollectionPlan = ONE) -> None:
        for shard in range(made.shards):
            lease = await self.shards.claim(made.name, shard)
            while documents := await self.shards.read(lease, lease.position, 7):
                page = Page(lease.position, documents[-1].id, tuple(map(vectored, documents)), ())
                await self.shards.commit(lease, page, {})
                lease = replace(lease, position=documents[-1].id)
            await self.shards.finish(lease)

    async def answering(self, *plans: CollectionPlan, count: int = 0) -> None:
        await self.begin(*plans, count=count)
        for made in plans or (ONE,):
            await self.fill(made)
            await self.keeper.build_index(made.name, self.spec.vector_index)

    async def follow(self) -> None:
        """Spread all marks and pay all debts."""
        while (await self.changes.spread(0))[0]:
            pass
        for name in await self.changes.lag():
            while debts := await self.changes.owed(name, 10):
                await self.changes.pay(name, [paid(one) for one in await self.changes.read(name, debts)])

    async def ids(self, text: str, k: int = 1, made: CollectionPlan = ONE) -> list[str]:
        hits = await self.searching.search(made.name, made.fingerprint, vector_of(text), k)
        return [hit.id for hit in hits]

    async def compared(self, name: str = ONE.name) -> Differences:
        total, after = Differences(), None
        while True:
            found, after = await self.changes.compare(name, after, 1000)
            total = Differences(
                total.missing + found.missing, total.stale + found.stale, total.orphaned + found.orphaned
            )
            if after is None:
                return total


def vectored(document) -> Written:  # type: ignore[no-untyped-def]
    return Written(document.id, hash_of(document.text), vector_of(document.text))


def paid(change) -> Paid:  # type: ignore[no-untyped-def]
    if change.document is None:
        return Paid(change.debt, None)
    if not change.document.text.strip():
        return Paid(change.debt, Rejected(change.debt.id, "TextEmpty", "it is empty"))
    if hash_of(change.document.text) == change.text_hash:
        return Paid(change.debt, change.text_hash)
    return Paid(change.debt, vectored(change.document))


def hash_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    kind: str = request.param
    if kind == "pgvector":
        database: Database = request.getfixturevalue("database")
        dsn, gateway, spec = (
            database.owner_dsn,
            database.gateway_dsn,
            replace(SPEC, vector_index=VectorIndex(min_recall=0.0)),
        )
        documents = Documents(database).create(0)
    else:
        dsn = gateway = request.getfixturevalue("chroma_dsn")
        spec, documents = CHROMA, None
    async with (
        opening.keeping(dsn, KEY, UID) as keeper,
        opening.filling(dsn) as shards,
        opening.following(dsn, KEY) as changes,
        opening.searching(gateway, KEY, 4) as searching,
    ):
        assert await keeper.preflight(spec) is None
        await keeper.prepare(spec)
        await keeper.claim()
        assert await keeper.capture(spec) is None
        yield Kept(kind, dsn, spec, keeper, shards, changes, searching, documents)


async def test_a_search_finds_the_nearest_documents_in_their_order(store: Kept) -> None:
    await store.answering(count=30)
    hits = await store.searching.search(ONE.name, ONE.fingerprint, vector_of("text 7"), 5)
    assert (hits[0].id, round(hits[0].score, 4), len(hits)) == ("7", 1.0, 5)
    assert hits == sorted(hits, key=lambda hit: -hit.score)


async def test_a_search_that_could_be_wrong_raises(store: Kept) -> None:
    await store.begin(count=3)
    with pytest.raises(CollectionMismatch):  # it is not indexed
        await store.ids("text 1")
    await store.fill()
    await store.keeper.build_index(ONE.name, store.spec.vector_index)
    assert await store.ids("text 1") == ["1"]
    for collection, fingerprint in ((ONE.name, "fp-other"), ("c_none", ONE.fingerprint)):
        with pytest.raises(CollectionMismatch):
            await store.searching.search(collection, fingerprint, vector_of("text 1"), 1)
    await store.keeper.withdraw(ONE.name)
    with pytest.raises(CollectionMismatch):
        await store.ids("text 1")
    await store.keeper.drop(ONE.name)
    with pytest.raises(CollectionMismatch):
        await store.ids("text 1")


async def test_shards_hold_every_document_once(store: Kept) -> None:
    made = plan(shards=5)
    await store.begin(made, count=60)
    await store.fill(made)
    held = await store.keeper.held()
    seen: list[str] = []
    for shard in range(5):
        lease, after = await store.shards.claim(made.name, shard), None
        while documents := await store.shards.read(lease, after, 7):
            seen += [one.id for one in documents]
            assert len(documents) <= 7
            after = documents[-1].id
    assert sorted(seen, key=int) == [str(n) for n in range(1, 61)]
    assert [(one.shards, one.shards_done, one.written, one.total) for one in held] == [(5, 5, 60, 60)]


async def test_a_page_whose_answer_was_lost_is_not_counted_twice(store: Kept) -> None:
    await store.begin(count=2)
    lease = await store.shards.claim(ONE.name, 0)
    first, second = await store.shards.read(lease, None, 10)
    page = Page(None, second.id, (vectored(first),), (Rejected(second.id, "TextEmpty", "empty"),))
    await store.shards.commit(lease, page, {"embed": 1.0})
    await store.shards.commit(lease, page, {"embed": 1.0})
    held = (await store.keeper.held())[0]
    assert (held.written, held.rejected, held.stages) == (1, 1, ({"embed": 1.0},))


async def test_who_lost_a_shard_is_refused_and_the_next_goes_on_behind_its_last_page(store: Kept) -> None:
    await store.begin(count=3)
    first = await store.shards.claim(ONE.name, 0)
    documents = await store.shards.read(first, None, 10)
    page = Page(None, documents[0].id, (vectored(documents[0]),), ())
    await store.shards.commit(first, page, {})
    second = await store.shards.claim(ONE.name, 0)
    after = Page(documents[0].id, documents[1].id, (vectored(documents[1]),), ())
    with pytest.raises(Fenced):
        await store.shards.commit(first, after, {})
    with pytest.raises(Fenced):
        await store.shards.finish(first)
    assert (second.position, second.done) == (documents[0].id, False)
    assert [one.id for one in await store.shards.read(second, second.position, 10)] == [one.id for one in documents[1:]]


async def test_pods_that_claim_a_shard_at_once_get_tokens_of_their_own(store: Kept) -> None:
    await store.begin(count=1)
    leases = await asyncio.gather(*[store.shards.claim(ONE.name, 0) for _ in range(4)])
    assert len({lease.token for lease in leases}) == 4


async def test_what_is_written_is_owed_until_it_is_paid(store: Kept) -> None:
    await store.answering(count=5)
    await store.write(d2="changed", d9="added")
    await store.changes.spread(0)
    debts = await store.changes.owed(ONE.name, 10)
    assert sorted(debt.id for debt in debts) == ["2", "9"]
    assert [one.id for one in await store.changes.owed(ONE.name, 10, ["2"])] == ["9"]
    assert (await store.changes.lag())[ONE.name][0] == 2
    changes = {one.debt.id: one for one in await store.changes.read(ONE.name, debts)}
    assert (changes["2"].document.text, changes["2"].text_hash) == ("changed", hash_of("text 2"))  # type: ignore[union-attr]
    await store.follow()
    assert (await store.changes.owed(ONE.name, 10), (await store.changes.lag())[ONE.name][0]) == ([], 0)
    assert [await store.ids("changed"), await store.ids("added")] == [["2"], ["9"]]


async def test_a_debt_that_grew_meanwhile_is_not_cleared(store: Kept) -> None:
    await store.answering(count=2)
    await store.write(d2="second")
    await store.changes.spread(0)
    debts = await store.changes.owed(ONE.name, 10)
    changes = await store.changes.read(ONE.name, debts)
    await store.write(d2="third")
    await store.changes.spread(0)
    await store.changes.pay(ONE.name, [paid(one) for one in changes])
    assert [one.id for one in await store.changes.owed(ONE.name, 10)] == ["2"]
    await store.follow()
    assert await store.ids("third") == ["2"]
    assert await store.compared() == Differences()


async def test_a_late_backfill_overwrites_and_resurrects_nothing(store: Kept) -> None:
    await store.begin(count=3)
    lease = await store.shards.claim(ONE.name, 0)
    documents = await store.shards.read(lease, None, 10)
    await store.write(d1="newer", d2=None)
    await store.follow()
    page = Page(None, documents[-1].id, tuple(map(vectored, documents)), ())
    await store.shards.commit(lease, page, {})
    await store.shards.finish(lease)
    await store.keeper.build_index(ONE.name, store.spec.vector_index)
    assert [await store.ids("newer"), await store.ids("text 3")] == [["1"], ["3"]]
    assert sorted(await store.ids("text 2", 10)) == ["1", "3"]
    scores = await store.searching.search(ONE.name, ONE.fingerprint, vector_of("text 1"), 10)
    assert {hit.id for hit in scores if hit.score > 0.999} == set()


async def test_payments_in_any_order_end_in_the_newest_text(store: Kept) -> None:
    await store.answering(count=2)
    await store.write(d2="second")
    await store.changes.spread(0)
    old = await store.changes.read(ONE.name, await store.changes.owed(ONE.name, 10))
    await store.write(d2="third")
    await store.follow()
    await store.changes.pay(ONE.name, [paid(one) for one in old])
    await store.changes.pay(ONE.name, [paid(one) for one in old])
    await store.follow()
    assert await store.ids("third") == ["2"]
    hits = await store.searching.search(ONE.name, ONE.fingerprint, vector_of("second"), 10)
    assert [hit.id for hit in hits if hit.score > 0.999] == []


async def test_a_deleted_document_is_not_found_from_its_deletion_on(store: Kept) -> None:
    await store.answering(count=5)
    await store.write(d2=None)
    assert "2" not in await store.ids("text 2", 10)
    await store.follow()
    assert "2" not in await store.ids("text 2", 10)
    assert await store.keeper.present(store.spec, ["1", "2", "99"]) == {"1"}
    assert await store.keeper.documents(store.spec) == 4


async def test_a_changed_text_is_found_by_its_old_vector_until_the_new_one_is_there(store: Kept) -> None:
    await store.answering(count=5)
    await store.write(d2="changed")
    assert await store.ids("text 2") == ["2"]
    await store.follow()
    assert await store.ids("changed") == ["2"]


async def test_a_text_that_became_unembeddable_answers_no_more_until_it_is_mended(store: Kept) -> None:
    await store.answering(count=3)
    await store.write(d2=" ")
    await store.follow()
    rejected = await store.ids("text 2", 10)
    assert await store.compared() == Differences()
    await store.write(d2="text 2")
    await store.follow()
    assert ("2" in rejected, await store.ids("text 2")) == (False, ["2"])


async def test_a_text_that_is_written_back_is_not_embedded_again(store: Kept) -> None:
    await store.answering(count=3)
    await store.write(d2=None)
    await store.write(d2="text 2")
    await store.changes.spread(0)
    changes = await store.changes.read(ONE.name, await store.changes.owed(ONE.name, 10))
    assert [isinstance(paid(one).outcome, bytes) for one in changes] == [True]
    await store.follow()
    assert (await store.ids("text 2"), await store.changes.owed(ONE.name, 10)) == (["2"], [])


async def test_a_comparison_finds_what_is_missing_and_owes_it(store: Kept) -> None:
    await store.begin(count=6)
    lease = await store.shards.claim(ONE.name, 0)
    documents = await store.shards.read(lease, None, 10)
    wrong = replace(vectored(documents[0]), text_hash=hash_of("another"))
    written = (wrong, *map(vectored, documents[1:4]), Written("77", hash_of("x"), vector_of("x")))
    await store.shards.commit(lease, Page(None, documents[-1].id, written, ()), {})
    first = await store.compared()
    again = await store.compared()
    await store.follow()
    assert (first, again) == (Differences(missing=2, stale=1, orphaned=1), Differences())
    assert await store.compared() == Differences()
    await store.shards.finish(lease)
    await store.keeper.build_index(ONE.name, store.spec.vector_index)
    assert [await store.ids(one.text or "") for one in documents] == [[one.id] for one in documents]
    assert "77" not in await store.ids("x", 10)


async def test_a_collection_is_verified_in_the_epoch_in_which_it_was_compared(store: Kept) -> None:
    await store.answering(count=1)
    before = (await store.keeper.held())[0].verified
    epoch = await store.changes.epoch()
    await store.changes.compared(ONE.name, epoch, Differences())
    assert (before, (await store.keeper.held())[0].verified, epoch > 0) == (False, True, True)


async def test_a_collection_is_made_once_and_never_taken_over_by_another_model(store: Kept) -> None:
    await store.begin(ONE, count=4)
    await asyncio.gather(*[store.keeper.create(store.spec, ONE) for _ in range(3)])
    assert [(one.name, one.state, one.total) for one in await store.keeper.held()] == [(ONE.name, "Filling", 4)]
    with pytest.raises(StoreError, match="c_new holds vectors of fp-new where the plan says fp-other"):
        await store.keeper.create(store.spec, plan(fingerprint="fp-other"))


async def test_the_pointer_moves_by_generation_alone_and_to_what_answers(store: Kept) -> None:
    old, new = plan(name="c_old", shards=1), ONE
    await store.answering(old, new, count=1)
    await store.keeper.create(store.spec, plan(name="c_filling", shards=1))
    seen = []
    for collection, generation in (("c_old", 1), ("c_new", 2), ("c_old", 1), ("c_old", 2), ("c_filling", 3)):
        await store.keeper.move_pointer(PointerPlan(collection, "fp-new", generation))
        seen.append(await store.keeper.pointer())
    first, second = PointerPlan("c_old", "fp-new", 1), PointerPlan("c_new", "fp-new", 2)
    assert seen == [first, second, second, second, second]
    with pytest.raises(StoreError, match="the pointer names it"):
        await store.keeper.drop("c_new")


async def test_an_index_that_another_object_claimed_is_left_alone(store: Kept) -> None:
    async with opening.keeping(store.dsn, KEY, "another") as other:
        problem = await other.preflight(store.spec)
        await store.keeper.release()
        free = await other.preflight(store.spec)
    assert (problem.reason if problem else None, free) == ("IndexClaimed", None)


async def test_a_deleted_index_leaves_its_collections_withdrawn(store: Kept) -> None:
    await store.answering(count=1)
    await store.keeper.release()
    assert [one.state for one in await store.keeper.held()] == ["Withdrawn"]
    with pytest.raises(CollectionMismatch):
        await store.ids("text 1")


async def test_the_first_outcome_of_an_evaluation_holds(store: Kept) -> None:
    first = EvaluationReport("e", "Better", 10, 10, 0.5, 0.6, 0.0, 0.2, "first")
    await store.keeper.record(first)
    await store.keeper.record(replace(first, message="second"))
    assert (await store.keeper.evaluation("e"), await store.keeper.evaluation("f")) == (first, None)


async def test_every_verb_may_be_repeated(store: Kept) -> None:
    await store.answering(count=2)
    for _ in range(2):
        await store.keeper.prepare(store.spec)
        await store.keeper.claim()
        await store.keeper.capture(store.spec)
        await store.keeper.build_index(ONE.name, store.spec.vector_index)
        assert await store.ids("text 1") == ["1"]
    for _ in range(2):
        await store.keeper.withdraw(ONE.name)
    for _ in range(2):
        await store.keeper.drop(ONE.name)
    assert await store.keeper.held() == ()


async def test_what_a_store_cannot_do_is_refused_by_name(store: Kept) -> None:
    asked = {
        "capacity": replace(store.spec, capacity=1),
        "recall": replace(store.spec, vector_index=VectorIndex()),
        "group": replace(store.spec, group_column="body"),
        "type": replace(store.spec, store=Store.PGVECTOR if store.kind == "Chroma" else Store.CHROMA),
        "panel": replace(store.spec, panel=PanelRef("reembed-panel", "panel", "a" * 64)),
    }
    problems = {name: await store.keeper.preflight(spec) for name, spec in asked.items()}
    reasons = {name: problem.reason if problem else None for name, problem in problems.items()}
    labels = EvaluationSpec("public", "labels", "query", "id")
    with pytest.raises(Unfit):  # no such table here, no tables at all there
        await store.keeper.labels(labels, store.spec)
    expected: Mapping[str, Mapping[str, str | None]] = {
        "pgvector": {"capacity": None, "recall": None, "group": None, "type": "StoreMismatch", "panel": None},
        "Chroma": dict.fromkeys(asked, "StoreCannot") | {"type": "StoreMismatch"},
    }
    assert reasons == expected[store.kind]
    assert isinstance(store.searching, Writing) is (store.kind == "Chroma")
