"""Each object has a loop of its own while anything is left to do for it; at a start the urgent come first."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from reembed.cluster import kinds
from reembed.controller.cache import Key
from reembed.controller.loop import Ended, Loops

pytestmark = pytest.mark.looptime

URGENT = Key(kinds.MIGRATION, "rag", "moves")
OTHERS = [Key(kinds.MIGRATION, "rag", f"ended-{number}") for number in range(25)]
FOREVER = timedelta(days=1)


class Passes:
    """Passes that take a second each; what they return can be set."""

    def __init__(self, again: timedelta | Ended = FOREVER) -> None:
        self.again = again
        self.begun: list[Key] = []
        self.hangs: Key | None = None
        self.loops = Loops(self.run, logging.getLogger("test"), lambda key: key == URGENT)

    async def run(self, key: Key) -> timedelta | Ended:
        self.begun.append(key)
        await asyncio.sleep(86_400 if key == self.hangs else 1)
        return self.again

    async def opened(self, *keys: Key) -> None:
        await self.loops.open("rag", keys)


async def test_all_else_waits_for_the_first_pass_of_what_is_urgent() -> None:
    passes = Passes()
    await passes.opened(*OTHERS, URGENT)
    await asyncio.sleep(0)
    await passes.loops.close()
    assert (passes.begun[0], set(passes.begun[1:]), asyncio.get_running_loop().time()) == (URGENT, set(OTHERS), 1)


async def test_something_urgent_that_hangs_holds_up_the_others_for_two_seconds() -> None:
    passes = Passes()
    passes.hangs = URGENT
    await passes.opened(OTHERS[0], URGENT)
    await asyncio.sleep(0)
    await passes.loops.close()
    assert (passes.begun, asyncio.get_running_loop().time()) == ([URGENT, OTHERS[0]], 2)


async def test_what_rests_has_one_pass_and_no_loop_until_it_changes() -> None:
    passes = Passes(Ended.ENDED)
    await passes.opened(OTHERS[0])
    await asyncio.sleep(86_400)
    assert passes.begun == [OTHERS[0]]
    passes.loops.wake(OTHERS[0])
    await asyncio.sleep(2)
    assert passes.begun == [OTHERS[0]] * 2


async def test_a_change_during_the_pass_that_found_rest_brings_another() -> None:
    passes = Passes(Ended.ENDED)
    await passes.opened(OTHERS[0])
    await asyncio.sleep(0.5)
    passes.loops.wake(OTHERS[0])
    await asyncio.sleep(10)
    assert passes.begun == [OTHERS[0]] * 2


async def test_a_replica_that_does_not_lead_remembers_nothing_of_what_comes_and_goes() -> None:
    passes = Passes()
    passes.loops.wake(OTHERS[0])
    await passes.opened(URGENT)
    await asyncio.sleep(0)
    await passes.loops.close()
    assert passes.begun == [URGENT]
