"""Encoders of long texts and decoders, by small files of random weights: packed like alone, cut where the pool says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.fixtures.embedders import Embedder, start
from tests.fixtures.random_models import DIMENSIONS, decoder, encoder

_MOST = 1024
_TEXTS = ["the path", "a b c", "then this that other", "word " * 60, "long " * 140, "x", "the path"]


@pytest.fixture(scope="module", params=[(encoder, "Mean"), (encoder, "Cls"), (decoder, "Last"), (decoder, "Mean")])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    make, pooling = request.param
    directory: Path = tmp_path_factory.mktemp("other")
    started = start(
        make(directory / "model.gguf", gguf.PoolingType[pooling.upper()]),
        directory,
        POOLING=pooling,
        DIMENSIONS=str(DIMENSIONS),
        MAX_TOKENS=str(_MOST),
    )
    yield started
    started.process.kill()
    started.process.wait()


def test_a_text_s_vector_depends_on_the_text_alone(other: Embedder) -> None:
    alone = np.concatenate([other.vectors([text]) for text in _TEXTS])
    packed = other.vectors(_TEXTS)
    assert np.sum(alone * packed, axis=1).min() >= 0.999
    assert (alone[:-1] @ alone[:-1].T - np.eye(len(_TEXTS) - 1)).max() < 0.999  # none is like another


def test_a_text_is_read_up_to_the_pool_s_limit(other: Embedder) -> None:
    answer = other.ask(["word " * 500, "word"]).json()
    assert answer["truncated"] == [0]
    assert _MOST < answer["usage"]["total_tokens"] < _MOST + 10
