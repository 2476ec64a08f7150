"""A file's sum is taken once, and again after any change; one of two writers waits."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from reembed.embedder.node_cache import held, remember, sum_of


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_sum_that_was_taken_is_not_taken_again(tmp_path: Path) -> None:
    file, record = tmp_path / "m.gguf", tmp_path / "m.json"
    file.write_bytes(b"one")
    remember(file, record, "what was found")
    assert sum_of(file, record) == "what was found"


def test_a_file_that_changed_is_summed_again(tmp_path: Path) -> None:
    file, record = tmp_path / "m.gguf", tmp_path / "m.json"
    file.write_bytes(b"one")
    first = sum_of(file, record)
    before = file.stat()
    file.write_bytes(b"two")  # of the same size, and as if at the same time
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (first, sum_of(file, record)) == (_sum(b"one"), _sum(b"two"))


def test_another_file_in_its_place_is_summed_again(tmp_path: Path) -> None:
    file, other, record = tmp_path / "m.gguf", tmp_path / "o.gguf", tmp_path / "m.json"
    file.write_bytes(b"one")
    sum_of(file, record)
    stat = file.stat()
    other.write_bytes(b"two")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert sum_of(file, record) == _sum(b"two")


def test_a_damaged_record_costs_another_sum(tmp_path: Path) -> None:
    file, record = tmp_path / "m.gguf", tmp_path / "m.json"
    file.write_bytes(b"one")
    found = []
    for damaged in (b"", b"[]", b"{}", b"\xff"):
        record.write_bytes(damaged)
        found.append(sum_of(file, record))
    assert set(found) == {_sum(b"one")}


async def test_who_comes_second_waits_until_the_first_is_done(tmp_path: Path) -> None:
    told: list[str] = []

    async def one(name: str) -> None:
        async with held(tmp_path / "m.lock") as alone:
            told.append(f"{name} {alone}")
            await asyncio.sleep(0)
            told.append(f"{name} done")

    await asyncio.gather(one("first"), one("second"))
    assert told == ["first True", "first done", "second True", "second done"]
