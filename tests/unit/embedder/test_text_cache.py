"""What is remembered of texts: the last ones, within its bound, and never for another model."""

from __future__ import annotations

from reembed.embedder.text_cache import Cached, TextCache

_VECTOR = Cached(b"\0" * 650, tokens=3, cut=False)  # an entry of 1,000 bytes


def test_the_text_that_was_not_asked_for_longest_leaves_first() -> None:
    cache = TextCache("fp", 3000)
    for text in "abc":
        cache.put(text, _VECTOR)
    cache.get("a")
    cache.put("d", _VECTOR)
    assert [cache.get(text) is not None for text in "abcd"] == [True, False, True, True]
    assert (cache.size, cache.hits, cache.misses) == (3000, 4, 1)


def test_the_same_text_again_takes_no_more_room() -> None:
    cache = TextCache("fp", 3000)
    for _ in range(5):
        cache.put("a", _VECTOR)
    assert (cache.size, cache.get("a")) == (1000, _VECTOR)


def test_texts_of_two_models_have_different_keys() -> None:
    assert TextCache("fp-1", 1000)._key("a") != TextCache("fp-2", 1000)._key("a")


def test_a_vector_above_the_bound_is_not_kept() -> None:
    cache = TextCache("fp", 999)
    cache.put("a", _VECTOR)
    assert (cache.size, cache.get("a")) == (0, None)


def test_forgetting_gives_the_memory_back() -> None:
    cache = TextCache("fp", 3000)
    cache.put("a", _VECTOR)
    cache.clear()
    assert (cache.size, cache.get("a")) == (0, None)
