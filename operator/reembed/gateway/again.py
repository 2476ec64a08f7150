"""Asks an arm again whose embedder cannot answer at this moment, where nobody else could answer in its place.

An embedder that protects itself lets ten requests in at a time and tells the eleventh to come again; a place is free
within milliseconds, so what would fail a caller's query is a short stall of a node. A pod whose engine died answers 503
until another one is up, within seconds, and closes the connection, so that the next attempt may reach another pod; one
that was killed refuses connections until its address is forgotten. Used by `answer` for the last arm that it may ask.
Nothing is asked twice at the same time, and an embedder that stays full or away is told of soon.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reembed.client import EmbedderBusy, EmbedderUnavailable

T = TypeVar("T")

# Longer than a stall or the start of an engine, and half of a query's deadline, so that the answer has its time; what
# stays full so long has too few pods.
SECONDS = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.4


async def while_passing(work: Callable[[], Awaitable[T]], has_room: Callable[[], bool]) -> T:
    """Return what `work` gives, asked again for some seconds while its embedder is busy or away.

    For one that is away nobody waits unless `has_room`: if it stays so, the places are needed by others.

    Raises:
        EmbedderBusy, EmbedderUnavailable: it stayed so.

    """
    clock = asyncio.get_running_loop().time
    until, pause = clock() + SECONDS, _FIRST_PAUSE
    while True:
        try:
            return await work()
        except (EmbedderBusy, EmbedderUnavailable) as error:
            if isinstance(error, EmbedderUnavailable) and not has_room():
                raise
            # Callers who were turned away together must not come again together.
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            if clock() + wait >= until:
                raise
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
