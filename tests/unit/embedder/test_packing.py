"""Packs: nothing is lost or doubled, none is too large, live texts go first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS, SMALL_PACK_TOKENS, Item, Lanes

_LONGEST = 2048
_texts = st.lists(st.tuples(st.integers(1, _LONGEST), st.booleans()), max_size=200)


def _lanes(texts: list[tuple[int, bool]]) -> Lanes[int]:
    lanes: Lanes[int] = Lanes()
    for number, (tokens, background) in enumerate(texts):
        lanes.add(Item(tokens, background, number))
    return lanes


def _drain(lanes: Lanes[int], capacity: int) -> list[list[Item[int]]]:
    packs = []
    while pack := lanes.next_pack(capacity, live_only=False):
        packs.append(pack)
    return packs


@given(_texts)
def test_each_text_is_in_one_pack(texts: list[tuple[int, bool]]) -> None:
    packs = _drain(_lanes(texts), _LONGEST)
    assert sorted(item.work for pack in packs for item in pack) == list(range(len(texts)))


@given(_texts)
def test_a_pack_is_small_or_one_text(texts: list[tuple[int, bool]]) -> None:
    packs = _drain(_lanes(texts), _LONGEST)
    assert all(sum(item.tokens for item in pack) <= PACK_TOKENS or len(pack) == 1 for pack in packs)
    assert all(len(pack) <= PACK_TEXTS for pack in packs)


@given(_texts, st.integers(1, _LONGEST))
def test_no_pack_is_above_the_capacity_and_what_is_longer_stays(texts: list[tuple[int, bool]], capacity: int) -> None:
    packs = _drain(_lanes(texts), capacity)
    taken = {item.work for pack in packs for item in pack}
    assert all(sum(item.tokens for item in pack) <= capacity for pack in packs)
    assert taken >= {
        number
        for number, (tokens, _) in enumerate(texts)
        if tokens <= capacity and sum(other > capacity for other, _ in texts) == 0
    }


@given(_texts)
def test_all_live_texts_go_before_any_background_text(texts: list[tuple[int, bool]]) -> None:
    order = [item.background for pack in _drain(_lanes(texts), _LONGEST) for item in pack]
    assert order == sorted(order)


@given(_texts)
def test_the_longest_waiting_text_is_in_the_next_pack(texts: list[tuple[int, bool]]) -> None:
    lanes = _lanes(texts)
    first = min(((background, number) for number, (_, background) in enumerate(texts)), default=None)
    pack = lanes.next_pack(_LONGEST, live_only=False)
    assert (pack[0].background, pack[0].work) == first if pack else first is None


def test_a_live_only_context_takes_no_background_text() -> None:
    assert _lanes([(10, True)]).next_pack(PACK_TOKENS, live_only=True) == []


def test_a_small_context_passes_a_long_text_by() -> None:
    lanes = _lanes([(1000, False), (10, False)])
    assert [item.work for item in lanes.next_pack(512, live_only=False)] == [1]
    assert [item.work for item in lanes.next_pack(_LONGEST, live_only=False)] == [0]


def test_a_gap_is_filled_with_a_later_text_that_fits() -> None:
    lanes = _lanes([(200, False), (100, False), (50, False)])
    assert [[item.work for item in pack] for pack in _drain(lanes, PACK_TOKENS)] == [[0, 2], [1]]


def test_discarded_texts_leave_both_lanes() -> None:
    lanes = _lanes([(10, False), (10, True), (10, True)])
    lanes.discard(lambda number: number < 2)
    assert [item.work for pack in _drain(lanes, PACK_TOKENS) for item in pack] == [2]


def test_a_lower_pace_makes_smaller_packs_of_what_waits_already() -> None:
    lanes = _lanes([(40, False)] * 8)
    first = lanes.next_pack(_LONGEST, live_only=False)
    lanes.pack_tokens = 128
    second = lanes.next_pack(_LONGEST, live_only=False)
    lanes.pack_texts = 1
    assert [len(pack) for pack in (first, second)] == [6, 2]
    lanes.add(Item(1000, False, 8))
    assert [[item.tokens for item in pack] for pack in _drain(lanes, _LONGEST)] == [[1000]]


def test_what_waits_is_shared_between_the_contexts_that_are_free() -> None:
    lanes = _lanes([(20, False)] * 16)
    packs = [len(lanes.next_pack(PACK_TOKENS, live_only=False, free=free)) for free in (2, 1)]
    assert packs == [8, 8]


@given(_texts, st.integers(1, 8))
def test_sharing_makes_no_pack_smaller_than_a_call_computes_well(texts: list[tuple[int, bool]], free: int) -> None:
    pack = _lanes(texts).next_pack(_LONGEST, live_only=False, free=free)
    whole = _lanes(texts).next_pack(_LONGEST, live_only=False)
    tokens, all_tokens = (sum(item.tokens for item in one) for one in (pack, whole))
    left = [item.tokens for item in whole if item not in pack]
    assert tokens == all_tokens or not left or tokens + min(left) > SMALL_PACK_TOKENS


def test_background_texts_starve_for_no_longer_than_the_patience() -> None:
    lanes = _lanes([])
    lanes.add(Item(10, True, -1, arrived=100.0))
    for number in range(40):
        lanes.add(Item(200, False, number, arrived=100.0))
    order = [lanes.next_pack(PACK_TOKENS, live_only=False, now=100.0 + second)[0].work for second in range(8)]
    assert order == [0, 1, 2, 3, 4, 5, -1, 6]


def test_background_packs_are_as_small_as_the_model_is_slow() -> None:
    lanes = _lanes([(10, True)] * 20)
    lanes.background_tokens = 30
    assert [len(lanes.next_pack(PACK_TOKENS, live_only=False)) for _ in range(2)] == [3, 3]


def test_equal_texts_take_one_place_in_a_pack() -> None:
    lanes: Lanes[int] = Lanes()
    for number, (tokens, key) in enumerate([(200, "a"), (100, "b"), (200, "a"), (50, "c"), (50, "c")]):
        lanes.add(Item(tokens, False, number, key))
    assert [[item.work for item in pack] for pack in _drain(lanes, PACK_TOKENS)] == [[0, 2, 3, 4], [1]]
