"""Which texts go into the next call of the engine: small packs by tokens, live requests first. Pure.

A pack is bounded by tokens, not by texts: on a CPU attention over one call grows with the square of its tokens, and
packs of about 256 tokens were the fastest measured for short and long texts alike. A text longer than that goes alone.
Background texts wait until no live one is there; with two contexts or more, one of them never takes them at all, so
that a live query never waits for a whole background pack.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

# Tokens of one call; see facts in the module's docstring.
PACK_TOKENS = 256
# Texts of one call: the engine's sequences.
PACK_TEXTS = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One tokenized text that waits; `work` is whatever the caller wants back."""

    tokens: int
    background: bool
    work: T


@dataclass
class Lanes(Generic[T]):
    """What waits, in order of arrival within a priority."""

    live: deque[Item[T]] = field(default_factory=deque)
    background: deque[Item[T]] = field(default_factory=deque)

    def add(self, item: Item[T]) -> None:
        (self.background if item.background else self.live).append(item)

    def next_pack(self, *, live_only: bool) -> list[Item[T]]:
        """Take the next pack out of the queues; empty if nothing waits that may be taken."""
        if self.live:
            return _take(self.live)
        return [] if live_only else _take(self.background)

    @property
    def tokens(self) -> int:
        return sum(item.tokens for lane in (self.live, self.background) for item in lane)


def _take(lane: deque[Item[T]]) -> list[Item[T]]:
    """Take items from the front while they fit; the first always does."""
    pack: list[Item[T]] = []
    tokens = 0
    while lane and len(pack) < PACK_TEXTS and (not pack or tokens + lane[0].tokens <= PACK_TOKENS):
        item = lane.popleft()
        tokens += item.tokens
        pack.append(item)
    return pack
