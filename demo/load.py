"""Entry point of the demo's load pod: a steady stream of queries through the gateway's Service, every answer checked.

The stream is open: a query is sent when it is due, whether the last one was answered or not, and its latency counts
from then, so a stalled gateway shows. A query failed if it did not get a well-formed 200 within ten seconds. Whether
the collection named was the right one at that epoch cannot be known here: answers are counted by what they say of
themselves, and `demo.judge` reads the tally. Each query's right document is known, so the rank at which a collection
finds it shows vectors of one model searched with another's, even if all names are right.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import aiohttp
from aiohttp import web

from demo.corpus import Query, corpus

K = 10
PORT = 8080
TIMEOUT_SECONDS = 10.0
_KEPT_PROBLEMS = 5  # the first ones explain; thousands do not explain more


class Malformed(Exception):
    """An answer with status 200 that is not a search result."""


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer says about where it came from."""

    epoch: int
    arm: str
    collection: str
    fingerprint: str
    fell_back: bool


@dataclass(slots=True)
class Count:
    """Answers of one source and the sum of the reciprocal ranks of their right documents."""

    answers: int = 0
    reciprocal_ranks: float = 0.0
    last: float = field(default=0.0, compare=False)  # when the last one came, in seconds of the wall clock


@dataclass(slots=True)
class Tally:
    """Everything that was sent and what came back."""

    sent: int = 0
    failed: int = 0
    seconds: float = 0.0
    sources: dict[Source, Count] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def answered(self, source: Source, rank: int | None, seconds: float) -> None:
        count = self.sources.setdefault(source, Count())
        count.answers += 1
        count.reciprocal_ranks += 0.0 if rank is None else 1 / rank
        count.last = time.time()
        self.latencies.append(seconds)

    def lost(self, problem: str) -> None:
        self.failed += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append(problem)

    def json(self) -> dict[str, Any]:
        ordered = sorted(self.latencies)
        return {
            "sent": self.sent,
            "failed": self.failed,
            "seconds": self.seconds,
            "p50_ms": _percentile(ordered, 0.50),
            "p95_ms": _percentile(ordered, 0.95),
            "slowest_ms": _percentile(ordered, 1.0),
            "problems": self.problems,
            "sources": [
                {
                    "epoch": source.epoch,
                    "arm": source.arm,
                    "collection": source.collection,
                    "fingerprint": source.fingerprint,
                    "fellBack": source.fell_back,
                    "answers": count.answers,
                    "reciprocalRanks": count.reciprocal_ranks,
                    "lastAnswered": count.last,
                }
                for source, count in self.sources.items()
            ],
        }


def read_answer(body: Any, wanted: int) -> tuple[Source, int | None]:
    """Return where an answer came from and the rank of the document that was wanted."""
    try:
        ids = [str(result["id"]) for result in body["results"]]
        source = Source(
            int(body["epoch"]), str(body["arm"]), str(body["collection"]), str(body["fingerprint"]), body["fellBack"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"the answer lacks or mistypes a field: {error!r}") from error
    if len(ids) != K or len(set(ids)) != K:
        raise Malformed(f"asked for {K} different documents and got {len(set(ids))}")
    return source, ids.index(str(wanted)) + 1 if str(wanted) in ids else None


@dataclass(frozen=True, slots=True)
class Stream:
    """Queries at a steady rate until `stop` is set; then those under way are waited for."""

    session: aiohttp.ClientSession
    url: str
    rate: float
    tally: Tally
    stop: asyncio.Event

    async def run(self, queries: Iterable[Query]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as pending:
            for number, query in enumerate(queries):
                due = start + number / self.rate
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self.stop.wait()
                if self.stop.is_set():
                    return
                self.tally.sent += 1
                self.tally.seconds = loop.time() - start
                pending.create_task(self._ask(query, due))

    async def _ask(self, query: Query, due: float) -> None:
        try:
            async with self.session.post(f"{self.url}/v1/search", json={"query": query.text, "k": K}) as response:
                if response.status != 200:
                    self.tally.lost(f"status {response.status}: {(await response.text())[:200]}")
                    return
                source, rank = read_answer(await response.json(), query.id)
        except (aiohttp.ClientError, TimeoutError, ValueError, Malformed) as error:
            self.tally.lost(f"{type(error).__name__}: {error}")
        else:
            self.tally.answered(source, rank, asyncio.get_running_loop().time() - due)


def _percentile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)


async def serve(url: str, queries: Iterable[Query], rate: float, port: int) -> None:
    """Run the stream until SIGTERM, answer GET /tally beside it, and print the final tally."""
    tally, stop = Tally(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(tally.json())

    app.router.add_get("/tally", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    # A new connection for every query: it reaches all gateways through the Service, and none idles into its end.
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await Stream(session, url, rate, tally, stop).run(queries)
    await runner.cleanup()
    print(json.dumps(tally.json()))


def main() -> None:
    load = corpus(int(os.environ["DEMO_DOCUMENTS"])).load
    asyncio.run(serve(os.environ["GATEWAY_URL"], cycle(load), float(os.environ["DEMO_RATE"]), PORT))


if __name__ == "__main__":
    main()
