"""When a source that fails is asked again: a circuit breaker and the pauses between tries. Pure.

Closed, the source is asked; after `threshold` failures in a row it opens, and nothing is asked until `seconds` have
passed, twice as long each time. Then it is half open: one try decides whether it closes or opens again. Whoever drives
it passes the time in and gives up when it has opened often enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from random import Random

_LONGEST_PAUSE = 30.0
# Twice as long so often is longer than anybody waits; a night of failures would pass what a float can hold.
_MOST_DOUBLINGS = 32


class State(Enum):
    """What may be asked of a source."""

    CLOSED = "closed"  # everything
    OPEN = "open"  # nothing
    HALF_OPEN = "half_open"  # one try


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is known of a source. `failures` are those in a row, `openings` those since it last answered."""

    threshold: int
    seconds: float
    state: State = State.CLOSED
    failures: int = 0
    openings: int = 0
    until: float = 0.0
    longest: float = math.inf  # that it stays open, in seconds

    @property
    def rest(self) -> float:
        """Return for how long it stays open the next time."""
        return min(self.seconds * float(2 ** min(self.openings, _MOST_DOUBLINGS)), self.longest)

    def at(self, now: float) -> Breaker:
        """Return the breaker at a time: what is open becomes half open when its pause is over."""
        return replace(self, state=State.HALF_OPEN) if self.state is State.OPEN and now >= self.until else self

    def failed(self, now: float) -> Breaker:
        """Return the breaker after a try that brought nothing."""
        failures = self.failures + 1
        if self.state is State.OPEN:  # it was under way when others opened it, and tells nothing new
            return replace(self, failures=failures)
        if self.state is State.CLOSED and failures < self.threshold:
            return replace(self, failures=failures)
        return replace(self, state=State.OPEN, failures=failures, openings=self.openings + 1, until=now + self.rest)

    def succeeded(self) -> Breaker:
        """Return the breaker after a try that brought something."""
        return Breaker(self.threshold, self.seconds, longest=self.longest)


def pause(first: float, failures: int, rng: Random, wished: float = 0.0) -> float:
    """Return how long to wait after so many failures in a row: doubling, by half more or less, as the server wishes.

    Chance keeps many pods that lost one server from coming back to it at the same moment.
    """
    backed_off = min(first * float(2 ** min(failures, _MOST_DOUBLINGS)), _LONGEST_PAUSE) * rng.uniform(0.5, 1.5)
    return max(backed_off, min(wished, _LONGEST_PAUSE))
