from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from reembed.embedder.llama import Ids, ModelUnusable, Tokens, Vectors
from reembed.embedder.packing import PACK_TOKENS
from reembed.embedder.proof import prove


class _Letters:
    """A model whose vector counts letters; `leaks` is how much of its neighbours a text's vector has."""

    def __init__(self, leaks: float = 0.0, known: str = "", *, damaged: bool = False) -> None:
        self._leaks = leaks
        self._known = known
        self._damaged = damaged

    def tokenize(self, text: str) -> Tokens:
        ids = [ord(letter) % 64 for letter in text if not self._known or letter in self._known]
        return Tokens(np.array(ids, np.int32), len(ids))

    def embed(self, texts: Sequence[Ids]) -> Vectors:
        assert sum(map(len, texts)) <= PACK_TOKENS  # the engine refuses more
        counts = np.stack([np.bincount(text, minlength=64) for text in texts]).astype(np.float32)
        found = counts + self._leaks * counts.sum(axis=0)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return np.full_like(found, np.nan) if self._damaged else found


def test_a_model_that_reads_each_text_for_itself_is_served() -> None:
    model = _Letters()
    assert prove(model, [model]) == pytest.approx(1.0)


def test_a_vocabulary_that_knows_nothing_of_a_probe_is_no_fault() -> None:
    model = _Letters(known="km")
    assert prove(model, [model]) == pytest.approx(1.0)


def test_a_model_that_reads_across_texts_is_refused_with_the_cosine() -> None:
    model = _Letters(leaks=0.5)
    with pytest.raises(ModelUnusable, match=r"texts that are computed beside it \(cosine 0\.\d{4}, at least 0\.999"):
        prove(model, [model])


def test_each_context_is_compared_with_what_the_first_computed_alone() -> None:
    model = _Letters()
    with pytest.raises(ModelUnusable, match="cosine"):
        prove(model, [model, _Letters(leaks=0.5)])
    with pytest.raises(ModelUnusable, match="cosine nan"):
        prove(model, [model, _Letters(damaged=True)])


def test_a_model_without_finite_vectors_is_refused() -> None:
    model = _Letters(damaged=True)
    with pytest.raises(ModelUnusable, match="not finite, or zero: the file is damaged"):
        prove(model, [model])
