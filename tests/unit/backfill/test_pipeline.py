"""The pipeline keeps order and bounds whatever order the answers come in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.metrics import Metrics
from reembed.backfill.pipeline import PAGE, Pipeline, Pressure, Senses, Tools
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import Embedded
from reembed.core.elastic import ASKED
from reembed.core.model import InputType
from reembed.core.throttle import MOST
from reembed.stores.protocol import Document, Fenced, Lease, Page, Source, StoreUnavailable
from tests.fixtures.stores import FakeEmbedder

LEASE = Lease("c_new", 0, 1, Source("public", "docs", "id", "body"), "bigint", None, None, None, False, "fp-new", 8)


@dataclass
class MemoryStore:
    """A shard of `count` documents in memory; `failures` are raised by the next commits.

    A commit takes the `seconds` of how many documents are stored already.
    """

    count: int
    seconds: Callable[[int], float] = lambda stored: 0.0
    failures: list[Exception] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)
    written: int = 0

    async def claim(self, collection: str, shard: int) -> Lease:
        raise NotImplementedError

    async def read(self, lease: Lease, after: str | None, limit: int) -> list[Document]:
        start = 0 if after is None else int(after) + 1
        return [Document(str(n), f"text {n}") for n in range(start, min(start + limit, self.count))]

    async def commit(self, lease: Lease, page: Page, stages: Mapping[str, float]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        await asyncio.sleep(self.seconds(self.written))
        self.stages.append(stages)
        self.written += len(page.written)
        self.pages.append(page)

    async def finish(self, lease: Lease) -> None:
        raise NotImplementedError

    @property
    def stored(self) -> list[int]:
        return [int(document.id) for page in self.pages for document in page.written]


@dataclass
class Shuffled(FakeEmbedder):
    """Answers in any order, and knows how far ahead of the store it ever was."""

    store: MemoryStore | None = None
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    ahead: int = 0

    async def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Embedded:
        for _ in range(self.rng.randrange(60)):
            await asyncio.sleep(0)
        assert self.store is not None
        answer = await super().embed(texts, input_type, background=background)
        self.ahead = max(self.ahead, self.embedded.total() - len(self.store.stored))
        return answer


async def run(store: MemoryStore, embedder: FakeEmbedder, pressure: Pressure = lambda: (None, None)) -> None:
    retrying = Retrying(Backoff(0.0, 0.0), random.Random(1))
    documents = DocumentEmbedder(embedder, "fp-new", retrying)
    await Pipeline(LEASE, Tools(store, documents, retrying, Senses(pressure), Metrics())).run()


async def run_cut(store: MemoryStore, embedder: FakeEmbedder, fingerprint: str) -> None:
    retrying = Retrying(Backoff(0.0, 0.0), random.Random(1))
    tools = Tools(store, DocumentEmbedder(embedder, "fp-new", retrying), retrying, Senses(), Metrics())
    await Pipeline(replace(LEASE, fingerprint=fingerprint), tools).run()


async def test_pages_follow_each_other_in_the_order_of_the_ids() -> None:
    store = MemoryStore(2000)
    embedder = Shuffled(store=store)
    await run(store, embedder)
    assert store.stored == list(range(2000))
    assert [page.after for page in store.pages] == [None, *[page.last for page in store.pages[:-1]]]


async def test_no_more_than_a_page_is_embedded_ahead_of_the_store() -> None:
    store = MemoryStore(3000)
    embedder = Shuffled(store=store)
    await run(store, embedder)
    assert 0 < embedder.ahead <= PAGE


@pytest.mark.parametrize(
    ("pressure", "largest"),
    [
        pytest.param((0.1, 0.1), 8, id="at ease"),
        pytest.param((None, None), 4, id="nothing known"),
        pytest.param((0.1, 0.95), 2, id="CPU"),
        pytest.param((0.9, 0.1), 1, id="memory"),
    ],
)
async def test_requests_shrink_under_pressure(pressure: tuple[float | None, float | None], largest: int) -> None:
    store, embedder = MemoryStore(200), FakeEmbedder()
    await run(store, embedder, lambda: pressure)
    assert (len(store.stored), max(embedder.sizes)) == (200, largest)


async def test_a_store_that_is_away_for_a_while_is_waited_for() -> None:
    store = MemoryStore(50, failures=[StoreUnavailable("gone")] * 5)
    await run(store, FakeEmbedder())
    assert store.stored == list(range(50))


async def test_a_lost_shard_ends_the_pipeline_with_that_alone() -> None:
    with pytest.raises(Fenced):
        await run(MemoryStore(500, failures=[Fenced("taken over")]), FakeEmbedder())


async def test_an_empty_shard_stores_nothing() -> None:
    store = MemoryStore(0)
    await run(store, FakeEmbedder())
    assert store.pages == []


@dataclass
class Counting(FakeEmbedder):
    """Knows how many requests were under way, by how many documents were stored then."""

    store: MemoryStore | None = None
    under_way: int = 0
    seen: list[tuple[int, int]] = field(default_factory=list)

    async def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Embedded:
        assert self.store is not None
        self.under_way += 1
        self.seen.append((self.store.written, self.under_way))
        try:
            return await super().embed(texts, input_type, background=background)
        finally:
            self.under_way -= 1

    def most(self, begin: int, end: int) -> int:
        """Return the most requests that were under way while so many documents were stored."""
        return max(count for stored, count in self.seen if begin <= stored < end)


@pytest.mark.looptime
async def test_a_store_that_becomes_slow_is_asked_for_less_until_it_is_quick_again() -> None:
    store = MemoryStore(20_000, lambda stored: 2.0 if 12_000 <= stored < 16_000 else 0.01)
    embedder = Counting(seconds=0.05, store=store)
    await run(store, embedder)
    assert store.stored == list(range(20_000))
    assert (embedder.most(8_000, 12_000), embedder.most(14_000, 16_000)) == (16, 1)
    assert embedder.most(18_000, 20_000) > 4
    named = [
        page.after for page, stages in zip(store.pages, store.stages, strict=True) if "throttled_by_store" in stages
    ]
    assert named
    assert {stages[ASKED] for stages in store.stages} >= {MOST, 1.0}
    assert all(11_999 <= int(after or 0) < 20_000 for after in named)
