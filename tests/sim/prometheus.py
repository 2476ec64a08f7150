"""A Prometheus whose values a script sets, and the operator's own way of asking it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import cast

import aiohttp

from reembed.controller.prometheus import Prometheus

# One that does not answer is given up after this long.
_SILENCE = 2.0
_ANSWER = 0.02


class Values:
    """What every query gives; what is not set gives 0."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}  # by the query's text
        self.silent = False

    def of(self, query: str) -> float | None:
        value = self.found.get(query, 0.0)
        return None if self.silent or math.isnan(value) else value  # as `controller.prometheus` reads an answer


class Asked(Prometheus):
    """The real one, which keeps answers for a while, without a network."""

    def __init__(self, values: Values, clock: Callable[[], float]) -> None:
        super().__init__(cast("aiohttp.ClientSession", None), "http://prometheus", clock)
        self._values = values

    async def _ask(self, query: str) -> float | None:
        await asyncio.sleep(_SILENCE if self._values.silent else _ANSWER)
        return self._values.of(query)
