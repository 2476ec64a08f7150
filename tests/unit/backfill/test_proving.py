"""What a look at an application's own column comes to, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.proving import Proving
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import EmbedderBusy, TextInvalid
from reembed.core.keeping import GRACE, SAMPLE
from reembed.core.model import CollectionPlan, Desired, Kept
from reembed.stores.protocol import StoreError, StoreUnavailable, Watched, Watching
from tests.fixtures.stores import FakeEmbedder, vector_of

pytestmark = pytest.mark.looptime

PLAN = CollectionPlan("a_docs", "old", "fp-new", 8, 1, Desired.INDEXED)


@dataclass
class Store:
    """A store with one adopted column."""

    found: Watching | StoreError

    async def watched(self, collection: str, grace: float, count: int) -> Watching:
        assert (collection, grace, count) == (PLAN.name, GRACE.total_seconds(), SAMPLE)
        if isinstance(self.found, StoreError):
            raise self.found
        return self.found


def store(*vectors: bytes | None) -> Store:
    """Return a store with a document `text 0`, `text 1` ... for each vector that its column holds."""
    return Store(Watching(tuple([Watched(str(n), f"text {n}", one) for n, one in enumerate(vectors)]), changed=True))


def proving(of: Store, embedder: FakeEmbedder) -> Proving:
    retrying = Retrying(Backoff(1.0, 1.0), random.Random(1))
    return Proving(of, DocumentEmbedder(embedder, "fp-new", retrying), PLAN)  # type: ignore[arg-type]


async def test_what_is_missing_and_what_is_of_another_text_is_counted() -> None:
    found = await proving(store(vector_of("text 0"), vector_of("an older text"), None), FakeEmbedder()).look()
    assert found == Kept(changed=True, looked=3, missing=1, compared=2, far=1, examples=("2", "1"))


async def test_a_text_that_the_model_refuses_needs_no_vector() -> None:
    def refuse(texts: Sequence[str]) -> None:
        if "text 1" in texts:
            raise TextInvalid(texts.index("text 1"), "no")

    found = await proving(store(vector_of("text 0"), None), FakeEmbedder(before=refuse)).look()
    assert found == Kept(changed=True, looked=1, missing=0, compared=1, far=0)


async def test_what_was_compared_is_embedded_again_only_when_its_text_or_its_vector_changed() -> None:
    embedder, it = FakeEmbedder(), store(vector_of("text 0"), vector_of("an older text"))
    looks = proving(it, embedder)
    first, again, once = await looks.look(), await looks.look(), dict(embedder.embedded)
    it.found = store(vector_of("text 0"), vector_of("text 1")).found
    mended = await looks.look()
    assert (first, first.far, mended.far, once) == (again, 1, 0, {"text 0": 1, "text 1": 1})
    assert embedder.embedded == {"text 0": 1, "text 1": 2}


async def test_a_silent_pool_hides_no_vector_that_is_missing(looptime: Any) -> None:
    def busy(texts: Sequence[str]) -> None:
        raise EmbedderBusy(1.0, "busy")

    found = await proving(store(vector_of("text 0"), None), FakeEmbedder(before=busy)).look()
    assert found == Kept(changed=True, looked=2, missing=1, compared=0, far=0, examples=("1",))
    assert looptime == 30


async def test_a_column_that_cannot_be_read_is_told_and_a_store_that_is_away_says_nothing() -> None:
    gone = await proving(Store(StoreError("it is gone")), FakeEmbedder()).look()
    assert (gone.problem, gone.looked) == ("it is gone", 0)
    with pytest.raises(StoreUnavailable):
        await proving(Store(StoreUnavailable("away")), FakeEmbedder()).look()
