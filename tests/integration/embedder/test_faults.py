"""Whatever breaks, whoever asks gets vectors, or 503 with when to come back: pod, download, disk, file, limit.

An engine that is killed is in `test_life`, what a gateway's caller sees in `tests/integration/gateway/test_faults.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from reembed.client import EmbedderClient, EmbedderUnavailable
from reembed.core.model import InputType
from reembed.embedder import weights
from tests.fixtures.embedders import FINGERPRINT, Embedder, Start, eventually
from tests.fixtures.file_server import FileServer
from tests.fixtures.models import SMALL, ModelFile

_ANSWER = (200, None)
_COME_BACK = (503, "1")


class _Caller:
    """Asks again and again; `told` has each answer's status and when to come back."""

    def __init__(self, url: str) -> None:
        self.told: list[tuple[int, str | None]] = []
        self._url = url
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(timeout=60) as http:
            while not self._ended.wait(0.02):
                with contextlib.suppress(httpx.TransportError):  # nobody listens yet, or no more
                    answer = http.post(f"{self._url}/v1/embeddings", json={"input": "a query"})
                    self.told.append((answer.status_code, answer.headers.get("Retry-After")))

    def end(self) -> None:
        self._ended.set()
        self.thread.join()


@contextmanager
def _asked(server: Embedder) -> Iterator[_Caller]:
    caller = _Caller(server.url)
    caller.thread.start()
    try:
        yield caller
    finally:
        caller.end()


@pytest.fixture
def held(file_server: FileServer, models: dict[str, ModelFile]) -> threading.Event:
    """Serve the small model once the event is set, so that a caller is there before anything goes wrong."""
    go_on = threading.Event()
    file_server.data = models[SMALL].path.read_bytes()
    file_server.guard = lambda _: 0 if go_on.wait(60) else 500
    return go_on


def _ends(server: Embedder, held: threading.Event) -> tuple[int, str, set[tuple[int, str | None]]]:
    """Let a download begin; return how the process ended, why, and what its callers were told."""
    with _asked(server) as caller:
        eventually(lambda: bool(caller.told), server.log.read_text, server.process)
        held.set()
        status, said = server.ended()
    return status, said["reason"], set(caller.told)


def test_a_download_that_is_cut_at_half_costs_its_callers_nothing_but_time(
    embedder: Start, file_server: FileServer, held: threading.Event
) -> None:
    file_server.cuts, file_server.cut_after, file_server.tagged = 1, len(file_server.data) // 2, True
    server = embedder(wait=False, MODEL_URI=file_server.url)
    with _asked(server) as caller:
        eventually(lambda: bool(caller.told), server.log.read_text, server.process)
        held.set()
        eventually(lambda: _ANSWER in caller.told, server.log.read_text, server.process)
    assert (set(caller.told), len(file_server.asked)) == ({_ANSWER, _COME_BACK}, 2)


def test_a_wrong_byte_is_served_to_nobody(embedder: Start, file_server: FileServer, held: threading.Event) -> None:
    middle = len(file_server.data) // 2
    file_server.data = (
        file_server.data[:middle] + bytes([file_server.data[middle] ^ 1]) + file_server.data[middle + 1 :]
    )
    server = embedder(wait=False, MODEL_URI=file_server.url)
    assert _ends(server, held) == (2, "ModelChecksumMismatch", {_COME_BACK})


def test_a_disk_that_fills_is_told_to_callers_as_a_model_that_is_not_there(
    embedder: Start, file_server: FileServer, held: threading.Event
) -> None:
    # The process inherits the bound on a file's size, which answers a write as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(file_server.data) // 2, hard))
    try:
        server = embedder(wait=False, MODEL_URI=file_server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _ends(server, held) == (3, "ModelStorageFull", {_COME_BACK})


def test_a_limit_that_was_lowered_below_the_plan_kills_nobody(
    embedder: Start, file_server: FileServer, held: threading.Event
) -> None:
    server = embedder(wait=False, limit=100, MODEL_URI=file_server.url)
    assert _ends(server, held) == (2, "MemoryInsufficient", {_COME_BACK})


@pytest.mark.parametrize("damage", ["model", "copy"])
def test_a_byte_that_changed_in_the_cache_is_found_at_the_next_start(
    embedder: Start, models: dict[str, ModelFile], file_server: FileServer, tmp_path: Path, damage: str
) -> None:
    if damage == "copy" and "bf16" not in weights._cpu():
        pytest.skip("this CPU does not multiply BF16 in hardware")
    file_server.data = models[SMALL].path.read_bytes()
    shared = {"MODEL_URI": file_server.url, "CACHE_DIR": str(tmp_path), "WEIGHTS": "Auto"}
    first = embedder(**shared)
    expected = first.vectors(["a query"])
    first.stop()
    name = "*.bf16.gguf" if damage == "copy" else f"{models[SMALL].sha256}.gguf"
    for path in tmp_path.glob(name):  # there is no copy where it was not worth it
        with path.open("r+b") as file:
            file.seek(-1000, 2)
            file.write(bytes(500))
    server = embedder(wait=False, **shared)
    with _asked(server) as caller:
        eventually(lambda: _ANSWER in caller.told, server.log.read_text, server.process)
    assert set(caller.told) <= {_ANSWER, _COME_BACK}
    assert np.sum(expected * server.vectors(["a query"])) >= 0.999
    assert len(file_server.asked) == (2 if damage == "model" else 1)


class _Service:
    """Hands each connection to a pod that takes it, in turns, as the kernel does for a Service."""

    def __init__(self, urls: Sequence[str]) -> None:
        ports = [int(url.rpartition(":")[2]) for url in urls]
        self._turns = itertools.cycle([ports[turn:] + ports[:turn] for turn in range(len(ports))])

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in next(self._turns):
            with contextlib.suppress(OSError):
                pod_reader, pod_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, pod_writer), _copy(pod_reader, writer))
                return
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def _service(urls: Sequence[str]) -> AsyncIterator[EmbedderClient]:
    service = _Service(urls)
    async with await asyncio.start_server(service.take, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        client = EmbedderClient(f"http://127.0.0.1:{port}", fingerprint=FINGERPRINT, timeout=60)
        try:
            yield client
        finally:
            await client.close()


async def test_a_killed_pod_costs_queries_under_way_at_most_and_none_after_them(embedder: Start) -> None:
    pods = [embedder(), embedder()]
    async with _service([pod.url for pod in pods]) as client:

        async def ask(number: int) -> int:
            try:
                return len((await client.embed([f"query {number}"] * 4, InputType.QUERY)).vectors)
            except EmbedderUnavailable:  # which a gateway answers from the other side, or with 503
                return 503

        under_way = [asyncio.create_task(ask(number)) for number in range(32)]
        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        pods[0].process.kill()
        assert set(await asyncio.gather(*under_way)) <= {4, 503}
        await asyncio.to_thread(pods[0].process.wait)  # what ends still takes connections
        assert set(await asyncio.gather(*map(ask, range(32, 64)))) == {4}
