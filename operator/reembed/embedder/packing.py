"""Which texts go into the next call of the engine: small packs by tokens, live requests first. Pure.

A pack is bounded by tokens, not by texts: on a CPU attention over one call grows with the square of its tokens, and
packs of 128 to 256 tokens were the fastest measured for short and long texts alike. A text longer than that goes alone.
What waits is shared between the contexts that are free, so that none idles while another computes everything; but no
pack is made smaller for it than what a call computes well. Equal texts of one pack are computed once.

Background texts wait until no live one is there that the asking context can take, but not for ever: the first of them
goes before the live ones when none went for `patience` seconds. A context whose capacity is too small for a text leaves
it to one that has more, and takes the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

# Tokens of one call, unless a single text has more.
PACK_TOKENS = 256
# Below this a call costs more a token: 0.75 of the speed at 64 tokens, none lost at 128 (six layers, 384 dimensions).
SMALL_PACK_TOKENS = 128
# Texts of one call: the engine's sequences.
PACK_TEXTS = 64
# Seconds without a background pack after which one goes before live texts.
PATIENCE = 5.0
# How far behind the first text others are looked for that fill the pack.
_LOOK_AHEAD = 128

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One tokenized text that waits; `work` is whatever the caller wants back, texts of one `key` are equal."""

    tokens: int
    background: bool
    work: T
    key: Hashable = None  # None is equal to nothing
    arrived: float = 0.0


@dataclass
class _Lane(Generic[T]):
    """What waits of one priority, in order of arrival."""

    items: deque[Item[T]] = field(default_factory=deque)
    tokens: int = 0

    def add(self, item: Item[T]) -> None:
        self.items.append(item)
        self.tokens += item.tokens

    def keep(self, items: Iterable[Item[T]]) -> None:
        self.items = deque(items)
        self.tokens = sum(item.tokens for item in self.items)


@dataclass
class Lanes(Generic[T]):
    """What waits, and what a pack may hold of it.

    Attributes:
        background_tokens: tokens of a background pack, where those of a live one would take too long: a query that
            comes meanwhile waits for its end, or computes beside it.

    """

    pack_tokens: int = PACK_TOKENS
    pack_texts: int = PACK_TEXTS
    background_tokens: int = PACK_TOKENS
    patience: float = PATIENCE
    _live: _Lane[T] = field(default_factory=_Lane)
    _background: _Lane[T] = field(default_factory=_Lane)
    _went: float = 0.0  # when a background pack went last

    @property
    def tokens(self) -> int:
        """Return how many tokens wait."""
        return self._live.tokens + self._background.tokens

    @property
    def live_tokens(self) -> int:
        """Return how many tokens of live texts wait."""
        return self._live.tokens

    def add(self, item: Item[T]) -> None:
        (self._background if item.background else self._live).add(item)

    def next_pack(self, capacity: int, *, live_only: bool, free: int = 1, now: float = 0.0) -> list[Item[T]]:
        """Take the next pack of at most `capacity` tokens out of the lanes; empty if nothing may be taken.

        `free` contexts, the asking one among them, share what waits.
        """
        if live_only:
            return self._take(self._live, capacity, self._share(self._live, free))
        if self._starving(now) and (pack := self._take_background(capacity, free, now)):
            return pack
        pack = self._take(self._live, capacity, self._share(self._live, free))
        return pack or self._take_background(capacity, free, now)

    def first(self) -> Item[T] | None:
        """Return the live text that waits longest."""
        return self._live.items[0] if self._live.items else None

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Forget what nobody waits for any more."""
        for lane in (self._live, self._background):
            lane.keep(item for item in lane.items if not unwanted(item.work))

    def _starving(self, now: float) -> bool:
        if not self._live.items or not self._background.items:
            return False
        return now - max(self._went, self._background.items[0].arrived) > self.patience

    def _share(self, lane: _Lane[T], free: int) -> int:
        """Return the tokens of a pack where `free` contexts share what waits."""
        fair = -(-lane.tokens // max(1, free))
        return min(self.pack_tokens, max(SMALL_PACK_TOKENS, fair))

    def _take_background(self, capacity: int, free: int, now: float) -> list[Item[T]]:
        most = min(self.background_tokens, self._share(self._background, free))
        if pack := self._take(self._background, capacity, most):
            self._went = now
        return pack

    def _take(self, lane: _Lane[T], capacity: int, most: int) -> list[Item[T]]:
        """Take the first item within capacity, and later ones that fit beside it or are equal to one of the pack."""
        pack: list[Item[T]] = []
        passed: list[Item[T]] = []
        keys: set[Hashable] = set()
        room = capacity
        while lane.items and len(keys) < self.pack_texts and len(passed) < _LOOK_AHEAD and room > 0:
            item = lane.items.popleft()
            key = object() if item.key is None else item.key
            if key not in keys:
                if item.tokens > room:
                    passed.append(item)
                    continue
                # The first may be longer than a pack; it then goes alone.
                room = (room if pack else min(capacity, max(most, item.tokens))) - item.tokens
                keys.add(key)
            lane.tokens -= item.tokens
            pack.append(item)
        lane.items.extendleft(reversed(passed))
        return pack
