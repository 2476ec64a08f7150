"""How long a committed write lacks in the collection: a follower in a process of its own, a writer at a steady rate.

Each write gives a document a text that it never had; its lag is from the commit's answer to the first look that finds
the text's hash in the collection. `python -m tests.bench.data.lag DSN URL` is the follower's process.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from hack.cache import ROOT
from reembed.backfill.follower import Follower
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import EmbedderClient
from reembed.core.model import CollectionPlan
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from tests.bench.data import backfill
from tests.bench.data.source import Source
from tests.cluster import processes

_EVERY_SECONDS = 0.02
_LONGEST_SECONDS = 60.0
# Of a document's text: what a write of an application usually changes is not the whole of it.
_WORDS = "the application changed this document and says so in a few words that nobody wrote before"


def percentile(source: Source, url: str, rate: int, seconds: float, directory: Path) -> float:
    """Return p99 of the lag in seconds, with so many writes a second into a full collection."""
    backfill.fill(source, url)
    environment = [f"{name}={os.environ[name]}" for name in ("PYTHONPATH",) if name in os.environ]
    command = ["env", "-C", str(ROOT), *environment, sys.executable, "-m", "tests.bench.data.lag", source.dsn, url]
    program = processes.start("follower", command, directory)
    try:
        processes.wait_until(lambda: _follows(source), program, seconds=30)
        lags = sorted(_Written(source, rate, seconds).lags())
    finally:
        processes.stop(program)
    return lags[min(int(0.99 * len(lags)), len(lags) - 1)]


class _Written:
    """Writes, and when each was seen in the collection."""

    def __init__(self, source: Source, rate: int, seconds: float) -> None:
        self._source = source
        self._rate = rate
        self._count = int(rate * seconds)
        self._written: dict[bytes, float] = {}
        self._ended = threading.Event()

    def lags(self) -> list[float]:
        writer = threading.Thread(target=self._write)
        writer.start()
        found = dict(self._look())
        writer.join()
        return [found[hashed] - at for hashed, at in self._written.items()]

    def _write(self) -> None:
        start, rest = time.perf_counter(), threading.Event()
        with psycopg.connect(self._source.dsn, autocommit=True) as connection:
            for number in range(self._count):
                rest.wait(max(0.0, start + number / self._rate - time.perf_counter()))
                text = f"{number} {_WORDS}"
                # Every document but once: a text that was replaced before it was embedded never shows.
                one = number % self._source.count + 1
                connection.execute("UPDATE docs SET body = %s WHERE id = %s", [text, one])
                self._written[hashlib.sha256(text.encode()).digest()[:16]] = time.perf_counter()
        self._ended.set()

    def _look(self) -> list[tuple[bytes, float]]:
        seen: dict[bytes, float] = {}
        pause, until = threading.Event(), time.perf_counter() + self._count / self._rate + _LONGEST_SECONDS
        query = "SELECT text_hash FROM reembed.c_new WHERE rev > %s"
        with psycopg.connect(self._source.dsn, autocommit=True) as connection:
            connection.execute("CREATE INDEX IF NOT EXISTS c_new_rev ON reembed.c_new (rev)")
            while not self._ended.is_set() or len(seen) < len(self._written):
                if time.perf_counter() > until:
                    raise RuntimeError(f"{len(self._written) - len(seen)} writes never came into the collection")
                now = time.perf_counter()
                for (hashed,) in connection.execute(query, [max(len(seen) - 5_000, 0)]).fetchall():
                    seen.setdefault(hashed, now)
                pause.wait(_EVERY_SECONDS)
        return list(seen.items())


def _follows(source: Source) -> bool:
    return source.value("SELECT count(*) FROM reembed.capture") == 1


async def _follow(dsn: str, url: str) -> None:
    @asynccontextmanager
    async def connect(plan: CollectionPlan) -> AsyncIterator[EmbedderClient]:
        client = EmbedderClient(url, fingerprint=plan.fingerprint, timeout=60)
        try:
            yield client
        finally:
            await client.close()

    async with Keeper(dsn, backfill.KEY, backfill.UID) as keeper, Changes(dsn, backfill.KEY) as changes:
        await keeper.capture(backfill.SPEC)
        retrying = Retrying(Backoff(), random.Random(1))
        follower = Follower(changes, connect, retrying, time.monotonic, WorkerMetrics())
        follower.follow([backfill.PLAN], {one.name: one for one in await keeper.held()})
        await follower.run()


if __name__ == "__main__":
    asyncio.run(_follow(sys.argv[1], sys.argv[2]))
