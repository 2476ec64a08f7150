"""A document is cut where its reader would pause, into parts that the model reads whole."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reembed.core.chunking import Span, cut
from reembed.core.fingerprint import chunking_of, model_of, of_collection
from reembed.core.model import Chunking, CutAt

# What a reader sees as one character each, of one to eleven code points.
SEEN = ("é", "e\u0301", "👩‍👩‍👧‍👦", "🇨🇭", "👍🏽", "각", "a", "B", "7", "字", "ß")
BREAKS = (" ", " ", "\n", "\n\n", ". ", "! ", "。", "\r\n", "\t", "?) ")
TEXTS = st.lists(st.sampled_from([*SEEN, *BREAKS]), max_size=60).map("".join)


@st.composite
def chunkings(draw: st.DrawFn) -> Chunking:
    most = draw(st.integers(1, 12))
    return Chunking(most, draw(st.integers(0, most - 1)), draw(st.sampled_from(CutAt)))


@st.composite
def tokenized(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A text with the ends of its tokens: some of several characters, some of a part of one; white space has none."""
    text = draw(TEXTS)
    inside = [n + 1 for n, character in enumerate(text) if not character.isspace()]
    ends = [end for end in inside for _ in range(draw(st.integers(0, 3)))]
    if inside and (not ends or ends[-1] != inside[-1]):
        ends.append(inside[-1])
    return text, ends


def words(text: str) -> list[int]:
    """Each word is a token."""
    return [found.end() for found in re.finditer(r"\S+", text)]


def parts(text: str, most: int, overlap: int = 0, at: CutAt = CutAt.SENTENCE) -> list[str]:
    return [text[one.start : one.end] for one in cut(text, words(text), Chunking(most, overlap, at))]


def tokens(ends: list[int], span: Span) -> int:
    return bisect_right(ends, span.end) - bisect_right(ends, span.start)


@given(tokenized(), chunkings())
@example(("🇨🇭🇨🇭", [4, 4, 4]), Chunking(1, 0, CutAt.TOKEN))
def test_all_of_a_text_is_in_its_parts_and_no_part_is_empty(given: tuple[str, list[int]], chunking: Chunking) -> None:
    text, ends = given
    found = cut(text, ends, chunking)
    covered = {n for one in found for n in range(one.start, one.end)}
    assert [text[n] for n in range(len(text)) if n not in covered and not text[n].isspace()] == []
    assert [one for one in found if text[one.start : one.end].strip() != text[one.start : one.end]] == []
    assert all(one.end > one.start for one in found)
    assert found == cut(text, ends, chunking)


@given(tokenized(), chunkings())
def test_no_part_has_more_tokens_than_it_may_unless_it_is_one_character(
    given: tuple[str, list[int]], chunking: Chunking
) -> None:
    text, ends = given
    for one in cut(text, ends, chunking):
        single = one.end - one.start == 1 or text[one.start : one.end] in SEEN
        assert tokens(ends, one) <= chunking.max_tokens or single


@given(tokenized(), chunkings())
def test_every_part_brings_something_new_and_repeats_no_more_than_it_may(
    given: tuple[str, list[int]], chunking: Chunking
) -> None:
    text, ends = given
    for before, after in pairwise(cut(text, ends, chunking)):
        assert before.start < after.start
        assert before.end < after.end
        repeated = tokens(ends, Span(after.start, max(before.end, after.start)))
        assert repeated <= chunking.overlap_tokens


@given(st.lists(st.sampled_from(SEEN), min_size=1, max_size=30), chunkings())
def test_what_a_reader_sees_as_one_character_stays_whole(seen: list[str], chunking: Chunking) -> None:
    text = "".join(seen)
    places, end = {0}, 0
    for one in seen:
        end += len(one)
        places.add(end)
    # Neighbours may be read as one: two halves of a flag, letters of a syllable.
    for span in cut(text, list(range(1, len(text) + 1)), chunking):
        assert {span.start, span.end} <= places


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        pytest.param(CutAt.SENTENCE, ["One two three.", "Four five\nsix seven. Eight."], id="at sentences"),
        pytest.param(CutAt.LINE, ["One two three. Four five", "six seven. Eight."], id="at lines"),
        pytest.param(CutAt.TOKEN, ["One two three. Four five", "six seven. Eight."], id="at tokens"),
    ],
)
def test_a_part_ends_where_its_reader_would_pause(at: CutAt, expected: list[str]) -> None:
    assert parts("One two three. Four five\nsix seven. Eight.", 5, at=at) == expected


def test_where_no_sentence_ends_in_time_a_line_does_and_else_a_word() -> None:
    assert parts("a b c\nd e f g h i", 4) == ["a b c", "d e f g", "h i"]


def test_a_heading_is_not_read_on_into_its_paragraph() -> None:
    assert parts("A heading\n\nand what it is about", 4) == ["A heading", "and what it is", "about"]


def test_quotes_belong_to_their_sentence_and_a_number_has_no_end_in_it() -> None:
    assert parts('He said "no." Then 3.5 more came.', 5) == ['He said "no."', "Then 3.5 more came."]


def test_a_word_is_cut_only_where_it_alone_is_too_long() -> None:
    text = "ab " + "x" * 10 + " cd"
    ends = [2, *range(4, 14), 16]
    spans = cut(text, ends, Chunking(4, 0, CutAt.TOKEN))
    assert [text[one.start : one.end] for one in spans] == ["ab", "xxxx", "xxxx", "xx cd"]


def test_parts_repeat_the_end_of_the_one_before() -> None:
    assert parts("a b c d e f g h i", 4, 2) == ["a b c d", "c d e f", "e f g h", "g h i"]


def test_an_overlap_is_at_most_half_of_what_it_repeats() -> None:
    assert parts("A. b c d e f g", 5, 4) == ["A.", "b c d e f", "e f g"]


def test_what_fits_is_one_part_and_white_space_is_none() -> None:
    assert (parts(" a b \n", 2), parts(" \n\t", 2), parts("", 2)) == (["a b"], [], [])
    assert parts("a b c.   \n\n  ", 2) == ["a b", "c."]


@given(chunkings())
def test_a_collections_fingerprint_says_how_it_was_cut(chunking: Chunking) -> None:
    found = of_collection("fp-0011223344556677", chunking)
    assert (model_of(found), chunking_of(found)) == ("fp-0011223344556677", chunking)


def test_an_uncut_collection_has_its_models_fingerprint() -> None:
    assert of_collection("fp-00", None) == model_of("fp-00") == "fp-00"
    assert chunking_of("fp-00") is None


@pytest.mark.parametrize("found", ["fp-00+256-32", "fp-00+a-0-Line", "fp-00+9-0-Chapter"])
def test_a_newer_way_of_cutting_is_not_taken_for_an_old_one(found: str) -> None:
    with pytest.raises(ValueError, match="cuts documents in a way that this version does not know"):
        chunking_of(found)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("." * 300_000 + "x", id="full stops"),
        pytest.param(".)" * 150_000 + "x", id="full stops and brackets"),
        pytest.param("\U0001f1e6" * 300_000, id="letters of flags"),
        pytest.param("! " * 150_000, id="sentences of nothing else"),
        pytest.param("\n" * 300_000 + "x", id="empty lines"),
    ],
)
def test_a_text_that_nobody_wrote_is_cut_in_time_that_grows_with_its_length(text: str) -> None:
    """Were each place looked for from each other one, none of these would end within an hour."""
    parts = cut(text, range(1, len(text) + 1), Chunking(5000, 0, CutAt.SENTENCE))
    assert "".join(text[one.start : one.end] for one in parts).replace(" ", "") == "".join(text.split())
