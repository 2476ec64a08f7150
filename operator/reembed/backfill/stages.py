"""How busy each stage of a pipeline is, as shares of its time; what waits in a queue is not busy.

The writer stores the shares with each page, and the store worker names the slowest stage from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from reembed.backfill.metrics import Metrics
from reembed.core.pages import STAGES

# Shares over shorter stretches jump with every page.
_WINDOW_SECONDS = 2.0


class Busy:
    """Measures stages by `clock`, in seconds; `workers` says how many tasks share a stage, one if it is not named."""

    def __init__(self, clock: Callable[[], float], workers: Mapping[str, int], metrics: Metrics) -> None:
        self._clock = clock
        self._workers = workers
        self._metrics = metrics
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._since = clock()
        self._shares = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Count the time inside as work of the stage."""
        start = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - start
            self._seconds[stage] += spent
            self._metrics.stage_seconds.labels(stage).inc(spent)

    def shares(self) -> Mapping[str, float]:
        """Return the share of its time that each stage worked, over the last full window."""
        now = self._clock()
        if (length := now - self._since) >= _WINDOW_SECONDS:
            self._shares = {
                stage: round(min(1.0, seconds / self._workers.get(stage, 1) / length), 3)
                for stage, seconds in self._seconds.items()
            }
            self._seconds = dict.fromkeys(STAGES, 0.0)
            self._since = now
        return self._shares
