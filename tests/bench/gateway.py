"""What the gateway itself costs: `python -m tests.bench.gateway` prints queries per second of one core, and memory.

The gateway runs in a process of its own with a real embedder client and a store that answers at once; embedder and
callers run in this one. CPU time is the gateway process's own, so another load on the machine changes little. Beside it
stands the same process answering /health, which is what HTTP alone costs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import uvicorn

import reembed.gateway.__main__  # noqa: F401 - what a real process holds in memory
from reembed.client import EmbedderClient
from reembed.core.model import Arm, Routing
from reembed.gateway.app import Gateway, Settings
from tests.fixtures import fake_embedder
from tests.fixtures.arms import OLD, FakeStore
from tests.fixtures.routing import FakeSource

QUERIES = 5_000
AT_ONCE = 16


def serve(port: socket.socket, embedder: str, done: Connection) -> None:
    """Run a gateway until `done` is written to."""

    async def run() -> None:
        def connect(arm: Arm) -> EmbedderClient:
            return EmbedderClient(embedder, fingerprint=arm.fingerprint, timeout=10)

        source = FakeSource(Routing(epoch=1, serving=OLD))
        gateway = Gateway(Settings("rag", "docs", "bench"), source, connect, FakeStore([OLD]))
        server = uvicorn.Server(uvicorn.Config(gateway.app(), log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[port]))
        await asyncio.to_thread(done.recv)
        server.should_exit = True
        await serving

    asyncio.run(run())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mebibytes(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def report(line: str) -> None:
    print(line)  # noqa: T201 - figures are what this program is for


async def load(name: str, pid: int, request: Callable[[int], Awaitable[None]]) -> None:
    """Do QUERIES requests, AT_ONCE at a time, and print what they cost."""
    took: list[float] = []
    numbers = iter(range(QUERIES))

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await request(number)
            took.append(time.perf_counter() - began)

    before = cpu_seconds(pid)
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    cost = cpu_seconds(pid) - before
    p95 = statistics.quantiles(took, n=20)[-1] * 1000
    report(f"{name:10} {QUERIES / cost:6.0f} /s of one core, p95 {p95:5.1f} ms at {AT_ONCE} at once")


async def main() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    async with fake_embedder.listening(OLD.fingerprint) as embedder, aiohttp.ClientSession() as http:
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{port.getsockname()[1]}"
            process = context.Process(target=serve, args=(port, embedder.url, there))
            process.start()
        pid = process.pid or 0

        async def health(_: int) -> None:
            async with http.get(f"{url}/health") as response:
                assert response.status == 200

        async def search(number: int) -> None:
            async with http.post(f"{url}/v1/search", json={"query": f"query {number}"}) as response:
                assert response.status == 200

        while True:
            try:
                async with http.get(f"{url}/ready") as response:
                    if response.status == 200:
                        break
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
        report(f"resident   {resident_mebibytes(pid):6.0f} MiB at rest")
        await load("/health", pid, health)
        await load("/v1/search", pid, search)
        report(f"resident   {resident_mebibytes(pid):6.0f} MiB after {2 * QUERIES} requests")
        here.send(None)
        process.join()


if __name__ == "__main__":
    asyncio.run(main())
