"""What pods say of themselves over HTTP: JSON reports and /metrics, all at once and briefly.

A pod that does not answer in time is left out: "could not be measured" is a value of its own in `core`, never zero.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import aiohttp

from reembed.answers import whole
from reembed.core import exposition, load, measures, names

# What is read of the hundreds of lines of a page.
_READ = (*measures.SERIES, *load.SERIES)
# A page of metrics has some 50 KB.
_LONGEST = 4 * 2**20
# A pod that needs longer to say how it is, is not well; a pass must not wait for it.
_SECONDS = 1.5

Sample = exposition.Sample


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
        answers = await self._ask(addresses, "/metrics", self._samples)
        return {name: found for name, found in answers if found is not None}

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        urls = [f"http://{names.at(address, self._port)}{path}" for address in addresses.values()]
        taken = await asyncio.gather(*(self._put(url, body) for url in urls))
        return tuple(name for name, took in zip(addresses, taken, strict=True) if took)

    async def _put(self, url: str, body: Mapping[str, Any]) -> bool:
        try:
            async with self._session.put(url, json=body, timeout=aiohttp.ClientTimeout(total=_SECONDS)) as response:
                return response.status < 300
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _ask(self, addresses: Mapping[str, str], path: str, read: Any) -> Iterable[tuple[str, Any]]:
        urls = [f"http://{names.at(address, self._port)}{path}" for address in addresses.values()]
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
        return json.loads(await whole(response, _LONGEST))

    @staticmethod
    async def _samples(response: aiohttp.ClientResponse) -> list[Sample]:
        return samples((await whole(response, _LONGEST)).decode())


def samples(text: str) -> list[Sample]:
    """Return what anybody here reads of a page in Prometheus' text format, as our own pods write it.

    Raises:
        ValueError: it is none.

    """
    found = (exposition.sample(line) for line in exposition.lines(text, _READ))
    return [one for one in found if one is not None]
