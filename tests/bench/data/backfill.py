"""The real backfill: a store worker's collection, and shard processes with a pod's environment.

Starting a process takes longer than some of what is measured, so a rate counts from when every shard had stored a page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from reembed.core.model import CollectionPlan, Desired, IndexSpec, SecretKey
from reembed.stores.pgvector.keeper import Keeper
from tests.bench.data.source import DIMENSIONS, Source
from tests.fixtures.postgres import GATEWAY

FINGERPRINT = "fp-bench"
_SECRET = SecretKey("store", "dsn")
SPEC = IndexSpec(_SECRET, _SECRET, GATEWAY, "public", "docs", "id", "body")
PLAN = CollectionPlan("c_new", "pool", FINGERPRINT, DIMENSIONS, 2, Desired.PRESENT)
KEY, UID = "default/docs", "11111111-2222-3333-4444-555555555555"
_EVERY_SECONDS = 0.05
_LONGEST_SECONDS = 1200.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SEEN = "SELECT sum(written + rejected)::bigint, min(written + rejected), bool_and(done) FROM reembed.shard"


@dataclass
class Filled:
    """One backfill: documents a second, MiB that a shard's process had at most, and who took how much of the cores.

    `cpu` is in seconds of all cores: of the shards' processes, and of the whole span.
    """

    rate: float = 0.0
    rss: float = 0.0
    cpu: float = 0.0
    span: float = 0.0
    seconds: dict[int, float] = field(default_factory=dict)  # of each process since it began
    marks: list[tuple[float, int]] = field(default_factory=list)

    @property
    def share_of_cpu(self) -> float:
        """Return the percentage of all cores that the shards' processes took."""
        return 100 * self.cpu / self.span / (os.cpu_count() or 1) if self.span else 0.0


def fill(source: Source, url: str, *, shards: int = 2) -> Filled:
    """Fill a collection with one process for each shard, all at once."""
    asyncio.run(_made(source, shards))
    found, cpu = Filled(), 0.0
    with _running(source, url, shards) as pods, psycopg.connect(source.dsn, autocommit=True) as connection:
        began = time.perf_counter()
        while True:
            row = connection.execute(_SEEN).fetchone()
            now, (stored, least, done) = time.perf_counter(), row or (0, 0, False)
            _watch(found, pods)
            if least and not found.marks:
                cpu = sum(found.seconds.values())
            if least or done:
                found.marks.append((now, stored))
            if done:
                break
            _check(pods, now - began)
            _pause(pods)
    (start, before), (end, after) = found.marks[0], found.marks[-1]
    if start == end:
        raise RuntimeError(f"{source.count} documents were stored at once; give it more")
    found.rate, found.span = (after - before) / (end - start), end - start
    found.cpu = sum(found.seconds.values()) - cpu
    if after != source.count:
        raise RuntimeError(f"{after} documents of {source.count} were stored: the rate says nothing")
    return found


async def _made(source: Source, shards: int) -> None:
    async with Keeper(source.dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, replace(PLAN, shards=shards))


@contextmanager
def _running(source: Source, url: str, shards: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    given = {"DSN": source.dsn, "COLLECTION": "c_new", "EMBEDDER_URL": url, "FINGERPRINT": FINGERPRINT}
    environment = {**os.environ, **{f"REEMBED_{name}": value for name, value in given.items()}}
    command = [sys.executable, "-m", "reembed.backfill", "shard"]
    pods = [
        subprocess.Popen(command, env={**environment, "JOB_COMPLETION_INDEX": str(n)}, stdout=subprocess.DEVNULL)
        for n in range(shards)
    ]
    try:
        yield pods
        for pod in pods:
            pod.wait(30)
    finally:
        for pod in pods:
            pod.kill()
            pod.wait()


def _watch(found: Filled, pods: Sequence[subprocess.Popen[bytes]]) -> None:
    """Note what the processes took so far; one that has ended took no more than when it was seen last."""
    for pod in pods:
        place = Path("/proc") / str(pod.pid)
        try:
            table = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
            fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        # What a process had at most is its own; its parent counts what it was a copy of, too.
        found.rss = max(found.rss, int(table.get("VmHWM", "0 kB").split()[0]) / 1024)
        found.seconds[pod.pid] = (int(fields[11]) + int(fields[12])) / _TICKS


def _check(pods: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    if any(pod.poll() not in {None, 0} for pod in pods):
        raise RuntimeError(f"a shard ended with {[pod.poll() for pod in pods]}; its log is above")
    if seconds > _LONGEST_SECONDS:
        raise RuntimeError(f"the backfill was not done after {seconds:.0f} s; look at the shards' figures")


def _pause(pods: Sequence[subprocess.Popen[bytes]]) -> None:
    # Waiting for the end of one that runs is the pause between two looks.
    for pod in pods:
        if pod.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                pod.wait(_EVERY_SECONDS)
            return
