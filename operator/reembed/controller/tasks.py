"""Ends tasks for certain: a cancellation may be lost on its way, as in `asyncio.wait_for` of Python 3.11."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def end(tasks: Collection[asyncio.Task[Any]], *, again: float = 5.0) -> None:
    """Cancel `tasks` until all have ended, every `again` seconds; what they raise is not told."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again)
    await asyncio.gather(*tasks, return_exceptions=True)
