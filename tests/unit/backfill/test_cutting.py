"""Documents are cut by their model's tokenizer, and each ends whole: all its vectors, or one reason."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from reembed.backfill.cutting import Cut, Cutter, all_results, embedded
from reembed.backfill.documents import text_hash
from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.follower import outcomes
from reembed.backfill.pipeline import PAGE
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import Embedded, EmbedderBusy, TextInvalid
from reembed.core.chunking import MOST_PARTS, Span
from reembed.core.model import Chunking, CutAt, InputType
from reembed.stores.protocol import Change, Debt, Document, Paid, Part, Rejected, Written
from tests.fixtures.stores import FakeEmbedder, vector_of, words
from tests.unit.backfill.test_pipeline import LEASE, MemoryStore, run_cut

PAIRS = Chunking(2, 0, CutAt.TOKEN)


def cutter(embedder: FakeEmbedder, chunking: Chunking | None = PAIRS) -> Cutter:
    retrying = Retrying(Backoff(0.0, 0.0), random.Random(1))
    return Cutter(chunking, DocumentEmbedder(embedder, "fp-new", retrying), retrying)


async def results(embedder: FakeEmbedder, *texts: str | None) -> list[Written | Rejected]:
    by = cutter(embedder)
    cuts = await by.cut([Document(str(n), text) for n, text in enumerate(texts)])
    return all_results(cuts, await embedded(cuts, by.documents, 4), 8)


def written(document: str, text: str, *spans: Span) -> Written:
    first, *others = [Part(one, vector_of(text[one.start : one.end])) for one in spans]
    return Written(document, text_hash(text), first.vector, first.span, tuple(others))


async def test_a_document_gets_a_vector_for_each_of_its_parts() -> None:
    embedder = FakeEmbedder()
    assert await results(embedder, "aa bb cc", "dd", None) == [
        written("0", "aa bb cc", Span(0, 5), Span(6, 8)),
        written("1", "dd", Span(0, 2)),
        Rejected("2", "TextMissing", "the text is NULL, so there is nothing to embed"),
    ]


async def test_requests_have_so_many_pages_however_many_parts_there_are() -> None:
    embedder = FakeEmbedder()
    await results(embedder, " ".join(["word"] * 40))
    assert embedder.sizes == [4, 4, 4, 4, 4]


async def test_a_text_that_surely_fits_needs_no_tokenizer() -> None:
    @dataclass
    class Deaf(FakeEmbedder):
        async def boundaries(self, texts: Sequence[str]) -> list[list[int]]:
            raise AssertionError(texts)

    assert await results(Deaf(), "a", " ") == [
        written("0", "a", Span(0, 1)),
        Rejected("1", "TextEmpty", "the text is empty or only white space, so there is nothing to embed"),
    ]


async def test_a_text_that_the_tokenizer_refuses_does_not_cost_its_neighbours() -> None:
    @dataclass
    class Refusing(FakeEmbedder):
        busy: list[int] = field(default_factory=lambda: [1])

        async def boundaries(self, texts: Sequence[str]) -> list[list[int]]:
            if self.busy:
                self.busy.pop()
                raise EmbedderBusy(0.0, "full")
            if "odd one" in texts:
                raise TextInvalid(None, "not a text")
            return [words(text) for text in texts]

    assert await results(Refusing(), "odd one", "aa bb cc") == [
        Rejected("0", "TextInvalid", "not a text"),
        written("1", "aa bb cc", Span(0, 5), Span(6, 8)),
    ]


async def test_a_part_that_is_refused_rejects_its_document_alone() -> None:
    def before(texts: Sequence[str]) -> None:
        if "cc dd" in texts:
            raise TextInvalid(list(texts).index("cc dd"), "odd")

    assert await results(FakeEmbedder(before=before), "aa bb cc dd", "ee ff gg") == [
        Rejected("0", "TextInvalid", "part 2 of 2: odd"),
        written("1", "ee ff gg", Span(0, 5), Span(6, 8)),
    ]


async def test_the_follower_pays_with_all_parts_or_with_what_is_kept() -> None:
    changes = [
        Change(Debt("1", 5), Document("1", "aa bb cc"), None),
        Change(Debt("2", 6), Document("2", "dd ee ff"), text_hash("dd ee ff")),
    ]
    assert [paid async for paid in outcomes(changes, cutter(FakeEmbedder()), 8)] == [
        [
            Paid(Debt("2", 6), text_hash("dd ee ff")),
            Paid(Debt("1", 5), written("1", "aa bb cc", Span(0, 5), Span(6, 8))),
        ]
    ]


async def test_the_follower_holds_no_more_vectors_than_a_page_or_one_document_has() -> None:
    lengths = [600, 600, 2000, 2, 0]
    changes = [
        Change(Debt(str(n), n), Document(str(n), " ".join(["word"] * length)), None) for n, length in enumerate(lengths)
    ]
    found = [
        [1 + len(one.outcome.others) if isinstance(one.outcome, Written) else 0 for one in paid]
        async for paid in outcomes(changes, cutter(FakeEmbedder()), 8)
    ]
    assert found == [[0, 300], [300], [1000], [1]]


async def test_a_collection_that_is_not_cut_asks_no_tokenizer() -> None:
    document = Document("1", "aa bb cc")
    assert await cutter(FakeEmbedder(), None).cut([document]) == [Cut(document)]


@dataclass
class Long(MemoryStore):
    """Each document has as many words as `length` says."""

    length: int = 2

    async def read(self, lease: object, after: str | None, limit: int) -> list[Document]:
        found = await super().read(LEASE, after, limit)
        return [Document(one.id, " ".join(["word"] * self.length)) for one in found]


@dataclass
class Ahead(FakeEmbedder):
    """Knows how many vectors were ahead of the store."""

    store: MemoryStore | None = None
    most: int = 0

    async def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Embedded:
        assert self.store is not None
        answer = await super().embed(texts, input_type, background=background)
        stored = sum(1 + len(one.others) for page in self.store.pages for one in page.written)
        self.most = max(self.most, self.embedded.total() - stored)
        return answer


@pytest.mark.parametrize(
    ("count", "length", "ahead"),
    [
        pytest.param(300, 14, PAGE, id="some parts each"),
        pytest.param(6, 2 * MOST_PARTS, MOST_PARTS, id="as many parts as may be"),
    ],
)
async def test_memory_is_bounded_by_vectors_and_not_by_documents(count: int, length: int, ahead: int) -> None:
    store = Long(count, length=length)
    embedder = Ahead(store=store)
    async with asyncio.timeout(60):
        await run_cut(store, embedder, "fp-new+2-0-Token")
    assert store.stored == list(range(count))
    assert 0 < embedder.most <= ahead
