"""Pods of a backfill as processes that come, go and are killed: what each of them costs, counted where texts arrive."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from reembed.backfill.pipeline import PAGE
from reembed.backfill.shard import DONE, STOPPED
from reembed.stores.pgvector.keeper import Keeper
from tests.cluster import processes
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan, vector_of

_LONGEST_SECONDS = 180.0


class Embedder:
    """A pool's service that counts each text as it arrives, whether or not anybody is there for its vector."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.arrived: Callable[[int], None] = lambda total: None
        self._lock = threading.Lock()

    def answer(self, texts: list[str]) -> bytes:
        with self._lock:
            self.asked.update(texts)
            self.arrived(self.asked.total())
        time.sleep(self.seconds)  # noqa: TID251 a slow server, not a test that waits
        data = [{"index": n, "embedding": base64.b64encode(vector_of(text)).decode()} for n, text in enumerate(texts)]
        return json.dumps({"fingerprint": "fp-new", "data": data, "truncated": []}).encode()


@contextmanager
def serving(seconds: float) -> Iterator[Embedder]:
    found = Embedder(seconds)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = found.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            """Say nothing: whoever asked was killed."""

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Job:
    """What Kubernetes makes of the backfill's Job: for each shard that is not done a pod, `parallelism` at a time."""

    database: Database
    directory: Path
    url: str
    shards: int
    parallelism: int = 1
    pods: dict[int, processes.Program] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    codes: list[int] = field(default_factory=list)  # of pods that ended before their shard was done

    def look(self) -> None:
        """Count what ended, and make what runs what should run."""
        for shard, program in list(self.pods.items()):
            if (code := program.process.poll()) is not None:
                del self.pods[shard]
                self.leaving.discard(shard)
                if code == DONE:
                    self.done.add(shard)
                else:
                    self.codes.append(code)
        active = sorted(self.pods.keys() - self.leaving)
        for shard in active[self.parallelism :]:
            self.pods[shard].process.terminate()
            self.leaving.add(shard)
        pending = [shard for shard in range(self.shards) if shard not in self.done | self.pods.keys()]
        for shard in pending[: max(self.parallelism - len(active), 0)]:
            self.pods[shard] = self.start(shard)

    def start(self, shard: int) -> processes.Program:
        environment = {
            "PATH": os.environ["PATH"],
            "REEMBED_DSN": self.database.owner_dsn,
            "REEMBED_COLLECTION": "c_new",
            "REEMBED_EMBEDDER_URL": self.url,
            "REEMBED_FINGERPRINT": "fp-new",
            "JOB_COMPLETION_INDEX": str(shard),
        }
        return processes.start(
            f"shard-{shard}", [sys.executable, "-m", "reembed.backfill", "shard"], self.directory, env=environment
        )

    def kill(self) -> int:
        """Kill a pod that was not told to end, at once, and return its shard."""
        shard = max(self.pods.keys() - self.leaving)
        self.pods[shard].process.send_signal(signal.SIGKILL)
        return shard

    def stop(self) -> None:
        for program in self.pods.values():
            processes.stop(program, first=signal.SIGKILL)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(_LONGEST_SECONDS):
            while not holds():
                self.look()
                await asyncio.sleep(0.05)


async def made(database: Database, shards: int) -> None:
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, plan(shards=shards))


async def test_pods_that_come_and_go_while_a_job_runs_cost_a_page_each_at_most(
    database: Database, tmp_path: Path
) -> None:
    documents = Documents(database).create(4200)
    await made(database, shards=6)
    with serving(seconds=0.1) as embedder:
        job = Job(database, tmp_path, embedder.url, shards=6)
        try:
            for parallelism, texts in ((1, 300), (4, 1200), (1, 1800), (4, 2600)):
                job.parallelism = parallelism
                await job.until(lambda texts=texts: embedder.asked.total() >= texts)  # type: ignore[misc]
            job.kill()
            await job.until(lambda: len(job.done) == 6)
        finally:
            job.stop()
    assert documents.rows("SELECT count(*), count(DISTINCT id), count(embedding) FROM reembed.c_new") == [(4200,) * 3]
    assert documents.rows("SELECT sum(written), sum(rejected), bool_and(done) FROM reembed.shard") == [(4200, 0, True)]
    # One that was told to end before it was up has not got as far as to say so.
    assert {STOPPED, -signal.SIGKILL} <= set(job.codes) <= {STOPPED, -signal.SIGKILL, -signal.SIGTERM}
    assert len(embedder.asked) == 4200
    assert embedder.asked.total() - 4200 <= PAGE * len(job.codes)


async def test_a_pod_that_comes_after_a_killed_one_reads_and_embeds_only_what_is_left(
    database: Database, tmp_path: Path
) -> None:
    documents = Documents(database).create(5000)
    documents.run("ANALYZE docs")
    await made(database, shards=1)
    with serving(seconds=0.02) as embedder:
        job = Job(database, tmp_path, embedder.url, shards=1)
        job.pods[0] = job.start(0)
        try:
            # In the middle of a page, with vectors that are on their way back.
            embedder.arrived = lambda total: job.pods[0].process.kill() if total >= 3700 else None
            job.pods[0].process.wait(60)
            embedder.arrived = lambda total: None
            asked, ((position, written),) = (
                embedder.asked.total(),
                documents.rows("SELECT position::int, written FROM reembed.shard"),
            )
            before = rows_read(documents)
            program = job.start(0)
            assert program.process.wait(60) == DONE
            read = rows_read(documents) - before
        finally:
            job.stop()
    assert json.loads(program.log.read_text().splitlines()[0])["message"].endswith(f"behind {position}")
    assert position == written
    assert asked - PAGE <= position <= asked
    assert embedder.asked.total() - 5000 == asked - position
    assert 5000 - position <= read <= 5000 - position + PAGE


def rows_read(documents: Documents) -> int:
    """Return how many rows of the documents' table PostgreSQL has read; sessions that ended have said all."""
    ((count,),) = documents.rows(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'docs'"
    )
    return int(count)
