"""What it costs to get a model's file: memory and rate of the embedder's download, from a server on this machine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from hack.cache import ROOT
from reembed.core.model import Model, Pooling
from reembed.embedder.fetch import fetch
from tests.fixtures.models import ModelFile

_ROUNDS = 5


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def measure(file: ModelFile) -> dict[str, float]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(file.path.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_address[1]}/{file.path.name}"
    size = file.path.stat().st_size
    try:
        pairs = [(_fetched(uri, file.sha256), _plain(uri)) for _ in range(_ROUNDS)]
    finally:
        server.shutdown()
    grown = max(one["grown"] for one, _ in pairs)
    ratios = sorted(plain / one["seconds"] for one, plain in pairs)
    return {"load_anonymous_percent": 100 * grown / size, "load_rate_percent": 100 * ratios[len(ratios) // 2]}


def _fetched(uri: str, sha256: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.embedder.loading", uri, sha256]
    ended = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def _plain(uri: str) -> float:
    """Return the seconds of reading the same bytes, writing them and taking their sum, with nothing else."""
    began, digest = time.perf_counter(), hashlib.sha256()
    with tempfile.TemporaryFile() as target, httpx.stream("GET", uri) as answer:
        for block in answer.iter_bytes(1 << 20):
            digest.update(block)
            target.write(block)
    return time.perf_counter() - began


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


async def _fetch(uri: str, sha256: str) -> dict[str, float]:
    model = Model(uri, sha256, Pooling.MEAN, 384, 256)
    before, most, ended = _anonymous(), 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, _anonymous())
            await asyncio.sleep(0.005)

    with tempfile.TemporaryDirectory() as directory:
        watching = asyncio.create_task(watch())
        began = time.perf_counter()
        await fetch(model, Path(directory))
        seconds = time.perf_counter() - began
        ended.set()
        await watching
    return {"grown": float(max(most, _anonymous()) - before), "seconds": seconds}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_fetch(sys.argv[1], sys.argv[2]))))
