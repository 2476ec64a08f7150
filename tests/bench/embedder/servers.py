"""What is measured side by side: our embedder, llama-server with each type of weights, and loops in a process."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from demo import models as build
from hack import llama_server
from hack.cache import CACHE, locked
from reembed.embedder.weights import convert
from tests.cluster.processes import free_port
from tests.fixtures.embedders import start
from tests.fixtures.models import LARGE, ModelFile

MAX_TOKENS = 256
# The best of a scan on two cores: one slot a batch of eight, batches as long as the model's context, flash attention.
_FLAGS = ("--embeddings", "--pooling", "mean", "-fa", "on", "-b", "512", "-ub", "512", "-np", "8", "-c", "4096")


def model() -> ModelFile:
    directory = CACHE / "models"
    with locked("models"):
        sums = build.build(directory)
    source = next(one for one in build.SOURCES if one.name == LARGE)
    return ModelFile(directory / source.file, sums[source.file])


@contextmanager
def ours(file: ModelFile, directory: Path, **changes: str) -> Iterator[int]:
    """Run our embedder; yield its port. Nothing is answered from memory."""
    directory.mkdir(exist_ok=True)
    settings = {"WEIGHTS": "Auto", "MAX_TOKENS": str(MAX_TOKENS), "TEXT_CACHE_BYTES": "0", **changes}
    server = start(file, directory, **settings)
    try:
        yield int(server.url.rpartition(":")[2])
    finally:
        server.stop()


@contextmanager
def llama(path: Path, cores: int) -> Iterator[int]:
    """Run llama-server with a file; yield its port."""
    port = free_port()
    threads = ("-t", str(cores), "-tb", str(cores))
    command = [llama_server.program(), "-m", path, *_FLAGS, *threads, "--port", str(port), "--log-disable"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)  # noqa: TID251 - another process; there is no event to wait on
    raise RuntimeError("llama-server does not answer")


@contextmanager
def side_by_side(cores: int) -> Iterator[dict[str, int]]:
    """Run all servers; yield their ports by name."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = model()
        converted = directory / "bf16.gguf"
        convert(file.path, converted)
        yield {
            "ours": stack.enter_context(ours(file, directory / "auto")),
            "ours, weights as in the file": stack.enter_context(ours(file, directory / "file", WEIGHTS="AsFile")),
            "llama-server, the file as it is": stack.enter_context(llama(file.path, cores)),
            "llama-server, BF16": stack.enter_context(llama(converted, cores)),
        }
