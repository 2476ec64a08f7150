"""A copy with BF16 weights is the file but for its weights' last bits, and it is served only where it is worth it."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.model import Model, Pooling, WeightType
from reembed.embedder import weights
from reembed.embedder.gguf import read_tensors
from reembed.embedder.node_cache import looks
from reembed.embedder.weights import Chosen, Measured, choose, convert

_MODEL = Model("file:///m.gguf", "0" * 64, Pooling.MEAN, 64, 256)


def _file(path: Path, matrix: np.ndarray) -> Path:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(512)
    writer.add_tensor("norm", np.arange(64, dtype=np.float32))
    writer.add_tensor("matrix", matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _types(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        return {tensor.name: tensor.kind for tensor in read_tensors(file)}


def _matrix(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        tensor = next(one for one in read_tensors(file) if one.name == "matrix")
        file.seek(tensor.offset)
        return np.frombuffer(file.read(tensor.length), "<u2")


def test_only_the_matrices_differ_and_by_less_than_a_256th(tmp_path: Path) -> None:
    random = np.random.default_rng(1).normal(0, 1, (600, 512)).astype(np.float16)
    source = _file(tmp_path / "a", random)
    convert(source, tmp_path / "b", tmp_path / "b.part")
    assert (_types(source), _types(tmp_path / "b")) == ({"norm": 0, "matrix": 1}, {"norm": 0, "matrix": 30})
    assert source.stat().st_size == (tmp_path / "b").stat().st_size
    found = (_matrix(tmp_path / "b").astype("<u4") << 16).view("<f4").reshape(random.shape)
    assert np.all(np.abs(found - random) <= np.abs(random.astype(np.float32)) / 256)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=64, max_size=64))
def test_numbers_are_rounded_to_the_nearest(numbers: list[float]) -> None:
    bits = np.array(numbers, "<f2").astype("<f4").view("<u4")
    rounded = (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype("<u4").view("<f4")
    below = ((bits >> 16) << 16).view("<f4").astype(np.float64)
    above = (((bits >> 16) + 1) << 16).view("<f4").astype(np.float64)
    exact = np.array(numbers)
    assert np.all(np.abs(rounded - exact) <= np.minimum(np.abs(below - exact), np.abs(above - exact)))


def test_a_disk_that_is_too_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _file(tmp_path / "a", np.ones((8, 64), np.float16))
    free = source.stat().st_size - 1
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(OSError, match="No space left on device"):
        convert(source, tmp_path / "b", tmp_path / "b.part")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_fills_during_the_conversion_is_freed(tmp_path: Path) -> None:
    source = _file(tmp_path / "a", np.ones((800, 64), np.float16))
    # The kernel's bound on a file's size answers a write as a full disk does, with an error of its own.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (source.stat().st_size // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            convert(source, tmp_path / "b", tmp_path / "b.part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_room_there_is_no_half_file(tmp_path: Path) -> None:
    source = _file(tmp_path / "a", np.ones((8, 64), np.float16))
    with pytest.raises(OSError, match="No such file"):
        convert(source, tmp_path / "none" / "b", tmp_path / "none" / "part")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


async def _chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    wanted: WeightType = WeightType.AUTO,
    cpu: str = "a CPU avx512_bf16",
    record: str | None = None,
    kind: type = np.float16,
    library: Path | None = None,
) -> tuple[Chosen, Path]:
    """Choose where an earlier start left a record and a copy of four bytes, which LOOKS in the record stands for."""
    source = _file(tmp_path / "a", np.ones((8, 64), kind))
    monkeypatch.setattr(weights, "_cpu", lambda: cpu)
    built = library.read_bytes() if library is not None else b""  # noqa: ASYNC240 - seven bytes
    copy = tmp_path / f"{_MODEL.sha256}.{weights.hashlib.sha256(cpu.encode() + built).hexdigest()[:8]}.bf16.gguf"
    copy.write_bytes(b"copy")
    if record is not None:
        copy.with_suffix(".json").write_text(record.replace('"LOOKS"', json.dumps(looks(copy))))
        tiles = copy.with_name(copy.name.replace(".bf16.gguf", ".tiles.json"))
        tiles.write_text(record.replace('"LOOKS"', json.dumps(looks(source))))
    return await choose(source, _MODEL, tmp_path, wanted, library), copy


def _library(tmp_path: Path) -> Path:
    path = tmp_path / "tiles.so"
    path.write_bytes(b"library")
    return path


async def test_what_an_earlier_start_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.dumps({"ratio": 1.4, "cosine": 0.9999, "tiles": False, "copy": "LOOKS"})
    found, copy = await _chosen(tmp_path, monkeypatch, record=record)
    assert found == Chosen(copy, "BF16", Measured(1.4, 0.9999))


async def test_a_copy_that_was_changed_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_measure", _measured)
    record = json.dumps(
        {"ratio": 1.4, "cosine": 0.9999, "tiles": False, "copy": {"size": 4, "mtime_ns": 1, "inode": 1}}
    )
    found, copy = await _chosen(tmp_path, monkeypatch, record=record)
    assert found == Chosen(copy, "BF16", Measured(1.5, 1.0))


async def _measured(*_: object) -> Measured:
    return Measured(1.5, 1.0)


@pytest.mark.parametrize(("ratio", "cosine"), [(1.04, 1.0), (2.0, 0.998), (2.0, 0.0)])
async def test_a_copy_that_is_hardly_faster_or_gives_other_vectors_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, cosine: float
) -> None:
    record = json.dumps({"ratio": ratio, "cosine": cosine, "tiles": False, "copy": None})
    found, _ = await _chosen(tmp_path, monkeypatch, record=record)
    assert found == Chosen(tmp_path / "a", "F16", Measured(ratio, cosine))


@pytest.mark.parametrize("used", [True, False])
async def test_tiles_compute_where_they_were_measured_and_the_kernel_let_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    library, record = _library(tmp_path), json.dumps({"ratio": 5.0, "cosine": 0.9999, "tiles": used, "copy": "LOOKS"})
    found, copy = await _chosen(tmp_path, monkeypatch, record=record, library=library)
    assert found == Chosen(copy, "BF16", Measured(5.0, 0.9999, used), library if used else None)


async def test_a_file_that_is_not_copied_is_served_itself_by_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, record = _library(tmp_path), json.dumps({"ratio": 1.3, "cosine": 1.0, "tiles": True, "copy": "LOOKS"})
    found, _ = await _chosen(tmp_path, monkeypatch, record=record, library=library, kind=np.float32)
    assert found == Chosen(tmp_path / "a", "F32", Measured(1.3, 1.0, True), library)


async def test_a_file_that_is_to_be_served_as_it_is_knows_no_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = await _chosen(tmp_path, monkeypatch, library=_library(tmp_path), wanted=WeightType.AS_FILE)
    assert found == Chosen(tmp_path / "a", "F16")


async def test_a_file_that_tiles_are_not_worth_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, library = _file(tmp_path / "a", np.ones((8, 64), np.float32)), _library(tmp_path)
    other = weights._other(source, _MODEL, tmp_path, library, copied=False)
    weights._write(other, Measured(1.0, 1.0, True))
    found, _ = await _chosen(tmp_path, monkeypatch, cpu=weights._cpu(), library=library, kind=np.float32)
    assert (source.exists(), found) == (True, Chosen(source, "F32", Measured(1.0, 1.0, True)))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({"wanted": WeightType.AS_FILE}, "F16", id="asked for"),
        pytest.param({"cpu": "a CPU"}, "F16", id="CPU"),
        pytest.param({"kind": np.float32}, "F32", id="type"),
    ],
)
async def test_the_file_is_served_as_it_is_where_nothing_else_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], kind: str
) -> None:
    found, _ = await _chosen(tmp_path, monkeypatch, **changes)  # type: ignore[arg-type]
    assert found == Chosen(tmp_path / "a", kind)


async def test_a_model_that_cannot_be_measured_is_served_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, copy = await _chosen(tmp_path, monkeypatch, record="{ half a rec")
    assert (found, copy.with_suffix(".json").read_text()) == (Chosen(tmp_path / "a", "F16"), "{ half a rec")
