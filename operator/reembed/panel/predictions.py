"""What was expected of a share of the queries before it was given, beside what came of it.

The simplest prediction that can be wrong: a pod's p95 stays as it was at the share before, and its texts grow with the
share. Whoever learns more from history replaces `_predicted` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from reembed.core.quorum.evidence import Objects, Pods, Prediction


class Predictions:
    """One index's shares, one after the other."""

    def __init__(self) -> None:
        self._weight: int | None = None
        self._last: tuple[float | None, float | None] = (None, None)
        self._predicted: tuple[float | None, float | None] = (None, None)

    @property
    def told(self) -> Prediction | None:
        if self._weight is None:
            return None
        (predicted_p95, predicted_rate), (p95, rate) = self._predicted, self._last
        return Prediction(self._weight, predicted_p95, p95, predicted_rate, rate)

    def add(self, objects: Objects, pods: Mapping[str, Pods]) -> None:
        """Take a look at the candidate's pods; another share makes a prediction of what was seen at the last one."""
        routing = objects.index.status.routing
        if routing.candidate is None:
            self._weight, self._last, self._predicted = None, (None, None), (None, None)
            return
        if routing.weight != self._weight:
            self._predicted = _predicted(self._last, self._weight or 0, routing.weight)
            self._weight, self._last = routing.weight, (None, None)
        found = pods.get(routing.candidate.pool)
        if found is not None:
            self._last = _seen(found)


def _predicted(last: tuple[float | None, float | None], before: int, after: int) -> tuple[float | None, float | None]:
    p95, rate = last
    if before == 0:  # nobody asked it yet
        return None, None
    return p95, rate * after / before if rate is not None else None


def _seen(pods: Pods) -> tuple[float | None, float | None]:
    readings = pods.load.readings.values()
    slow = [one.p95 for one in readings if one.p95]
    rates = [one.live for one in readings if one.live is not None]
    return max(slow, default=None), math.fsum(rates) if rates else None
