"""Vectors of real models over HTTP, against the published weights run in numpy.

llama.cpp's tokenizer knowingly differs from BERT's own in three places, which the texts here leave out: syllables of
Hangul lose their final consonants, vowel signs of Indic scripts are dropped, and words above a hundred characters are
split instead of unknown.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from demo import corpus
from tests.fixtures.embedders import Embedder, decoded
from tests.reference_model import ReferenceModel

_UNICODE = [
    "Ünïcödé ŁÓDŹ ß ﬁ ½ ² İ",
    "日本語のテキスト、漢字とかな",
    "العربية نص قصير",
    "русский текст и ещё немного",
    "emoji 🎉 in the 👩‍💻 middle",
    "\u2018quotes\u2019 — dashes … and\u00a0spaces \u200b \u00ad",
    "$5 + 3 = ~8 ^ `x` <y> |z| \\ @home #1",
    "tabs\tand\nnew lines\r\n  and   runs",
    "a",
    "?",
]
_LEAST_COSINE = 0.999


@cache  # reading the standard library takes seconds
def _texts() -> list[str]:
    functions = [function for _, function in corpus.corpus(45).documents]
    questions, bodies = [one.question for one in functions], [one.body for one in functions]
    return [*questions, *bodies, *_UNICODE, "a very long text " * 200]


def _cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.sum(found * expected, axis=1)


def test_vectors_are_the_published_model_s(
    running: tuple[str, Embedder], references: dict[str, ReferenceModel]
) -> None:
    name, embedder = running
    texts = _texts()
    expected = np.stack([references[name].embed(text, 256) for text in texts])
    cosines = _cosines(embedder.vectors(texts), expected)
    assert (cosines >= _LEAST_COSINE).all(), [
        text for text, one in zip(texts, cosines, strict=True) if one < _LEAST_COSINE
    ]


def test_a_text_s_vector_does_not_depend_on_its_company(running: tuple[str, Embedder]) -> None:
    _, embedder = running
    texts = _texts()[::4]
    alone = np.concatenate([embedder.vectors([text]) for text in texts])
    assert _cosines(embedder.vectors(texts), alone).min() >= _LEAST_COSINE


def test_vectors_have_length_one(running: tuple[str, Embedder]) -> None:
    _, embedder = running
    np.testing.assert_allclose(np.linalg.norm(embedder.vectors(_texts()[:20]), axis=1), 1.0, atol=1e-6)


def test_both_encodings_say_the_same(running: tuple[str, Embedder]) -> None:
    _, embedder = running
    floats, packed = (embedder.ask("hello", encoding_format=form).json() for form in ("float", "base64"))
    assert np.float32(floats["data"][0]["embedding"]).tobytes() == decoded(packed["data"][0]["embedding"]).tobytes()


def test_tokens_are_the_published_tokenizer_s(
    running: tuple[str, Embedder], references: dict[str, ReferenceModel]
) -> None:
    name, embedder = running
    texts = [*_UNICODE, "hello world"]
    expected = [len(references[name].tokens(text, 10_000)) for text in texts]
    asked = embedder.ask(texts, encoding_format="base64").json()["usage"]["total_tokens"]
    assert asked == sum(expected)
