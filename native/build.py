"""`python3 build.py WHEEL SOURCES TARGET`: puts the library of tiles into a wheel of llama-cpp-python.

WHEEL is what llama-cpp-python's own build made, SOURCES its source distribution (ggml's headers are in it), TARGET
where the new wheel goes. Needs g++ and nothing but Python's own library, since it runs in containers as well. Where the
compiler or the processor's family knows no tiles the wheel is copied as it is: the embedder then computes without.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

LIBRARY = "libreembed-tiles.so"
_PLACE = "llama_cpp/lib"
# What the CPU has is asked when the library is loaded, so one build serves all.
_CPU = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512bf16", "amx-tile", "amx-bf16")
_FLAGS = ("-O3", "-std=c++17", "-Wall", "-Wno-maybe-uninitialized", "-fPIC", "-shared", "-fvisibility=hidden")
_LIBRARIES = ("libggml.so", "libggml-base.so")
_SOURCES = Path(__file__).resolve().parent


def main(wheel: Path, sources: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        if platform.machine() in {"x86_64", "AMD64"} and _compiles(place):
            _add(wheel, _library(place, wheel, sources), target / wheel.name)
        else:
            shutil.copyfile(wheel, target / wheel.name)


def _compiles(place: Path) -> bool:
    """Return whether the compiler knows what the library is made of: GCC does from version 11 on."""
    (place / "empty.cpp").write_text("")
    try:
        command = ["g++", *_machine(), "-c", place / "empty.cpp", "-o", place / "empty.o"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _machine() -> list[str]:
    return [f"-m{name}" for name in _CPU]


def _library(place: Path, wheel: Path, sources: Path) -> bytes:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place, [name for name in packed.namelist() if name.startswith(f"{_PLACE}/libggml")])
    headers = [f"-I{path}" for path in _headers(place, sources)]
    linked = [f"-L{place / _PLACE}", *(f"-l:{name}" for name in _LIBRARIES), "-Wl,-rpath,$ORIGIN"]
    made = place / LIBRARY
    subprocess.run(
        ["g++", *_FLAGS, *_machine(), *headers, *sorted(_SOURCES.glob("*.cpp")), "-o", made, *linked], check=True
    )
    return made.read_bytes()


def _headers(place: Path, sources: Path) -> list[Path]:
    with tarfile.open(sources) as package:
        wanted = [one for one in package.getmembers() if "/ggml/" in one.name and one.name.endswith(".h")]
        package.extractall(place / "sources", wanted, filter="data")
    (ggml,) = (place / "sources").glob("*/vendor/llama.cpp/ggml")
    return [ggml / "include", ggml / "src"]


def _add(wheel: Path, library: bytes, target: Path) -> None:
    """Copy a wheel with one more file, which its record lists like the others."""
    name = f"{_PLACE}/{LIBRARY}"
    digest = base64.urlsafe_b64encode(hashlib.sha256(library).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as after:
        for one in before.infolist():
            data = before.read(one)
            if one.filename.endswith(".dist-info/RECORD"):
                line = io.StringIO()
                csv.writer(line, lineterminator="\n").writerow([name, f"sha256={digest}", len(library)])
                data += line.getvalue().encode()
            after.writestr(one, data)
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o755 << 16  # pods are not root
        after.writestr(entry, library, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
