"""Measures what the gateway costs a query; prints one line of JSON and keeps it as build/bench/bench-gateway.json.

A real PostgreSQL holds 100,000 vectors of 384 dimensions in an indexed collection, an embedder answers at once in the
real one's words, and the gateway is a process of its own (see `process`). Each asks for ten documents, whose first is
known. One run takes four minutes.

* gateway_qps_per_core: queries answered by a second of the gateway's CPU, which the kernel counts for this process, so
  that the machine's other load matters little; 16 callers, each asking again as soon as it was answered.
* gateway_added_p50_ms, _p99_ms: at 200 queries a second, over embedding and searching done directly by the callers'
  process over open connections; of one round, whose two halves follow each other. A time counts from when its query
  was due.
* gateway_rss_mib: of the gateway's process, after the rounds; gateway_rss_1000_callers_mib: after the thousand callers.
* gateway_failed_1000_callers: of a thousand callers who ask at the same moment over a connection each, those who got
  anything but the right answer or a 429 with Retry-After, which they obey; gateway_busy_1000_callers counts these 429s.
* range: the least and the most over the rounds; of the values the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from hack.cache import ROOT
from hack.console import say
from reembed.stores.pgvector.search import Searcher
from tests.bench.gateway import load, world
from tests.bench.gateway.arm import ARM
from tests.bench.gateway.measures import cpu_seconds, resident_mebibytes
from tests.cluster import processes
from tests.fixtures import postgres
from tests.fixtures.postgres import Database

RATE = 200.0
CALLERS = 16
MANY = 1000
_CONNECTIONS = 10


@dataclass(frozen=True)
class Parts:
    """What runs beside this process."""

    database: Database
    embedder: str
    gateway: str
    pid: int
    expected: Sequence[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of a round's three measurements")
    parser.add_argument("--vectors", type=int, default=100_000, help="no less than a thousand")
    asked = parser.parse_args()
    # A thousand connections of callers, and their other ends in the gateway.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * MANY), most))
    with (
        tempfile.TemporaryDirectory(prefix="reembed-bench-") as directory,
        running(Path(directory), asked.vectors) as parts,
    ):
        _write(uvloop.run(measure(parts, asked.rounds, asked.seconds)))


@contextmanager
def running(directory: Path, count: int) -> Iterator[Parts]:
    """Start everything and fill the database."""
    vectors = world.documents(count)
    expected = world.queries(vectors, directory / "queries.npy")
    with postgres.running(shared_buffers="512MB") as server, postgres.empty(server) as database:
        say(f"filling a collection with {count} vectors")
        asyncio.run(world.fill(database, vectors))
        del vectors
        ports = [processes.free_port() for _ in range(2)]
        embedder, gateway = (f"http://127.0.0.1:{port}" for port in ports)
        programs = [
            _start(directory, "embedder", ports[0], ARM.fingerprint, directory / "queries.npy"),
            _start(directory, "process", ports[1], embedder, database.gateway_dsn),
        ]
        try:
            processes.wait_until(lambda: _ready(gateway), programs[1], seconds=30)
            yield Parts(database, embedder, gateway, programs[1].process.pid, expected)
        finally:
            for program in reversed(programs):
                processes.stop(program, seconds=20)


async def measure(parts: Parts, rounds: int, seconds: float) -> dict[str, float | dict[str, list[float]]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        Searcher(parts.database.gateway_dsn, _CONNECTIONS) as store,
        load.embedding(parts.embedder) as embedder,
    ):
        direct = load.directly(embedder, store, parts.expected)
        through = load.through(http, parts.gateway, parts.expected)
        for query in (direct, through):  # what is first is slow: connections, caches, code
            await load.as_fast_as_they_come(query, len(parts.expected), CALLERS, seconds / 2)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for name, value in (await one_round(parts, direct, through, seconds)).items():
                found[name].append(value)
    resident = resident_mebibytes(parts.pid)
    fates = await load.at_once(parts.gateway, parts.expected, MANY)
    say(f"{MANY} callers at once: {dict(fates)}")
    return {
        **{name: round(statistics.median(values), 3) for name, values in found.items()},
        "gateway_rss_mib": round(resident, 1),
        f"gateway_rss_{MANY}_callers_mib": round(resident_mebibytes(parts.pid), 1),
        f"gateway_failed_{MANY}_callers": fates["failed"],
        f"gateway_busy_{MANY}_callers": fates["busy"],
        "range": {name: [round(min(values), 3), round(max(values), 3)] for name, values in found.items()},
    }


async def one_round(parts: Parts, direct: load.Query, through: load.Query, seconds: float) -> dict[str, float]:
    count = len(parts.expected)
    alone = await load.steadily(direct, count, RATE, seconds)
    before = cpu_seconds(parts.pid)
    behind = await load.steadily(through, count, RATE, seconds)
    steady = RATE * seconds / (cpu_seconds(parts.pid) - before)
    before, began = cpu_seconds(parts.pid), time.perf_counter()
    done = await load.as_fast_as_they_come(through, count, CALLERS, seconds)
    took, spent = time.perf_counter() - began, cpu_seconds(parts.pid) - before
    say(
        f"{done / spent:.0f} queries/s per core ({done / took:.0f}/s in all; {steady:.0f} per core at {RATE:.0f}/s); "
        f"p50 {alone.p50:.2f} -> {behind.p50:.2f} ms, p99 {alone.p99:.2f} -> {behind.p99:.2f} ms; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    return {
        "gateway_qps_per_core": done / spent,
        "gateway_added_p50_ms": behind.p50 - alone.p50,
        "gateway_added_p99_ms": behind.p99 - alone.p99,
    }


def _start(directory: Path, module: str, *arguments: object) -> processes.Program:
    command = [sys.executable, "-m", f"tests.bench.gateway.{module}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # it imports what this process does
    return processes.start(module, command, directory, env=environment)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=2):
            return True
    except OSError:
        return False


def _write(found: dict[str, float | dict[str, list[float]]]) -> None:
    written = json.dumps(found)
    place = ROOT / "build" / "bench" / "bench-gateway.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(written + "\n")
    sys.stdout.write(written + "\n")


if __name__ == "__main__":
    main()
