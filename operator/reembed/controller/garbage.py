"""When Python looks for garbage: often among what is young, and seldom among all, since no pass goes on meanwhile.

By default it looks through everything whenever that grew by a quarter, which takes a tenth of a second with a thousand
migrations, in the middle of a storm of changes. What the operator makes is freed without it but for a few cycles.
"""

from __future__ import annotations

import asyncio
import gc

# New objects until the young are looked through, and so many times that until the middle-aged are: a millisecond each.
# All else is left to `collect`.
_YOUNG, _MIDDLE_AGED, _NEVER = 1_000, 5, 1_000_000
_EVERY = 600.0


def tame() -> None:
    """Have the collector look at what is young only."""
    gc.set_threshold(_YOUNG, _MIDDLE_AGED, _NEVER)


def settle() -> None:
    """Take everything that is there for something that lives long: the collector never looks at it again."""
    gc.freeze()


async def collect() -> None:
    """Look through all else every ten minutes."""
    while True:
        await asyncio.sleep(_EVERY)
        gc.collect()
