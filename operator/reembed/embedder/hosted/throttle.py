"""How fast an endpoint may be asked. Pure: whoever drives it passes the time in.

There are bounds that the pool states, and those that the endpoint keeps to itself until it says 429. Then nothing is
asked for as long as it wishes, and from then on at seven tenths of the rate that it bore; each answer raises the rate
by one hundredth request per second, so that it grows by about a hundredth each second (additive increase and
multiplicative decrease, as TCP finds a line's rate). Requests are spaced (the generic cell rate algorithm with a
burst of one second), since providers count within windows that nobody knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_DECREASE = 0.7
_INCREASE = 0.01
_BURST_SECONDS = 1.0
# Requests per second. Slower than this, a backfill would look like one that stands still.
_SLOWEST = 0.05
# How long the rate that the endpoint bore is measured.
_WINDOW = 10.0
_LONGEST_PAUSE = 600.0


@dataclass(frozen=True, slots=True)
class Throttle:
    """Rates per second; infinite where nothing is known. Times are seconds of one clock."""

    most_requests: float = math.inf
    most_tokens: float = math.inf
    requests: float = math.inf  # as the endpoint bears them
    paused_until: float = -math.inf
    next_request: float = -math.inf  # when the requests so far are paid for
    next_token: float = -math.inf
    answered: float = 0.0  # requests in the window, fading
    answered_at: float = -math.inf
    refusals: int = 0  # 429s so far

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
        faster = self.requests + _INCREASE
        return replace(self, requests=faster, answered=self._faded(now) + 1, answered_at=now)

    def refused(self, now: float, wished: float | None) -> Throttle:
        """Return the throttle after a 429, which may have said in how many seconds to come again.

        Those that were under way when the first one came tell nothing new: within a pause the rate stays.
        """
        pause = min(max(wished, 0.0), _LONGEST_PAUSE) if wished is not None else 1.0
        until = max(self.paused_until, now + pause)
        if now < self.paused_until:
            return replace(self, paused_until=until, refusals=self.refusals + 1)
        borne = max(self._faded(now) / _WINDOW, _SLOWEST)
        slower = max(_DECREASE * min(self.rate, borne), _SLOWEST)
        return replace(self, requests=slower, paused_until=until, next_request=until, refusals=self.refusals + 1)

    def _faded(self, now: float) -> float:
        """Return how many answers there were in about the last ten seconds."""
        return self.answered * math.exp(-(now - self.answered_at) / _WINDOW) if self.answered else 0.0
