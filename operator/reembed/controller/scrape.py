"""What pods say of themselves over HTTP: JSON reports and /metrics, all at once and briefly.

A pod that does not answer in time is left out: "could not be measured" is a value of its own in `core`, never zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from reembed.core import names

# A pod that needs longer to say how it is, is not well; a pass must not wait for it.
_SECONDS = 1.5

Sample = tuple[str, Mapping[str, str], float]


class Pods(Protocol):
    """How pods are asked; tests put a world of their own behind it."""

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        """Return the decoded answers of the pods (name -> IP address) that answered, by name."""

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        """Return the samples of the pods (name -> IP address) that answered, by name."""

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        """Put `body` as JSON to the pods (name -> IP address) and return the names of those that took it."""


class HttpPods:
    """Asks pods by their addresses."""

    def __init__(self, session: aiohttp.ClientSession, port: int = names.PORT) -> None:
        self._session = session
        self._port = port

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        return {name: answer for name, answer in await self._ask(addresses, path, self._json) if answer is not None}

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        answers = await self._ask(addresses, "/metrics", self._text)
        return {name: samples(text) for name, text in answers if text is not None}

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        urls = [f"http://{address}:{self._port}{path}" for address in addresses.values()]
        taken = await asyncio.gather(*(self._put(url, body) for url in urls))
        return tuple(name for name, took in zip(addresses, taken, strict=True) if took)

    async def _put(self, url: str, body: Mapping[str, Any]) -> bool:
        try:
            async with self._session.put(url, json=body, timeout=aiohttp.ClientTimeout(total=_SECONDS)) as response:
                return response.status < 300
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _ask(self, addresses: Mapping[str, str], path: str, read: Any) -> Iterable[tuple[str, Any]]:
        urls = [f"http://{address}:{self._port}{path}" for address in addresses.values()]
        answers = await asyncio.gather(*(self._get(url, read) for url in urls))
        return zip(addresses, answers, strict=True)

    async def _get(self, url: str, read: Any) -> Any:
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_SECONDS)) as response:
                return await read(response) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None

    @staticmethod
    async def _json(response: aiohttp.ClientResponse) -> Any:
        return await response.json()

    @staticmethod
    async def _text(response: aiohttp.ClientResponse) -> str:
        return await response.text()


def samples(text: str) -> list[Sample]:
    """Return the samples of Prometheus' text format."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
