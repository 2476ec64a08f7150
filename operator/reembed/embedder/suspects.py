"""Which texts may have ended an engine, by what it computed when it died; pure.

A crash kills all texts of all calls under way, and one of them may be its cause. They are let in again, but each gets a
call of its own while nothing else computes: the text that is alone when the engine dies once more is the cause, and is
refused from then on. A text that was computed alone and nothing happened is free of suspicion.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

# Of the last crashes; more would be a pod that does nothing but crash.
_MOST = 4096


class Suspects:
    """Texts by digest, so that none of a user's words is kept."""

    def __init__(self) -> None:
        self._suspected: OrderedDict[bytes, None] = OrderedDict()
        self._guilty: OrderedDict[bytes, None] = OrderedDict()

    def crashed(self, texts: Sequence[str], *, alone: bool) -> None:
        """An engine died while it computed `texts`; `alone` if that was one text with nothing beside it."""
        if alone and len(texts) == 1:
            self._suspected.pop(_digest(texts[0]), None)
            _add(self._guilty, texts)
        else:
            _add(self._suspected, texts)

    def guilty(self, texts: Iterable[str]) -> int | None:
        """Return the index of the first text that must not be computed."""
        if not self._guilty:
            return None
        return next((index for index, text in enumerate(texts) if _digest(text) in self._guilty), None)

    def suspicious(self, texts: Iterable[str]) -> bool:
        """Return whether some of the texts must be computed alone."""
        return bool(self._suspected) and any(_digest(text) in self._suspected for text in texts)

    def acquit(self, texts: Iterable[str]) -> None:
        """The texts were computed alone, and the engine lives."""
        for text in texts:
            self._suspected.pop(_digest(text), None)


def _add(table: OrderedDict[bytes, None], texts: Iterable[str]) -> None:
    for text in texts:
        table[_digest(text)] = None
    while len(table) > _MOST:
        table.popitem(last=False)


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
