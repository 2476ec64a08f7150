"""What pods say of themselves over HTTP: JSON reports and /metrics, all at once and briefly.

A pod that does not answer in time is left out: "could not be measured" is a value of its own in `core`, never zero.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

import aiohttp

from reembed.core import load, measures, names

# What is read of the hundreds of lines of a page.
_READ = (*measures.SERIES, *load.SERIES)
# A series of the text format 0.0.4, as prometheus_client writes it.
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_FORM = re.compile(rf"(?P<name>\w+)(?:\{{(?P<labels>(?:{_LABEL.pattern},?)*)\}})?")
_ESCAPED = re.compile(r"\\(.)")
# Each pod tells the same series at every look. A series is a third of a KiB.
_SERIES = 16_384

# A page of metrics has some 50 KB.
_LONGEST = 4 * 2**20
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
        return json.loads(await _whole(response))

    @staticmethod
    async def _samples(response: aiohttp.ClientResponse) -> list[Sample]:
        return samples((await _whole(response)).decode())


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Return an answer; one that does not end is none.

    Raises:
        ValueError: it is longer than any of ours.

    """
    found = bytearray()
    async for part in response.content.iter_any():
        found += part
        if len(found) > _LONGEST:
            raise ValueError(f"the answer of {response.url} is longer than {_LONGEST} bytes")
    return bytes(found)


def samples(text: str) -> list[Sample]:
    """Return what anybody here reads of a page in Prometheus' text format, as our own pods write it.

    Raises:
        ValueError: it is none.

    """
    return list(_samples(text))


def _samples(text: str) -> Iterator[Sample]:
    for line in text.split("\n"):
        if line.startswith(_READ):
            series, _, value = line.rpartition(" ")
            try:
                number = float(value)
                if math.isfinite(number):  # else it was not measured
                    yield *_series(series), number
            except ValueError as error:
                raise ValueError(f"not a line of Prometheus' text format: {line[:200]!r}") from error


@lru_cache(maxsize=_SERIES)
def _series(text: str) -> tuple[str, Mapping[str, str]]:
    """Return name and labels of a series.

    prometheus_client's own parser reads whole pages, with everything that a page may hold; it would be most of what an
    operator of a hundred migrations does.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"not a series: {text[:200]!r}")
    labels = {sys.intern(name): sys.intern(_plain(value)) for name, value in _LABEL.findall(found["labels"] or "")}
    return sys.intern(found["name"]), labels


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda one: {"n": "\n"}.get(one[1], one[1]), value) if "\\" in value else value
