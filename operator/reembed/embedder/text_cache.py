"""Vectors of texts that were asked for lately: real queries repeat. Bounded by bytes, the longest unused leave first.

A text is known by the digest of the model's fingerprint and itself with its prefix, so that a text costs no more than
its vector, and what is kept can never answer for another model.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

# What an entry costs beside its vector: key, object and their places in the table (CPython 3.11, 64 bit).
_ENTRY_BYTES = 350


@dataclass(frozen=True, slots=True)
class Cached:
    """What a text got before: its vector as little-endian float32, its tokens, and whether its end was cut off."""

    vector: bytes
    tokens: int
    cut: bool


class TextCache:
    """At most `limit` bytes of vectors; 0 keeps none."""

    def __init__(self, fingerprint: str, limit: int) -> None:
        self._fingerprint = fingerprint.encode()
        self._limit = limit
        self._entries: OrderedDict[bytes, Cached] = OrderedDict()
        self.size = 0
        self.hits = 0
        self.misses = 0

    @property
    def on(self) -> bool:
        return self._limit > 0

    def get(self, text: str) -> Cached | None:
        key = self._key(text)
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, text: str, found: Cached) -> None:
        key, cost = self._key(text), len(found.vector) + _ENTRY_BYTES
        if cost > self._limit:
            return
        if key not in self._entries:
            self.size += cost
        self._entries[key] = found
        while self.size > self._limit:
            _, left = self._entries.popitem(last=False)
            self.size -= len(left.vector) + _ENTRY_BYTES

    def clear(self) -> None:
        """Forget all, where memory is wanted."""
        self._entries.clear()
        self.size = 0

    def begin(self) -> None:
        """Forget what was asked so far, and that it was: the trial of an engine is nobody's query."""
        self.clear()
        self.hits = self.misses = 0

    def _key(self, text: str) -> bytes:
        return blake2b(text.encode(), digest_size=16, key=self._fingerprint[:64]).digest()
