"""The library of tiles is used only by CPUs that have all that it was built with, and where the kernel lets it."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from reembed.embedder import tiles

_FLAGS = frozenset({"amx_tile", "amx_bf16", "avx512_bf16", "avx512dq", "avx512bw", "avx512vl", "fpu"})


def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, built: bool = True) -> Path:
    """Have a llama_cpp, with the library or without."""
    spec = ModuleSpec("llama_cpp", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(tiles, "find_spec", lambda name: spec if name == "llama_cpp" else None)
    path = tmp_path / "lib" / "libreembed-tiles.so"
    path.parent.mkdir()
    if built:
        path.write_bytes(b"")
    return path


def test_it_lies_beside_llama_cpps_own_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _installed(tmp_path, monkeypatch)
    assert tiles.library(_FLAGS, lambda: True) == path


def test_a_pod_whose_profile_forbids_it_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, monkeypatch)
    assert tiles.library(_FLAGS, lambda: False) is None


@pytest.mark.parametrize("missing", sorted(_FLAGS - {"fpu"}))
def test_a_cpu_that_lacks_a_part_of_it_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    _installed(tmp_path, monkeypatch)
    assert tiles.library(_FLAGS - {missing}, lambda: True) is None


def test_an_image_without_it_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, monkeypatch, built=False)
    assert tiles.library(_FLAGS, lambda: True) is None


def test_where_there_is_no_llama_cpp_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "find_spec", lambda name: None)
    assert tiles.library(_FLAGS, lambda: True) is None
