"""Which texts go into the next call of the engine: small packs by tokens, live requests first. Pure.

A pack is bounded by tokens, not by texts: on a CPU attention over one call grows with the square of its tokens, and
packs of about 256 tokens were the fastest measured for short and long texts alike. A text longer than that goes alone.
Background texts wait until no live one is there that the asking context can take. A context whose capacity is too small
for a text leaves it to one that has more, and takes the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

# Tokens of one call, unless a single text has more.
PACK_TOKENS = 256
# Texts of one call: the engine's sequences.
PACK_TEXTS = 64
# How far behind the first text others are looked for that fill the pack.
_LOOK_AHEAD = 128

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One tokenized text that waits; `work` is whatever the caller wants back."""

    tokens: int
    background: bool
    work: T


@dataclass
class Lanes(Generic[T]):
    """What waits, in order of arrival within a priority, and what a pack may hold of it."""

    pack_tokens: int = PACK_TOKENS
    pack_texts: int = PACK_TEXTS
    live: deque[Item[T]] = field(default_factory=deque)
    background: deque[Item[T]] = field(default_factory=deque)

    def add(self, item: Item[T]) -> None:
        (self.background if item.background else self.live).append(item)

    def next_pack(self, capacity: int, *, live_only: bool) -> list[Item[T]]:
        """Take the next pack of at most `capacity` tokens out of the lanes; empty if nothing may be taken."""
        pack = self._take(self.live, capacity)
        return pack if pack or live_only else self._take(self.background, capacity)

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Forget what nobody waits for any more."""
        self.live = deque(item for item in self.live if not unwanted(item.work))
        self.background = deque(item for item in self.background if not unwanted(item.work))

    def _take(self, lane: deque[Item[T]], capacity: int) -> list[Item[T]]:
        """Take the first item within capacity, and later ones that fit beside it."""
        pack: list[Item[T]] = []
        passed: list[Item[T]] = []
        room = capacity
        while lane and len(pack) < self.pack_texts and len(passed) < _LOOK_AHEAD and room > 0:
            item = lane.popleft()
            if item.tokens > room:
                passed.append(item)
                continue
            # The first may be longer than a pack; it then goes alone.
            room = (room if pack else min(capacity, max(self.pack_tokens, item.tokens))) - item.tokens
            pack.append(item)
        lane.extendleft(reversed(passed))
        return pack
