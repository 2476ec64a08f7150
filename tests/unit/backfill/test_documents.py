"""A document without a usable text or vector is rejected with its reason."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from reembed.backfill.documents import all_checked, checked, refused, text_hash, unreadable
from reembed.client import TextInvalid, TextTooLong
from reembed.stores.protocol import Document, Rejected, Written

DOCUMENT = Document("7", "some text")


def vector(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(None, "TextMissing", id="NULL"),
        pytest.param("", "TextEmpty", id="empty"),
        pytest.param(" \n\t\u00a0", "TextEmpty", id="white space"),
        pytest.param("x", None, id="a text"),
    ],
)
def test_only_a_text_with_something_in_it_is_embedded(text: str | None, reason: str | None) -> None:
    found = unreadable(Document("7", text))
    assert (found and found.reason) == reason


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        pytest.param((1.0, 0.0), "VectorWrongLength", id="too short"),
        pytest.param((1.0, float("nan"), 0.0), "VectorNotFinite", id="not a number"),
        pytest.param((1.0, float("inf"), 0.0), "VectorNotFinite", id="infinite"),
        pytest.param((0.0, -0.0, 0.0), "VectorZero", id="zero"),
    ],
)
def test_a_vector_that_cannot_be_compared_is_rejected(numbers: tuple[float, ...], reason: str) -> None:
    found = checked(DOCUMENT, vector(*numbers), dimensions=3)
    assert getattr(found, "reason", None) == reason


def test_a_good_vector_is_stored_with_the_hash_of_its_text() -> None:
    digest = hashlib.sha256(b"some text").digest()[:16]
    assert checked(DOCUMENT, vector(1, 0, 0), dimensions=3) == Written("7", digest, vector(1, 0, 0))


def test_the_hash_is_of_the_texts_utf8() -> None:
    assert text_hash("päge") == hashlib.sha256("päge".encode()).digest()[:16]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(TextTooLong(0, "600 tokens"), "TextTooLong", id="too long"),
        pytest.param(TextInvalid(0, "odd"), "TextInvalid", id="invalid"),
    ],
)
def test_an_embedders_refusal_is_the_reason(error: TextTooLong | TextInvalid, reason: str) -> None:
    found = refused(DOCUMENT, error)
    assert (found.reason, found.message) == (reason, str(error))


@pytest.mark.parametrize("bad", [None, vector(1.0), vector(0.0, 0.0), vector(1.0, float("nan"))])
def test_documents_are_judged_together_as_each_by_itself(bad: bytes | None) -> None:
    documents = [Document(str(n), f"text {n}") for n in range(3)]
    refusal = Rejected("1", "TextTooLong", "600 tokens, above 512")
    answers = [vector(1, 2), bad if bad is not None else refusal, vector(3, 4)]
    assert all_checked(documents, answers, 2) == [
        answer if isinstance(answer, Rejected) else checked(document, answer, 2)
        for document, answer in zip(documents, answers, strict=True)
    ]


def test_documents_of_which_all_can_be_stored_are_stored() -> None:
    documents = [Document(str(n), f"text {n}") for n in range(3)]
    vectors = [vector(1, n) for n in range(3)]
    found = [Written(str(n), text_hash(f"text {n}"), vectors[n]) for n in range(3)]
    assert (all_checked(documents, vectors, 2), all_checked([], [], 2)) == (found, [])
