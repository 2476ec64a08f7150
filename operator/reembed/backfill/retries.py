"""Waiting between attempts: longer each time, with chance in it, so that a hundred pods do not come back at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

log = logging.getLogger(__name__)

# Every attempt in a log of a night without an embedder would be a log that nobody reads.
_LOG_EVERY = 20


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait: `first`, doubled with each attempt up to `longest`, times 0.5 to 1.5."""

    first: float = 0.2
    longest: float = 15.0

    def delay(self, attempt: int, chance: float, least: float = 0.0) -> float:
        """Return the wait after the `attempt`-th failure, from 1; `chance` is 0 to 1, `least` is what was asked for."""
        grown: float = min(self.longest, self.first * 2 ** min(attempt - 1, 16))
        return max(grown, least) * (0.5 + chance) if least == 0 else max(grown, least) * (1 + chance / 2)


@dataclass(frozen=True, slots=True)
class Retrying:
    """Repeats an action for as long as the process lives; whoever runs it is cancelled, not timed out."""

    backoff: Backoff
    rng: random.Random

    async def __call__(
        self, action: Callable[[], Awaitable[Result]], passing: tuple[type[Exception], ...], doing: str
    ) -> Result:
        """Return the action's result, or raise its first error that is not `passing`."""
        attempt = 0
        while True:
            try:
                return await action()
            except passing as error:
                attempt += 1
                wait = self.backoff.delay(attempt, self.rng.random(), getattr(error, "retry_after", 0.0))
                if attempt % _LOG_EVERY == 1:
                    log.warning("%s failed (attempt %d): %s; trying again in %.1f s", doing, attempt, error, wait)
            await asyncio.sleep(wait)
