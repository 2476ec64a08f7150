"""How fast an endpoint may be asked. Pure: whoever drives it passes the time in.

There are bounds that the pool states, and those that the endpoint keeps to itself until it says 429. Then nothing is
asked for as long as it wishes (and a second at least, or twice as long each time that it says so again: some wish for
none and mean it no more than others), and from then on at seven tenths of the rate that it bore. With each answer the
rate grows: quickly up to nine tenths of what was too much, slowly from there, and quickly again from a tenth above it,
since the limit is another one then (as TCP's CUBIC looks for a line's rate), so that a limit is used almost fully and
seldom hit. Below one request a second the pauses alone decide, since a 429 in a
quiet minute says nothing of a rate. Requests are spaced (the generic cell rate algorithm with a burst of one second),
since providers count within windows that nobody knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_DECREASE = 0.7
_NEAR, _PAST = 0.9, 1.1
# Shares per second: an hour's worth of windows of a minute then has 429s in a few of them.
_GROWTH, _GROWTH_NEAR = 0.05, 0.002
# An answer after a silence says little of how much more there may be.
_LONGEST_STEP = 5.0
_BURST_SECONDS = 1.0
_SLOWEST = 1.0
# How long the rate that the endpoint bore is measured.
_WINDOW = 10.0
_LONGEST_PAUSE = 600.0
_LONGEST_OWN_PAUSE = 30.0
# A night of 429s would pass what a float can hold.
_MOST_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class Throttle:
    """Rates per second; infinite where nothing is known. Times are seconds of one clock."""

    most_requests: float = math.inf
    most_tokens: float = math.inf
    requests: float = math.inf  # as the endpoint bears them
    paused_until: float = -math.inf
    next_request: float = -math.inf  # when the requests so far are paid for
    next_token: float = -math.inf
    too_much: float = math.inf  # the rate at the last refusal
    answered: float = 0.0  # requests in the window, fading
    answered_at: float = -math.inf
    refusals: int = 0  # 429s so far
    in_a_row: int = 0  # pauses that ended in another 429

    @property
    def rate(self) -> float:
        """Return how many requests are sent a second at the most."""
        return min(self.requests, self.most_requests)

    def wait(self, now: float) -> float:
        """Return in how many seconds the next request may be sent."""
        paid = max(self.next_request, self.next_token) - _BURST_SECONDS
        return max(0.0, self.paused_until - now, paid - now)

    def sent(self, now: float, tokens: int) -> Throttle:
        """Return the throttle after a request of so many tokens."""
        return replace(
            self,
            next_request=max(self.next_request, now) + 1 / self.rate,
            next_token=max(self.next_token, now) + tokens / self.most_tokens,
        )

    def succeeded(self, now: float) -> Throttle:
        """Return the throttle after an answer."""
        step = min(max(now - self.answered_at, 0.0), _LONGEST_STEP)
        near = _NEAR * self.too_much <= self.requests < _PAST * self.too_much
        growth = _GROWTH_NEAR if near else _GROWTH
        faster = self.requests * (1 + growth * step)
        return replace(self, requests=faster, answered=self._faded(now) + 1, answered_at=now, in_a_row=0)

    def refused(self, now: float, wished: float | None) -> Throttle:
        """Return the throttle after a 429, which may have said in how many seconds to come again.

        Those that were under way when the first one came tell nothing new: within a pause the rate stays.
        """
        own = min(2.0 ** min(self.in_a_row, _MOST_DOUBLINGS), _LONGEST_OWN_PAUSE)
        until = max(self.paused_until, now + max(own, min(wished or 0.0, _LONGEST_PAUSE)))
        if now < self.paused_until:
            return replace(self, paused_until=until, refusals=self.refusals + 1)
        borne = max(min(self.rate, self._faded(now) / _WINDOW), _SLOWEST)
        return replace(
            self,
            requests=max(_DECREASE * borne, _SLOWEST),
            too_much=borne,
            paused_until=until,
            next_request=until,
            refusals=self.refusals + 1,
            in_a_row=self.in_a_row + 1,
        )

    def _faded(self, now: float) -> float:
        """Return how many answers there were in about the last ten seconds."""
        return self.answered * math.exp(-(now - self.answered_at) / _WINDOW) if self.answered else 0.0
