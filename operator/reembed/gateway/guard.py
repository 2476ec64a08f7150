"""Keeps a candidate that fails or hangs from costing the callers of what serves.

Falling back is not enough: a candidate that hangs holds each of its callers for its whole deadline, and with them the
gateway's places, until the operator's triggers have held long enough to take its traffic. So `answer` asks here before
it tries a candidate. One that failed several times in a row is left out until it answers a probe, and no candidate may
hold more than its part of the places. What is left out counts as the candidate's failure, so triggers see it.

What serves is never left out: there is nobody to ask instead. But no more callers wait until its embedder is back than
its part of the places holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reembed.core.model import Arm

# Failures in a row, by callers and probes alike, after which only probes go on. A single one is no verdict.
_FAILURES = 5


class LeftOut(Exception):
    """The candidate was not asked."""


@dataclass(slots=True)
class _Record:
    under_way: int = 0
    failures: int = 0  # since the last success


class Guard:
    """What is known of each arm's latest attempts."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._records: defaultdict[Arm, _Record] = defaultdict(_Record)

    def check(self, arm: Arm) -> None:
        """Raise LeftOut if a caller must not be sent to this candidate."""
        record = self._records[arm]
        if record.failures >= _FAILURES:
            raise LeftOut(f"its last {record.failures} attempts failed; callers come back when it answers a probe")
        if record.under_way >= self._at_once:
            raise LeftOut(f"{record.under_way} requests wait for it, and the others' places are not given to it")

    def has_room(self, arm: Arm) -> bool:
        """Return whether the attempts under way are no more than the arm's part of the places."""
        return self._records[arm].under_way <= self._at_once

    @contextmanager
    def attempt(self, arm: Arm) -> Iterator[None]:
        """Count the block as under way."""
        record = self._records[arm]
        record.under_way += 1
        try:
            yield
        finally:
            record.under_way -= 1

    def succeeded(self, arm: Arm) -> None:
        self._records[arm].failures = 0

    def failed(self, arm: Arm) -> None:
        self._records[arm].failures += 1
