"""The store worker and a backfill pod as processes, from their environment to their exit code."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reembed.stores.pgvector.keeper import Keeper
from tests.cluster import processes
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan, vector_of
from tests.integration.crds.objects import Kubectl

COLLECTION = "c_new"
STORED = "SELECT sum(written) > 0 FROM reembed.shard"


def embedder(seconds: float) -> type[BaseHTTPRequestHandler]:
    """A pool's service that answers after a while."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            time.sleep(seconds)  # noqa: TID251 a slow server, not a test that waits
            data = [
                {"index": n, "embedding": base64.b64encode(vector_of(text)).decode()} for n, text in enumerate(texts)
            ]
            body = json.dumps({"fingerprint": "fp-new", "data": data, "truncated": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving(seconds: float = 0.0) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), embedder(seconds))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start(directory: Path, process: str, **environment: str) -> processes.Program:
    command = [sys.executable, "-m", "reembed.backfill", process]
    return processes.start(process, command, directory, env={"PATH": os.environ["PATH"], **environment})


def shard(directory: Path, database: Database, url: str) -> processes.Program:
    return start(
        directory,
        "shard",
        REEMBED_DSN=database.owner_dsn,
        REEMBED_COLLECTION=COLLECTION,
        REEMBED_EMBEDDER_URL=url,
        REEMBED_FINGERPRINT="fp-new",
        JOB_COMPLETION_INDEX="0",
    )


def messages(program: processes.Program) -> list[str]:
    return [json.loads(line)["message"] for line in program.log.read_text().splitlines()]


async def made(database: Database) -> None:
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, plan(shards=1))


async def test_a_backfill_pod_fills_its_shard_and_exits_with_0(database: Database, tmp_path: Path) -> None:
    documents = Documents(database).create(100)
    await made(database)
    with serving() as url:
        program = shard(tmp_path, database, url)
        assert program.process.wait(30) == 0
    assert messages(program) == ["filling shard 0 of c_new behind None", "shard 0 of c_new is done"]
    assert documents.rows("SELECT count(*) FROM reembed.c_new") == [(100,)]


async def test_a_backfill_pod_that_is_stopped_does_not_claim_to_be_done(database: Database, tmp_path: Path) -> None:
    documents = Documents(database).create(2000)
    await made(database)
    with serving(seconds=0.2) as url:
        program = shard(tmp_path, database, url)
        try:
            processes.wait_until(lambda: documents.rows(STORED) == [(True,)], program, seconds=20)
            program.process.send_signal(signal.SIGTERM)
            assert program.process.wait(10) == 143
        finally:
            processes.stop(program)
    assert documents.rows("SELECT done FROM reembed.shard") == [(False,)]


@pytest.mark.parametrize(
    ("process", "message"),
    [
        pytest.param(
            "shard", "REEMBED_DSN, REEMBED_COLLECTION, REEMBED_EMBEDDER_URL, REEMBED_FINGERPRINT, ", id="shard"
        ),
        pytest.param("worker", "REEMBED_NAMESPACE, REEMBED_INDEX, REEMBED_DSN not set", id="worker"),
        pytest.param("other", "which process is missing: say `worker`, `shard` or `inspect`", id="no such process"),
    ],
)
def test_a_process_without_its_settings_says_which_and_exits_with_2(tmp_path: Path, process: str, message: str) -> None:
    program = start(tmp_path, process)
    assert program.process.wait(30) == 2
    assert messages(program)[0].startswith(message)


def test_an_unreadable_connection_string_is_not_logged(tmp_path: Path) -> None:
    secret = "postgresql//owner:hunter2 @db"
    program = start(
        tmp_path,
        "shard",
        REEMBED_DSN=secret,
        REEMBED_COLLECTION=COLLECTION,
        REEMBED_EMBEDDER_URL="http://127.0.0.1:9",
        REEMBED_FINGERPRINT="fp-new",
        JOB_COMPLETION_INDEX="0",
    )
    assert program.process.wait(30) == 1
    assert "hunter2" not in program.log.read_text()


INDEX = {
    "apiVersion": "reembed.dev/v1alpha1",
    "kind": "EmbeddingIndex",
    "metadata": {"name": "docs"},
    "spec": {
        "store": {
            "ownerSecretRef": {"name": "store", "key": "owner"},
            "gatewaySecretRef": {"name": "store", "key": "gateway"},
            "gatewayRole": "reembed_gateway",
        },
        "source": {"schema": "public", "table": "docs", "idColumn": "id", "textColumn": "body"},
    },
}
PLANNED = {
    "name": COLLECTION,
    "pool": "text-v2",
    "fingerprint": "fp-new",
    "dimensions": 8,
    "shards": 1,
    "desired": "Present",
}


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body; status 0 if nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def status(port: int) -> dict[str, Any]:
    code, body = get(port, "/status")
    return json.loads(body) if code == 200 else {}


def test_a_worker_follows_the_index_and_exits_with_0(
    apiserver_with_crds: Path, kube_binary: Path, namespace: str, database: Database, tmp_path: Path
) -> None:
    Documents(database).create(30)
    kubectl = Kubectl(kube_binary, apiserver_with_crds, namespace)
    kubectl.ok("apply", "-f", "-", stdin=INDEX)
    port = processes.free_port()
    program = start(
        tmp_path,
        "worker",
        KUBECONFIG=str(apiserver_with_crds),
        REEMBED_NAMESPACE=namespace,
        REEMBED_INDEX="docs",
        REEMBED_DSN=database.owner_dsn,
        REEMBED_PORT=str(port),
    )

    def until(holds: Callable[[], bool]) -> None:
        processes.wait_until(holds, program, seconds=20)

    try:
        until(lambda: get(port, "/ready")[0] == 200)
        patch = json.dumps({"status": {"plan": {"collections": [PLANNED]}}})
        kubectl.ok("patch", "embeddingindex", "docs", "--subresource=status", "--type=merge", "-p", patch)
        until(lambda: [one["state"] for one in status(port).get("collections", [])] == ["Filling"])
        until(lambda: status(port)["documents"] == 30)
        assert (status(port)["problem"], get(port, "/health")[0]) == (None, 200)
        assert b'reembed_worker_passes_total{outcome="done"}' in get(port, "/metrics")[1]
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(15) == 0
    finally:
        processes.stop(program)
    assert database.owner_dsn not in program.log.read_text()
