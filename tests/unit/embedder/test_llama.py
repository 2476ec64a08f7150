"""Texts to tokens: as much of a text is read as the model needs. llama.cpp's tokenizer is a double."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from reembed.core.model import Model, Pooling
from reembed.embedder import llama
from reembed.embedder.llama import Weights

_MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 2, 256)


class _Tokenizer:
    """Makes `each` tokens of a word, within 2 that begin and end a text, and remembers how long texts were."""

    def __init__(self, each: int) -> None:
        self.lengths: list[int] = []
        self._each = each

    def __call__(self, _: Any, data: bytes, length: int, buffer: ctypes.Array[Any], room: int, *__: bool) -> int:
        self.lengths.append(length)
        tokens = [1, *[7] * (self._each * len(data.split())), 2]
        if len(tokens) > room:
            return -len(tokens)
        buffer[: len(tokens)] = tokens
        return len(tokens)


@pytest.fixture
def weights() -> Weights:
    made = Weights.__new__(Weights)
    made.model, made._vocabulary, made._ends = _MODEL, None, frozenset({2})
    return made


def test_of_megabytes_no_more_is_read_than_the_model_needs(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama.lib, "llama_tokenize", tokenizer := _Tokenizer(1))
    found = weights.tokenize("word " * 1_000_000)
    assert (found.ids.tolist(), found.cut, found.whole) == ([1, *[7] * 254, 2], True, False)
    assert sum(tokenizer.lengths) < 10_000


def test_a_text_is_read_to_its_end_where_little_in_it_is_a_token(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.lib, "llama_tokenize", _Tokenizer(1))
    found = weights.tokenize(" " * 100_000 + "a b")
    assert (found.ids.tolist(), found.cut, found.whole) == ([1, 7, 7, 2], False, True)


def test_a_text_of_more_tokens_than_bytes_is_read(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some vocabularies write U+FDFA, three bytes, as eighteen letters before they read it."""
    monkeypatch.setattr(llama.lib, "llama_tokenize", _Tokenizer(18))
    assert len(weights.tokenize("\ufdfa " * 10).ids) == 182


def test_a_long_text_is_counted_in_pieces(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama.lib, "llama_tokenize", tokenizer := _Tokenizer(1))
    assert weights.count("word " * 100_000) == 100_002
    assert max(tokenizer.lengths) <= 1 << 16
