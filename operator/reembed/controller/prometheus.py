"""Values of users' own triggers, from the Prometheus that the operator's chart names.

The address is the administrator's: a migration names queries, never a server. A query must give one number; none,
several series, NaN and errors are all "no value", which is never taken for health. Answers are kept for a few seconds,
as Prometheus itself scrapes no more often than that.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from reembed.core.model import PrometheusLimit

_SECONDS = 2.0
_FRESH = 5.0
# Queries that nobody asked for this long are forgotten.
_KEPT = 300.0

_LOGGER = logging.getLogger("reembed.controller")


@dataclass(frozen=True, slots=True)
class _Answer:
    value: float | None
    at: float


class Prometheus:
    """Asks one Prometheus."""

    def __init__(self, session: aiohttp.ClientSession, url: str, clock: Callable[[], float]) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._clock = clock
        self._answers: dict[str, _Answer] = {}

    async def values(self, limits: Iterable[PrometheusLimit]) -> Mapping[str, float]:
        """Return the values of the queries that have one, by the trigger's name."""
        asked = tuple(limits)
        found = await asyncio.gather(*(self._value(one.query) for one in asked))
        return {one.name: value for one, value in zip(asked, found, strict=True) if value is not None}

    async def _value(self, query: str) -> float | None:
        now, known = self._clock(), self._answers.get(query)
        if known is not None and now - known.at < _FRESH:
            return known.value
        value = await self._ask(query)
        self._answers = {text: one for text, one in self._answers.items() if now - one.at < _KEPT}
        self._answers[query] = _Answer(value, now)
        return value

    async def _ask(self, query: str) -> float | None:
        limit = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with self._session.post(self._url, data={"query": query}, timeout=limit) as response:
                return single(await response.json())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            _LOGGER.warning("Prometheus at %s: %s: query %s", self._url, error or type(error).__name__, query)
            return None


def single(answer: Any) -> float | None:
    """Return the one number of a Prometheus answer, None if it is not one number."""
    try:
        data = answer["data"]
        sample = data["result"] if data["resultType"] == "scalar" else _only(data["result"])["value"]
        value = float(sample[1])
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return value if math.isfinite(value) else None


def _only(series: list[Any]) -> Any:
    (one,) = series
    return one
