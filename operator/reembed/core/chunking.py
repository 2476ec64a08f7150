"""Where a text is cut into parts of so many tokens: pure, the same text always in the same way.

Asked by the backfill and by the follower, with the places at which the model's own tokenizer ends its tokens. A part
ends at the last end of a sentence or of a line that fits; where none fits, at the last word's, and inside a word only
where the word alone is too long: what a piece of a word becomes when it is read by itself is not known before. Places
are counted in characters; a character that the reader sees as one (a letter with its accents, a flag, a family) is
never cut. White space around a part is left out, and what is only white space is no part.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from reembed.core.model import Chunking, CutAt

# A document of more is rejected: its vectors would fill a pod's memory, and no search for one of them finds it better.
MOST_PARTS = 1000

# What closes a sentence with the quotes and brackets behind it, before white space; Chinese and Japanese need none. A
# blank line ends whatever stood before it: headings have no full stop.
_SENTENCE = re.compile(
    r"""[.!?\u2026]+(?:["'\u201d\u2019\u00bb)\]][.!?\u2026]*+)*+(?P<latin>)"""
    r"|[\u3002\uff01\uff1f][\u3002\uff01\uff1f\u300d\u300f\u201d\u2019\uff09]*"
    r"|(?=\n[^\S\n]*\n)"
)
_LINE = re.compile(r"(?=[\r\n])")
_WORD = re.compile(r"(?<=\S)(?=\s)")
_JOINER = "\u200d"
_HANGUL = range(0x1100, 0x1200)
_MOST_FLAG_LETTERS = 64  # looked back over; even, so that a longer row is cut between two flags of some row


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, from its first character to before `end`."""

    start: int
    end: int


def cut(text: str, ends: Sequence[int], chunking: Chunking) -> tuple[Span, ...]:
    """Return the parts of a text in their order; none if it is only white space.

    `ends` says for each token behind which character it ends; a token that ends inside of a character ends behind it.
    """
    return _Cutting(text, ends, chunking).parts()


class _Cutting:
    def __init__(self, text: str, ends: Sequence[int], chunking: Chunking) -> None:
        self._text = text
        self._ends = ends
        self._most = chunking.max_tokens
        self._overlap = chunking.overlap_tokens
        patterns = {CutAt.SENTENCE: (_SENTENCE, _LINE), CutAt.LINE: (_LINE,), CutAt.TOKEN: ()}[chunking.at]
        self._places = [_ends_of(one, text) for one in (*patterns, _WORD)]

    def parts(self) -> tuple[Span, ...]:
        found = list[Span]()
        start, behind = self._next_word(0), 0
        while start < len(self._text):
            end = self._end(start, behind)
            found.append(Span(start, start + len(self._text[start:end].rstrip())))
            if self._next_word(end) == len(self._text):
                break
            start, behind = self._begin(start, end), self._next_word(end)
        return tuple(found)

    def _end(self, start: int, behind: int) -> int:
        """Return where the part ends that begins at `start`: behind `behind`, the first that no part has yet."""
        before = bisect_right(self._ends, start)
        if len(self._ends) - before <= self._most:
            return len(self._text)
        fits = self._fitting(before)
        for places in self._places:
            number = bisect_right(places, fits)
            if number and places[number - 1] > max(start, behind):
                return places[number - 1]
        return self._inside(max(start, behind), fits)

    def _fitting(self, before: int) -> int:
        """Return the last place up to which there are no more tokens than may be, without the first `before`."""
        last = before + self._most
        place = self._ends[last - 1]
        if self._ends[last] == place:  # a character of several tokens that do not all fit
            place = self._ends[number - 1] if (number := bisect_left(self._ends, place)) else 0
        return place

    def _inside(self, after: int, fits: int) -> int:
        """Return the last place up to `fits` that cuts no character; one character at least, however large it is."""
        for place in range(fits, after, -1):
            if _between(self._text, place):
                return place
        return self._whole(after + 1)

    def _begin(self, start: int, end: int) -> int:
        """Return where the next part begins: its overlap is at most half of what it repeats, and begins with a word."""
        first, last = bisect_right(self._ends, start), bisect_right(self._ends, end)
        repeated = min(self._overlap, (last - first) // 2)
        words, place = self._places[-1], self._next_word(end)
        if not repeated:
            return place
        earlier = self._whole(max(self._ends[last - repeated - 1], start + 1))
        number = bisect_left(words, earlier)
        if number < len(words) and (word := self._next_word(words[number])) < end:
            earlier = word
        if earlier >= end or self._text[earlier].isspace():
            return place
        before = bisect_right(self._ends, earlier)
        # A character of many tokens may leave no room for anything new behind what is repeated.
        whole = len(self._ends) - before <= self._most
        return earlier if whole or self._whole(place + 1) <= self._fitting(before) else place

    def _whole(self, place: int) -> int:
        """Return the next place from `place` on that cuts no character."""
        while not _between(self._text, place):
            place += 1
        return place

    def _next_word(self, place: int) -> int:
        """Return the next place that is no white space, or the text's end."""
        while place < len(self._text) and self._text[place].isspace():
            place += 1
        return place


def _ends_of(pattern: re.Pattern[str], text: str) -> list[int]:
    """Return where a pattern ends in a text, but for full stops with no white space behind: 3.14 is no sentence's end.

    That is looked at here and not by the pattern, which would come back to each of a thousand full stops.
    """
    found = pattern.finditer(text)
    return [
        one.end()
        for one in found
        if "latin" not in pattern.groupindex or one["latin"] is None or text[one.end() : one.end() + 1].isspace()
    ]


def _between(text: str, place: int) -> bool:
    """Return whether a cut there leaves every character whole, as the reader sees it."""
    if not 0 < place < len(text):
        return True
    before, behind = text[place - 1], text[place]
    if behind < "\u0300":
        return (before, behind) != ("\r", "\n")
    if _JOINER in (before, behind) or unicodedata.category(behind) in {"Mn", "Mc", "Me"}:
        return False
    if 0x1F3FB <= ord(behind) <= 0x1F3FF:  # a skin's colour belongs to who has it
        return False
    if _is_flag_letter(behind) and _is_flag_letter(before):
        return _flag_letters_before(text, place) % 2 == 0
    return not (ord(behind) in _HANGUL and ord(before) in _HANGUL)


def _is_flag_letter(character: str) -> bool:
    return 0x1F1E6 <= ord(character) <= 0x1F1FF


def _flag_letters_before(text: str, place: int) -> int:
    """Return how many letters of flags stand before a place, as far as anybody writes flags in a row."""
    count = 0
    while count < min(place, _MOST_FLAG_LETTERS) and _is_flag_letter(text[place - 1 - count]):
        count += 1
    return count
