"""What shadow queries cost the callers of a gateway: `python -m tests.bench.shadow` prints p50, p95 and CPU by share.

The gateway runs in a process of its own with real embedder clients and a store that answers at once; the embedders run
in another and take a few milliseconds, callers ask at a steady rate from this one. The shares take turns within one
run, so that another load on the machine meets all of them; ratios are of the same turn's share 0, by their median.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection

import aiohttp
import uvicorn
from aiohttp import web

from reembed.client import EmbedderClient
from reembed.core.model import Arm, Routing
from reembed.gateway.app import Gateway, Settings
from tests.bench.gateway.measures import cpu_seconds
from tests.fixtures import fake_embedder
from tests.fixtures.arms import NEW, OLD, FakeStore
from tests.fixtures.exposition import parse
from tests.fixtures.fake_embedder import EmbedderServer
from tests.fixtures.routing import FakeSource

SHARES = (0.0, 0.05, 1.0)
_EMBEDDING_SECONDS = 0.004
_CALLERS = 32


@dataclass(frozen=True)
class Cost:
    """Of one turn: seconds of a query, and CPU seconds of the gateway per query."""

    p50: float
    p95: float
    cpu: float


async def slowly(server: EmbedderServer, request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(_EMBEDDING_SECONDS)
    return await fake_embedder.answering(server, request)


def report(line: str) -> None:
    print(line)  # noqa: T201 - figures are what this program is for


def embed(here: Connection) -> None:
    """Run both embedders until told to end."""

    async def run() -> None:
        async with fake_embedder.listening(OLD.fingerprint) as old, fake_embedder.listening(NEW.fingerprint) as new:
            old.behaviour = new.behaviour = slowly
            here.send({OLD: old.url, NEW: new.url})
            await asyncio.to_thread(here.recv)

    asyncio.run(run())


def serve(port: socket.socket, urls: dict[Arm, str], here: Connection) -> None:
    """Run a gateway with the shares that come, until one is None."""

    async def run() -> None:
        def connect(arm: Arm) -> EmbedderClient:
            return EmbedderClient(urls[arm], fingerprint=arm.fingerprint, timeout=10)

        source = FakeSource(Routing(1, OLD, NEW, 0))
        gateway = Gateway(Settings("rag", "docs", "bench"), source, connect, FakeStore([OLD, NEW]))
        server = uvicorn.Server(uvicorn.Config(gateway.app(), log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[port]))
        while (share := await asyncio.to_thread(here.recv)) is not None:
            source.tell(Routing(1, OLD, NEW, 0, share))
            here.send(share)
        server.should_exit = True
        await serving

    asyncio.run(run())


async def turn(http: aiohttp.ClientSession, url: str, pid: int, queries: int, rate: float) -> Cost:
    """Ask `queries` at `rate` a second; a time counts from when its query was due, so that none hides another."""
    took: list[float] = []
    numbers = iter(range(queries))
    began = time.perf_counter() + 0.05

    async def caller() -> None:
        for number in numbers:
            due = began + number / rate
            await asyncio.sleep(due - time.perf_counter())
            async with http.post(f"{url}/v1/search", json={"query": f"query {number}"}) as response:
                await response.read()
                assert response.status == 200
            took.append(time.perf_counter() - due)

    before = cpu_seconds(pid)
    await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    cuts = statistics.quantiles(took, n=20)
    return Cost(cuts[9], cuts[18], (cpu_seconds(pid) - before) / queries)


async def ready(http: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            async with http.get(f"{url}/ready") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.1)


async def fates(http: aiohttp.ClientSession, url: str) -> dict[str, int]:
    async with http.get(f"{url}/metrics") as response:
        lines = list(parse(await response.text()))
    return {labels["outcome"]: round(n) for name, labels, n in lines if name == "reembed_gateway_shadow_total"}


async def measure(url: str, pid: int, gateway: Connection, asked: argparse.Namespace) -> None:
    costs: defaultdict[float, list[Cost]] = defaultdict(list)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await ready(http, url)
        await turn(http, url, pid, asked.queries, asked.rate)  # connections, caches
        for _ in range(asked.turns):
            for share in SHARES:
                gateway.send(share)
                gateway.recv()
                costs[share].append(await turn(http, url, pid, asked.queries, asked.rate))
        report(
            f"{asked.turns} turns of {asked.queries} queries, {asked.rate:g}/s; comparisons: {await fates(http, url)}"
        )
    for share in SHARES:
        tell(share, costs[share], costs[0.0])


def tell(share: float, costs: list[Cost], without: list[Cost]) -> None:
    def of(name: str) -> str:
        values = [getattr(cost, name) for cost in costs]
        ratios = [getattr(cost, name) / getattr(base, name) for cost, base in zip(costs, without, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        return f"{name} {statistics.median(values) * 1000:6.2f} ms x{statistics.median(ratios):.2f} ({spread})"

    report(f"shadow {share:4.0%}  " + "   ".join(of(name) for name in ("p50", "p95", "cpu")))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--queries", type=int, default=1000, help="in each turn")
    arguments.add_argument("--rate", type=float, default=100.0, help="queries a second")
    arguments.add_argument("--turns", type=int, default=5)
    asked = arguments.parse_args()
    context = multiprocessing.get_context("spawn")
    embedders, theirs = context.Pipe()
    gateway, its = context.Pipe()
    embedding = context.Process(target=embed, args=(theirs,))
    embedding.start()
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
        serving = context.Process(target=serve, args=(port, embedders.recv(), its))
        serving.start()
    asyncio.run(measure(url, serving.pid or 0, gateway, asked))
    gateway.send(None)
    embedders.send(None)
    serving.join()
    embedding.join()


if __name__ == "__main__":
    main()
