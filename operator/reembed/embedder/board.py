"""What the engine process computes right now, in memory that outlives it: so that a crash can be told from its cause.

One slot a context: since when it computes and which texts. The engine process writes a slot before each call and clears
it after; the server reads all slots when the process died, or looks whether one has been computing for too long. Slots
are written by one thread each and read when their writer is dead or hangs, so they need no lock.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reembed.embedder.packing import PACK_TEXTS

# since (seconds of the machine's monotonic clock), tokens, texts; then request and index of each text.
_HEAD = 3
_WORDS = _HEAD + 2 * PACK_TEXTS
_SLOT_BYTES = 8 * _WORDS


@dataclass(frozen=True, slots=True)
class Slot:
    """A call under way: when it began, its tokens, and its texts as (request, index)."""

    since: int
    tokens: int
    texts: tuple[tuple[int, int], ...]


class Board:
    """The slots of all contexts. `descriptor` is what another process opens it by."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._contexts = os.fstat(descriptor).st_size // _SLOT_BYTES
        self._memory = mmap.mmap(descriptor, 0)
        self._words = memoryview(self._memory).cast("q")

    @classmethod
    def make(cls, contexts: int) -> Board:
        """Return an empty board of a new piece of memory."""
        descriptor = os.memfd_create("reembed-board")
        os.truncate(descriptor, contexts * _SLOT_BYTES)
        return cls(descriptor)

    def write(self, context: int, since: float, tokens: int, texts: Sequence[tuple[int, int]]) -> None:
        """Say what a context computes from now on; texts beyond a pack's are equal to others of it and left out."""
        begin = context * _WORDS
        place = begin + _HEAD
        for number, index in texts[:PACK_TEXTS]:
            self._words[place], self._words[place + 1] = number, index
            place += 2
        self._words[begin], self._words[begin + 1] = int(since), tokens
        self._words[begin + 2] = min(len(texts), PACK_TEXTS)

    def clear(self, context: int) -> None:
        self._words[context * _WORDS + 2] = 0

    def slots(self) -> Iterator[Slot]:
        """Yield the calls under way."""
        for begin in range(0, self._contexts * _WORDS, _WORDS):
            since, tokens, count = self._words[begin : begin + _HEAD]
            if count:
                pairs = self._words[begin + _HEAD : begin + _HEAD + 2 * count].tolist()
                yield Slot(since, tokens, tuple(zip(pairs[::2], pairs[1::2], strict=True)))

    def wipe(self) -> None:
        """Empty all slots, for another process to write."""
        for context in range(self._contexts):
            self.clear(context)

    def close(self) -> None:
        """Give the memory back; there are no slots from now on."""
        self._contexts = 0
        self._words.release()
        self._memory.close()
        os.close(self.descriptor)
