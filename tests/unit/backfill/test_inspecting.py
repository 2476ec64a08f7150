"""What an inspection makes of what the store counts and the pool answers, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reembed.backfill.inspecting import Order, PoolSilent, inspect
from reembed.backfill.retries import Backoff
from reembed.client import EmbedderBusy, TextInvalid
from reembed.core.inspection import MOST, told
from reembed.core.model import InspectionReport, Reproduced, Survey
from reembed.stores.protocol import Sampled, StoreSlow, StoreUnavailable
from tests.builders import NOON
from tests.fixtures.stores import FakeEmbedder, vector_of

pytestmark = pytest.mark.looptime

SURVEY = Survey("c_old", "fp-new", "Cosine", 50, 50, 50, {8: 50})
ORDER = Order("o-1", "c_old", "fp-new", patience=60.0)


@dataclass
class Store:
    """A store with one collection."""

    sampled: list[Sampled]
    failures: list[Exception] = field(default_factory=list)
    recorded: list[InspectionReport] = field(default_factory=list)
    quick: int = MOST  # rows that it reads in time, of a survey; of a sample as many more
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def survey(self, collection: str, most: int) -> Survey:
        self.asked.append(("survey", most))
        if self.failures:
            raise self.failures.pop()
        if most > self.quick:
            raise StoreSlow("canceling statement due to statement timeout")
        return replace(SURVEY, documents=MOST, read=most) if most < MOST else SURVEY

    async def sample(self, collection: str, count: int, most: int) -> list[Sampled]:
        self.asked.append(("sample", most))
        if most > 4 * self.quick:
            raise StoreSlow("canceling statement due to statement timeout")
        return self.sampled[:count]

    async def record(self, report: InspectionReport) -> None:
        self.recorded.append(report)


def store(count: int = 50, vector: Callable[[str], bytes] = vector_of) -> Store:
    texts = [f"text {n}" for n in range(count)]
    return Store([Sampled(str(n), text, vector(text)) for n, text in enumerate(texts)])


async def reproduced(of: Store, embedder: FakeEmbedder | None) -> Reproduced | None:
    report = await inspect(ORDER, of, embedder, lambda: NOON, Backoff(1.0, 1.0))
    assert of.recorded == [report]
    assert (report.id, report.at, report.collection, report.fingerprint) == ("o-1", NOON, "c_old", "fp-new")
    return report.reproduced


async def test_a_pool_that_made_the_vectors_is_known_by_them_and_asked_a_few_texts_at_a_time() -> None:
    embedder = FakeEmbedder()
    assert await reproduced(store(), embedder) == Reproduced(50, 1.0, 1.0, 1.0)
    assert max(embedder.sizes) == 8


async def test_a_pool_with_another_model_is_not() -> None:
    found = await reproduced(store(vector=lambda text: vector_of(text, salt="other")), FakeEmbedder())
    assert found is not None
    assert found.median < 0.9


async def test_vectors_of_another_size_are_not_made_by_it() -> None:
    assert await reproduced(store(vector=lambda text: vector_of(text, 4)), FakeEmbedder()) == Reproduced(50, 0, 0, 0)


async def test_a_text_that_the_pool_refuses_says_nothing_of_who_made_the_others() -> None:
    def refuse(texts: Sequence[str]) -> None:
        if "text 3" in texts:
            raise TextInvalid(texts.index("text 3"), "no")

    found = await reproduced(store(), FakeEmbedder(before=refuse))
    assert found == Reproduced(49, 1.0, 1.0, 1.0)


async def test_without_a_pool_or_a_document_nothing_is_said_of_it() -> None:
    assert await reproduced(store(), None) is None
    assert await reproduced(store(0), FakeEmbedder()) is None


async def test_a_store_that_is_away_is_waited_for() -> None:
    found = store()
    found.failures = [StoreUnavailable("away")] * 3
    assert await reproduced(found, FakeEmbedder()) is not None


async def test_of_a_store_that_is_slow_fewer_rows_are_read_and_the_report_says_how_many() -> None:
    found = store()
    found.quick = 7000
    report = await inspect(ORDER, found, FakeEmbedder(), lambda: NOON, Backoff(1.0, 1.0))
    rows = [("sample", 100_000), ("sample", 25_000), ("survey", 25_000), ("survey", 6250)]
    assert (found.asked, report.inspected, report.documents) == (rows, 6250, MOST)
    assert told(report).startswith("6250 of 100000 documents were looked at")


async def test_a_store_that_cannot_read_a_thousand_rows_in_time_ends_the_inspection_and_holds_nobody_up(
    looptime: Any,
) -> None:
    found = store()
    found.quick = 999
    with pytest.raises(StoreSlow):
        await inspect(ORDER, found, None, lambda: NOON, Backoff(1.0, 1.0))
    assert [most for _, most in found.asked] == [100_000, 25_000, 6250, 1562, 1000]
    assert (found.recorded, looptime) == ([], 0)


async def test_a_busy_pool_is_waited_for_and_a_quarter_of_the_sample_is_enough(looptime: Any) -> None:
    asked = 0

    def busy(texts: Sequence[str]) -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise EmbedderBusy(1.0, "busy")

    found = await reproduced(store(), FakeEmbedder(before=busy))
    assert (found, looptime) == (Reproduced(16, 1.0, 1.0, 1.0), 60)


async def test_a_pool_that_is_silent_for_long_fails_the_inspection_and_nothing_is_recorded() -> None:
    def busy(texts: Sequence[str]) -> None:
        raise EmbedderBusy(1.0, "busy")

    found = store()
    with pytest.raises(PoolSilent, match="the pool embedded 0 of 50 documents within 60 s"):
        await inspect(ORDER, found, FakeEmbedder(before=busy), lambda: NOON, Backoff(1.0, 1.0))
    assert found.recorded == []
