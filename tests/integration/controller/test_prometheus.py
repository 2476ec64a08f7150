"""What a real Prometheus answers to a trigger's query becomes a number, or no value, and never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import aiohttp
import pytest

from reembed.controller.prometheus import Prometheus
from reembed.core.model import Limit, Operator, PrometheusLimit


async def values(url: str, **queries: str) -> Mapping[str, float]:
    limit = Limit(timedelta(0), number=1.0)
    async with aiohttp.ClientSession() as session:
        asked = [PrometheusLimit(name, query, Operator.ABOVE, limit) for name, query in queries.items()]
        return await Prometheus(session, url, lambda: 0.0).values(asked)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        pytest.param("vector(42)", 42.0, id="one series"),
        pytest.param("2 * 3", 6.0, id="a scalar"),
        pytest.param("vector(-0.5)", -0.5, id="below zero"),
    ],
)
async def test_one_number_is_a_value(prometheus: str, query: str, value: float) -> None:
    assert await values(prometheus, one=query) == {"one": value}


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("no_such_metric", id="no series"),
        pytest.param('label_replace(vector(1), "a", "b", "", "") or vector(2)', id="several series"),
        pytest.param("vector(0) / 0", id="not a number"),
        pytest.param("vector(1) / 0", id="infinite"),
        pytest.param("vector(1)[5m:1m]", id="a range"),
        pytest.param('"text"', id="a text"),
        pytest.param("sum(", id="not PromQL"),
    ],
)
async def test_anything_else_is_no_value(prometheus: str, query: str) -> None:
    assert await values(prometheus, one=query) == {}


async def test_each_trigger_has_its_own_value(prometheus: str) -> None:
    found = await values(prometheus, first="vector(1)", none="no_such_metric", second="vector(2)")
    assert found == {"first": 1.0, "second": 2.0}


async def test_a_prometheus_that_cannot_be_reached_gives_no_value() -> None:
    assert await values("http://127.0.0.1:1", one="vector(1)") == {}


async def test_what_is_no_prometheus_gives_no_value(prometheus: str) -> None:
    assert await values(f"{prometheus}/graph", one="vector(1)") == {}
