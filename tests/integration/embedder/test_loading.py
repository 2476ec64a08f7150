"""Loading under pressure: a failing source, a full disk, little memory, pods that share a cache."""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random

import pytest

from demo.models import sha256_of
from reembed import cgroup
from reembed.core.model import Model
from reembed.embedder.breaker import State
from reembed.embedder.download import Progress
from reembed.embedder.fetch import Means, Retries, fetch
from reembed.embedder.refusals import ChecksumMismatch, Refusal, StorageFull, Unavailable
from tests.fixtures.file_server import FileServer

_FAST = Retries(fruitless=2, pause=0.001, open_seconds=0.001, openings=2)
_FETCH = """
import asyncio, sys
from pathlib import Path
from reembed.core.model import Model, Pooling
from reembed.embedder.fetch import fetch
print(asyncio.run(fetch(Model(sys.argv[1], sys.argv[2], Pooling.MEAN, 384, 256), Path(sys.argv[3]))))
"""


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _means(progress: Progress) -> Means:
    return Means(rng=Random(1), memory=lambda: cgroup.Memory(0, 1 << 30), progress=progress)


async def test_a_download_cut_in_its_middle_brings_the_other_half(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    size = len(file_server.data)
    file_server.cuts, file_server.cut_after, file_server.tagged = 1, size // 2, True
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, ["", f"bytes={size // 2}-"])


async def test_a_file_replaced_behind_the_same_address_is_not_mixed_with_the_old_one(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    new = file_server.data
    file_server.data, file_server.next_data = bytes([*new[:-1], new[-1] ^ 1]), new
    file_server.cuts, file_server.cut_after, file_server.tagged = 1, len(new) // 2, True
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, ["", f"bytes={len(new) // 2}-"])


async def test_one_wrong_byte_is_refused_and_thrown_away(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    data = bytearray(file_server.data)
    data[len(data) // 2] ^= 1
    file_server.data = bytes(data)
    with pytest.raises(ChecksumMismatch):
        await fetch(whole, tmp_path, _FAST)
    assert _names(tmp_path) == [f"{whole.sha256}.lock"]


async def test_a_source_that_fails_opens_the_breaker_and_is_told(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.statuses, progress = [503] * 100, Progress()
    with pytest.raises(Unavailable) as refusal:
        await fetch(whole, tmp_path, _FAST, _means(progress))
    assert f"{whole.uri} can't be read (status 503 in 3 tries); the circuit breaker opened 2 times" in str(
        refusal.value
    )
    # Two tries while it is closed, one while it is half open.
    assert (len(file_server.asked), progress) == (
        3,
        Progress(whole.uri, error="status 503", failures=3, openings=2, breaker=State.OPEN),
    )


async def test_a_source_that_comes_back_closes_the_breaker(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.statuses, progress = [503, 503], Progress()
    path = await fetch(whole, tmp_path, _FAST, _means(progress))
    size = len(file_server.data)
    assert (sha256_of(path), progress) == (whole.sha256, Progress(whole.uri, size, size, failures=2, openings=1))


async def test_no_room_for_the_file_is_told_before_anything_is_written(
    whole: Model, file_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = len(file_server.data) - 1
    monkeypatch.setattr("reembed.embedder.download.shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(StorageFull) as refusal:
        await fetch(whole, tmp_path, _FAST)
    assert f"{tmp_path} has {free} bytes free, {free + 1} more are needed of {whole.uri}" in str(refusal.value)


async def test_a_disk_that_fills_meanwhile_is_told_and_freed(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    # The kernel's bound on a file's size answers a write as a full disk does, with an error of its own.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(file_server.data) // 2, hard))
    try:
        with pytest.raises(StorageFull) as refusal:
            await fetch(whole, tmp_path, _FAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{tmp_path} was full after {len(file_server.data) // 2} bytes of {whole.uri}" in str(refusal.value)
    assert "more are needed; what was written is removed and the pod tries again" in str(refusal.value)
    assert _names(tmp_path) == [f"{whole.sha256}.lock"]


async def test_nothing_is_written_while_memory_is_full(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    """The limit shrinks below what is used, and grows again while the download waits."""
    looks = iter([cgroup.Memory(0, 1 << 30), *[cgroup.Memory(97, 100)] * 3])
    written: list[int] = []

    def memory() -> cgroup.Memory:
        found = next(looks, cgroup.Memory(0, 1 << 30))
        if found.limit == 100:
            written.append(sum(path.stat().st_size for path in tmp_path.glob("*.part")))
        return found

    path = await fetch(whole, tmp_path, _FAST, Means(memory=memory))
    assert (sha256_of(path), written) == (whole.sha256, [0, 0, 0])


async def test_pods_that_share_a_cache_fetch_a_file_once(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    arguments = (sys.executable, "-c", _FETCH, whole.uri, whole.sha256, str(tmp_path))
    pods = [await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE) for _ in range(3)]
    told = {(await pod.communicate())[0].decode().strip() for pod in pods}
    target = tmp_path / f"{whole.sha256}.gguf"
    assert (told, file_server.asked, sha256_of(target)) == ({str(target)}, [""], whole.sha256)


async def test_a_pod_that_dies_while_it_fetches_leaves_its_part_to_the_next(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    half, came_back, go_on = len(file_server.data) // 2, threading.Event(), threading.Event()

    def held(_: BaseHTTPRequestHandler) -> int:
        if len(file_server.asked) == 2:  # whoever was cut asks for the other half
            came_back.set()
            go_on.wait(60)
        return 0

    file_server.cuts, file_server.cut_after, file_server.tagged, file_server.guard = 1, half, True, held
    dying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _FETCH, whole.uri, whole.sha256, str(tmp_path))
    )
    assert await asyncio.to_thread(came_back.wait, 60)
    dying.kill()
    await dying.wait()
    path = await fetch(whole, tmp_path, _FAST)
    go_on.set()
    assert (sha256_of(path), file_server.asked) == (whole.sha256, ["", f"bytes={half}-", f"bytes={half}-"])


async def test_a_file_that_was_summed_is_found_without_reading_it(whole: Model, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor() as threads:  # ends when the file was brought to the disk, too
        loop.set_default_executor(threads)
        path = await fetch(whole, tmp_path, _FAST)
    loop.set_default_executor(ThreadPoolExecutor())
    record = tmp_path / f"{whole.sha256}.gguf.json"
    assert record.exists()
    # The record decides: with a wrong one the file is fetched anew.
    record.write_text(record.read_text().replace(whole.sha256, "0" * 64))
    with pytest.raises(Refusal):
        await fetch(replace(whole, uri="http://127.0.0.1:9/m.gguf"), tmp_path, _FAST)
    assert path.exists()
