"""A lane holds so much, in order, and wakes whoever waits."""

from __future__ import annotations

import asyncio

from reembed.backfill.lanes import Lane, Room


def lane(limit: int, *items: int) -> Lane[int]:
    """Items weigh what they are."""
    made: Lane[int] = Lane(limit, int)
    asyncio.get_running_loop().create_task(made.put(items))
    return made


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_items_come_out_in_order_and_in_the_number_chosen() -> None:
    held = lane(100, 1, 2, 3, 4)
    await settled()
    assert [await held.take(10, lambda offered: 1), await held.take(2), await held.take(10)] == [[1], [2, 3], [4]]


async def test_a_full_lane_makes_its_putter_wait() -> None:
    held = lane(5, 2, 3, 4)
    await settled()
    before = len(held)
    await held.take(1)
    await settled()
    between = len(held)
    await held.take(1)
    await settled()
    assert (before, between, len(held)) == (2, 1, 1)


async def test_an_item_above_the_limit_passes_through_an_empty_lane() -> None:
    held = lane(5, 1, 50, 1)
    await settled()
    assert [await held.take(9), await held.take(9), await held.take(9)] == [[1], [50], [1]]


async def test_a_taker_waits_for_the_first_item() -> None:
    held: Lane[int] = Lane(5, int)
    taker = asyncio.create_task(held.take(1))
    await settled()
    await held.put([3])
    assert await taker == [3]


async def test_a_closed_lane_gives_what_it_holds_and_then_nothing() -> None:
    held = lane(5, 1)
    await settled()
    held.close()
    assert [await held.take(9), await held.take(9)] == [[1], []]


async def test_a_closing_lane_wakes_every_taker() -> None:
    held: Lane[int] = Lane(5, int)
    takers = [asyncio.create_task(held.take(1)) for _ in range(3)]
    await settled()
    held.close()
    assert await asyncio.gather(*takers) == [[], [], []]


async def test_who_finds_no_room_waits_until_enough_is_given_back() -> None:
    room = Room(5)
    await room.take(4)
    waiting = asyncio.create_task(room.take(3))
    await settled()
    room.give(1)
    await settled()
    before = waiting.done()
    room.give(1)
    await settled()
    assert (before, waiting.done()) == (False, True)
