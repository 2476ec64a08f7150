"""The pipeline keeps order and bounds whatever order the answers come in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.metrics import Metrics
from reembed.backfill.pipeline import PAGE, Pipeline, Pressure, Tools
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import Embedded
from reembed.core.model import InputType
from reembed.stores.protocol import Document, Fenced, Lease, Page, Source, StoreUnavailable
from tests.fixtures.stores import FakeEmbedder

LEASE = Lease("c_new", 0, 1, Source("public", "docs", "id", "body"), "bigint", None, None, None, False, "fp-new", 8)


@dataclass
class MemoryStore:
    """A shard of `count` documents in memory; `failures` are raised by the next commits."""

    count: int
    failures: list[Exception] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    async def claim(self, collection: str, shard: int) -> Lease:
        raise NotImplementedError

    async def read(self, lease: Lease, after: str | None, limit: int) -> list[Document]:
        start = 0 if after is None else int(after) + 1
        return [Document(str(n), f"text {n}") for n in range(start, min(start + limit, self.count))]

    async def commit(self, lease: Lease, page: Page, stages: Mapping[str, float]) -> None:
        if self.failures:
            raise self.failures.pop(0)
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
    await Pipeline(LEASE, Tools(store, documents, retrying, pressure, Metrics())).run()


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
