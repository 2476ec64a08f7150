"""Every document of a batch ends with a vector or a reason, however often the embedder fails."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import EmbedderBusy, EmbedderUnavailable, TextInvalid, TextTooLong
from reembed.stores.protocol import Document
from tests.fixtures.stores import FakeEmbedder, vector_of


def batch(*texts: str | None) -> list[Document]:
    return [Document(str(n), text) for n, text in enumerate(texts)]


async def results(embedder: FakeEmbedder, *texts: str | None) -> list[object]:
    """The vector of each text, or the reason why it has none."""
    retrying = Retrying(Backoff(0.0, 0.0), random.Random(1))
    answered = await DocumentEmbedder(embedder, "fp-new", retrying).embed(batch(*texts))
    return [one if isinstance(one, bytes) else one.reason for one in answered]


def refusing(error: type[TextTooLong | TextInvalid], *, named: bool) -> FakeEmbedder:
    def before(texts: Sequence[str]) -> None:
        if "bad" in texts:
            raise error(list(texts).index("bad") if named else None, "refused")

    return FakeEmbedder(before=before)


async def test_texts_that_cannot_be_embedded_are_not_sent() -> None:
    embedder = FakeEmbedder()
    assert await results(embedder, "a", None, " ", "b") == [vector_of("a"), "TextMissing", "TextEmpty", vector_of("b")]
    assert embedder.sizes == [2]


async def test_a_batch_without_any_text_asks_nobody() -> None:
    embedder = FakeEmbedder()
    assert await results(embedder, None, "") == ["TextMissing", "TextEmpty"]
    assert embedder.sizes == []


@pytest.mark.parametrize("named", [True, False], ids=["named by the embedder", "not named"])
async def test_a_refused_text_does_not_cost_its_neighbours(named: bool) -> None:
    embedder = refusing(TextTooLong, named=named)
    assert await results(embedder, "a", "bad", "b", "bad") == [
        vector_of("a"),
        "TextTooLong",
        vector_of("b"),
        "TextTooLong",
    ]
    assert embedder.embedded == {"a": 1, "b": 1}


async def test_passing_failures_are_waited_out() -> None:
    failures = iter([EmbedderBusy(0.0, "full"), EmbedderUnavailable("rolled")])

    def before(_: Sequence[str]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    assert await results(FakeEmbedder(before=before), "a") == [vector_of("a")]


async def test_another_models_answer_is_not_taken() -> None:
    embedder = FakeEmbedder(fingerprint="fp-old")

    def before(_: Sequence[str]) -> None:
        if embedder.embedded:
            embedder.fingerprint = "fp-new"

    embedder.before = before
    assert await results(embedder, "a") == [vector_of("a")]
    assert embedder.embedded == {"a": 2}
