"""Texts that repeat: answered from memory while it is allowed, with the same vectors, and never for background ones."""

from __future__ import annotations

import httpx
import numpy as np

from tests.fixtures.embedders import Start

_BYTES = str(1 << 20)
_CACHE = "reembed_embedder_text_cache"


def test_what_was_asked_before_is_not_computed_again(embedder: Start) -> None:
    server = embedder(TEXT_CACHE_BYTES=_BYTES)
    first = server.vectors(["a", "b"])
    computed = server.metric('reembed_embedder_queue_seconds_count{priority="live"}')
    again = server.vectors(["b", "c", "a"])
    assert np.array_equal(first, again[[2, 0]])
    assert [server.metric(f"{_CACHE}_{name}_total") for name in ("hits", "misses")] == [2, 3]
    assert (computed, server.metric(f"{_CACHE}_bytes")) == (1, 3 * (384 * 4 + 350))


def test_truncation_is_told_from_memory_too(embedder: Start) -> None:
    server = embedder(MAX_TOKENS="16", TEXT_CACHE_BYTES=_BYTES)
    texts = ["short", "word " * 50]
    answers = [server.ask(texts).json(), server.ask(texts).json()]
    assert answers[0] == answers[1]
    assert answers[1]["truncated"] == [1]


def test_background_texts_are_not_remembered_and_none_are_with_a_cache_of_0(embedder: Start) -> None:
    server, without = embedder(TEXT_CACHE_BYTES=_BYTES), embedder(TEXT_CACHE_BYTES="0")
    for _ in range(2):
        server.ask("a", background=True)
        without.ask("a")
    assert [server.metric(f"{_CACHE}_{name}_total") for name in ("hits", "misses")] == [0, 0]
    assert without.metric(f"{_CACHE}_bytes") == 0


def test_an_emergency_gives_the_memory_back(embedder: Start) -> None:
    server = embedder(TEXT_CACHE_BYTES=_BYTES)
    server.ask("a")

    httpx.put(f"{server.url}/v1/emergency", json={"seconds": 30})
    assert server.metric(f"{_CACHE}_bytes") == 0
