"""llama-server, to measure beside our embedder: built from the llama.cpp sources inside llama-cpp-python's own package.

`python3 -m hack.llama_server` builds it for exactly this processor, with the same kernels and flags as the wheel of
`hack.wheels`, and prints its path. It is one static program; its web page, its downloads and TLS are left out, so that
the build asks nobody for anything. About fifteen minutes on two cores, nothing when cached.
"""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

from hack import cache, packages, wheels
from hack.cache import ROOT
from hack.console import Stop, run, say

PROGRAM = "llama-server"
# The first two are those of the wheel, so that both run the same kernels; the others only leave parts out.
_FLAGS = (
    "-DGGML_NATIVE=ON",
    "-DGGML_OPENMP=OFF",
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
_TOOLS = {"g++": "g++", "cmake": "cmake", "ninja": "ninja-build"}


def program() -> Path:
    """Return the program for this machine and its processor."""
    version, key = _wanted()
    return cache.entry(PROGRAM, key, lambda place: _build(place, version)) / PROGRAM


def built() -> bool:
    """Return whether `program` has nothing to build."""
    return cache.found(PROGRAM, _wanted()[1]) is not None


def _wanted() -> tuple[str, str]:
    """Return llama-cpp-python's version and the cache's key."""
    version = wheels.pinned((ROOT / "pyproject.toml").read_text())
    return version, wheels.key(version, " ".join(_FLAGS), native=True)


def _build(place: Path, version: str) -> None:
    packages.ensure(_TOOLS, f"building {PROGRAM}")
    say(f"building {PROGRAM} from {wheels.NAME} {version}; about fifteen minutes on two cores")
    work = place / "work"
    sources, built = _sources(work, version), work / "build"
    run(["cmake", "-G", "Ninja", "-S", sources, "-B", built, *_FLAGS])
    run(["cmake", "--build", built, "--target", PROGRAM, "--parallel", str(os.cpu_count() or 1)])
    (built / "bin" / PROGRAM).rename(place / PROGRAM)
    run(["rm", "-rf", work])


def _sources(work: Path, version: str) -> Path:
    """Fetch the package's sources and return where llama.cpp is in them."""
    work.mkdir()
    with tarfile.open(wheels.sources(work, version)) as package:
        package.extractall(work, filter="data")
    return next(work.glob("*/vendor/llama.cpp"))


if __name__ == "__main__":
    try:
        print(program())
    except Stop as stop:
        sys.exit(str(stop))
