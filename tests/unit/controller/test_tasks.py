"""Tasks end, whatever happens to the first cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reembed.controller.tasks import end

pytestmark = pytest.mark.looptime


async def deaf(times: int) -> None:
    """Wait for ever, and lose some cancellations."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def failing() -> None:
    raise ValueError("7")


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(looptime: Any) -> None:
    tasks = [asyncio.create_task(deaf(times)) for times in (0, 2)]
    await asyncio.sleep(0)
    await end(tasks, again=3)
    assert ([task.cancelled() for task in tasks], looptime) == ([True, True], 6)


async def test_a_task_that_failed_does_not_disturb_the_end_of_the_others() -> None:
    tasks = [asyncio.create_task(failing()), asyncio.create_task(deaf(0))]
    await asyncio.sleep(0)
    await end(tasks)
    assert [task.cancelled() for task in tasks] == [False, True]


async def test_no_tasks_end_at_once(looptime: Any) -> None:
    await end([])
    assert looptime == 0
