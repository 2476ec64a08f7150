"""What it costs to get a model's file: memory and rate of the embedder's download, from a server on this machine.

Both the embedder's way and the plain one run in a process of their own, so that neither shares an interpreter with the
server. The model's file is made as long as a middle-sized model's by bytes behind its tensors, which its loader does
not mind: with a small one the time of opening it would be measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from demo.models import sha256_of
from hack.cache import ROOT
from reembed.core.model import Model, Pooling
from reembed.embedder.fetch import fetch
from tests.bench.embedder.figures import Figure, ratio
from tests.bench.embedder.machine import memory
from tests.fixtures.models import ModelFile

_BLOCK = 1 << 20
_SIZE = 512 << 20


def measure(file: ModelFile, rounds: int) -> dict[str, Figure | None]:
    """Return memory by the file's size, and the rate by that of a plain read with its sum, in percent."""
    with tempfile.TemporaryDirectory() as directory:
        return _measure(_lengthened(file, Path(directory) / file.path.name), rounds)


def _lengthened(file: ModelFile, target: Path) -> ModelFile:
    shutil.copyfile(file.path, target)
    with target.open("ab") as longer:
        while (missing := _SIZE - longer.tell()) > 0:
            longer.write(os.urandom(min(missing, 16 * _BLOCK)))
    return ModelFile(target, sha256_of(target))


def _measure(file: ModelFile, rounds: int) -> dict[str, Figure | None]:

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.flush()
            with file.path.open("rb") as data:
                self.connection.sendfile(data)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    size = file.path.stat().st_size
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_address[1]}/{file.path.name}"
    try:
        found = [[_in_process(way, uri, file.sha256) for way in ("fetch", "read", "copy")] for _ in range(rounds)]
    finally:
        server.shutdown()
    fetched, read, copied = ([one["seconds"] for one in side] for side in zip(*found, strict=True))
    grown = [one[0]["grown"] for one in found]
    return {
        "load_anonymous_percent": Figure(100 * max(grown) / size, 100 * min(grown) / size, 100 * max(grown) / size),
        "load_rate_percent": ratio(read, fetched, 100),
        "load_rate_of_copy_percent": ratio(copied, fetched, 100),
        "load_mib_per_second": ratio([size / _BLOCK] * rounds, fetched),
        "load_seconds": Figure(statistics.median(fetched), min(fetched), max(fetched)),
    }


def _in_process(way: str, uri: str, sha256: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.embedder.loading", way, uri, sha256]
    ended = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def _plain(uri: str, sha256: str, target: Path | None) -> dict[str, float]:
    """Read the same bytes, take their sum and perhaps write them, with nothing else."""
    began, digest, block = time.perf_counter(), hashlib.sha256(), bytearray(_BLOCK)
    url, view = urlsplit(uri), memoryview(block)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.request("GET", url.path)
    answer = connection.getresponse()
    with (target or Path("/dev/null")).open("wb", buffering=0) as file:
        while count := answer.readinto(block):
            digest.update(view[:count])
            file.write(view[:count])
    if digest.hexdigest() != sha256:
        raise ValueError(f"{uri} has the sum {digest.hexdigest()}, not {sha256}: the file was changed meanwhile")
    return {"seconds": time.perf_counter() - began, "grown": 0.0}


async def _fetch(uri: str, sha256: str, directory: Path) -> dict[str, float]:
    model = Model(uri, sha256, Pooling.MEAN, 384, 256)
    before, most, ended = _anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.005):
            most = max(most, _anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    await fetch(model, directory)
    seconds = time.perf_counter() - began
    ended.set()
    watching.join()
    return {"grown": float(max(most, _anonymous()) - before), "seconds": seconds}


def _anonymous() -> int:
    return memory(["self"])[0]


def main(way: str, uri: str, sha256: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        if way == "fetch":
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(_fetch(uri, sha256, place))
        else:
            found = _plain(uri, sha256, place / "copy" if way == "copy" else None)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:4])
