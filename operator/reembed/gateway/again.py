"""Asks an arm again whose embedder only has too much to do at this moment, where nobody else could answer in its place.

An embedder that protects itself lets ten requests in at a time and tells the eleventh to come again; a place is free
within milliseconds, so what would fail a caller's query is a short stall of a node. Used by `answer` for the last arm
that it may ask. Nothing is asked twice at the same time, and an embedder that stays full is told of soon.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reembed.client import EmbedderBusy

T = TypeVar("T")

# Longer than a stall, and half of a query's deadline, so that the answer has its time; what stays full so long has too
# few pods.
SECONDS = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.4


async def while_busy(work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` gives, asked again for some seconds while its embedder is busy.

    Raises:
        EmbedderBusy: it stayed so.

    """
    clock = asyncio.get_running_loop().time
    until, pause = clock() + SECONDS, _FIRST_PAUSE
    while True:
        try:
            return await work()
        except EmbedderBusy:
            # Callers who were turned away together must not come again together.
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            if clock() + wait >= until:
                raise
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
