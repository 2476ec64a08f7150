"""Callers: at a steady rate, as fast as answers come, and a thousand at once. Wrong answers are failures."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from reembed.client import EmbedderClient
from reembed.core.model import InputType
from reembed.stores.pgvector.search import Searcher
from tests.bench.gateway.arm import ARM

K = 10
# Each is a second or two apart.
_MOST_TRIES = 60
Query = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float


class Wrong(Exception):
    """An answer that is not the right one."""


def through(http: aiohttp.ClientSession, url: str, expected: Sequence[str]) -> Query:
    """Return what asks the gateway."""

    async def query(number: int) -> None:
        status, _, found = await asked(http, url, number)
        if status != 200 or found != expected[number]:
            raise Wrong(f"query {number}: {status} with {found}, expected 200 with {expected[number]}")

    return query


async def asked(http: aiohttp.ClientSession, url: str, number: int) -> tuple[int, str | None, str | None]:
    """Return the answer's status, its Retry-After, and the document that is first."""
    async with http.post(f"{url}/v1/search", json={"query": f"query {number}", "k": K}) as response:
        answer = await response.json()
        results = answer.get("results")
        return response.status, response.headers.get("Retry-After"), results[0]["id"] if results else None


@asynccontextmanager
async def embedding(url: str) -> AsyncIterator[EmbedderClient]:
    client = EmbedderClient(url, fingerprint=ARM.fingerprint, timeout=10)
    try:
        yield client
    finally:
        await client.close()


def directly(embedder: EmbedderClient, store: Searcher, expected: Sequence[str]) -> Query:
    """Return what an application would do without the gateway: embed, then search, over connections that are open."""

    async def query(number: int) -> None:
        embedded = await embedder.embed([f"query {number}"], InputType.QUERY)
        hits = await store.search(ARM.collection, ARM.fingerprint, embedded.vectors[0], K)
        if hits[0].id != expected[number]:
            raise Wrong(f"query {number} found {hits[0].id}, expected {expected[number]}")

    return query


async def steadily(query: Query, queries: int, rate: float, seconds: float) -> Latency:
    """Ask `rate` a second; a time counts from when its query was due, so that no slow one hides others."""
    took: list[float] = []
    count = int(rate * seconds)
    began = time.perf_counter() + 0.05

    async def one(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(due - time.perf_counter())
        await query(number % queries)
        took.append(1000 * (time.perf_counter() - due))

    await asyncio.gather(*(one(number) for number in range(count)))
    cuts = statistics.quantiles(took, n=100)
    return Latency(cuts[49], cuts[98])


async def as_fast_as_they_come(query: Query, queries: int, callers: int, seconds: float) -> int:
    """Let each caller ask as soon as it was answered; return how many queries were."""
    end = time.perf_counter() + seconds
    done = 0

    async def caller(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await query(number % queries)
            number += callers
            done += 1

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return done


async def at_once(url: str, expected: Sequence[str], callers: int) -> Counter[str]:
    """Let each of so many callers, with a connection of its own, ask until it is answered.

    One that is told to come back does so after the time that it was told. Returned are answers by what they were:
    `answered`, `busy` (a 429 that says when to come back), and `failed` (anything else, or never answered).
    """
    fates: Counter[str] = Counter()

    async def caller(http: aiohttp.ClientSession, number: int) -> None:
        for _ in range(_MOST_TRIES):
            try:
                status, wait, found = await asked(http, url, number)
            except (aiohttp.ClientError, TimeoutError, OSError):
                break
            if status != 429 or wait is None:
                fates["answered" if (status, found) == (200, expected[number]) else "failed"] += 1
                return
            fates["busy"] += 1
            await asyncio.sleep(float(wait) * random.uniform(1, 2))
        fates["failed"] += 1

    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(aiohttp.ClientSession()) for _ in range(callers)]
        await asyncio.gather(*(_connected(http, url) for http in sessions))
        await asyncio.gather(*(caller(http, number % len(expected)) for number, http in enumerate(sessions)))
    return fates


async def _connected(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(f"{url}/ready") as response:
        await response.read()
