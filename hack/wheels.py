"""llama-cpp-python's wheel: PyPI has only its sources, so it is built once and kept.

`python3 -m hack.wheels` makes the one for the virtual environment, for exactly this processor, and prints its path; the
cluster on this machine uses it as well if its C library is old enough for the images. `for_images` makes any other
inside a container. Five to nine minutes on two cores, nothing when cached. The library in `native/` is put into it
afterwards, which takes seconds, so that it may change without a build of all.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from hack import cache, packages
from hack.cache import ROOT
from hack.console import Stop, run, say

NAME = "llama-cpp-python"
NATIVE = ROOT / "native"
# OpenMP would add a library for threads that llama.cpp also makes itself; images and their tools are not asked for.
_FLAGS = "-DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF"
_COMPILER = {"g++": "g++", "make": "make"}
_BUILD_TOOLS = ("scikit-build-core[pyproject]", "cmake", "ninja")
# Debian 12's, on which the images stand; a program needs at least the version that it was linked with.
_IMAGES_GLIBC = (2, 36)


def llama() -> Path:
    """Return the wheel for this machine and its processor."""
    version, flags = _pinned(), _flags(native=True)
    plain = cache.entry("llama", key(version, flags, native=True), lambda place: _build(place, version, flags))
    whole = cache.digest([plain.name, _native()])
    return _wheel(cache.entry("llama-tiles", whole, lambda place: _with_tiles(place, _wheel(plain), version)))


def for_images(build: Callable[[Path, str, Path], object], *, native: bool, more: str = "") -> Path:
    """Return a wheel for the images; `build` takes sources, flags for CMake and where the wheel is to go.

    `more` is flags beside those of all images.
    """
    version, flags = _pinned(), f"{_flags(native=native)} {more}".strip()

    def make(place: Path) -> None:
        say(f"building {NAME} {version} in a container; five to nine minutes on two cores")
        _download(place / "sources", version)
        shutil.copytree(NATIVE, place / "sources" / NATIVE.name)
        build(place / "sources", flags, place)
        run(["rm", "-rf", place / "sources"])

    whole = cache.digest([key(version, flags, native=native), _native()])
    return _wheel(cache.entry("llama-images", whole, make))


def fits_images() -> bool:
    """Say whether what is built on this machine loads in the images."""
    library, version = platform.libc_ver()
    found = tuple(int(number) for number in version.split(".")[:2] if number)
    return platform.system() == "Linux" and library == "glibc" and found <= _IMAGES_GLIBC


def pinned(pyproject: str) -> str:
    """Return the version of llama-cpp-python that a pyproject.toml asks for."""
    found = re.search(r'"llama-cpp-python==([\w.]+)"', pyproject)
    if found is None:
        raise ValueError(f"pyproject.toml pins no {NAME}, so there is nothing to build")
    return found[1]


def key(version: str, flags: str, *, native: bool) -> str:
    """Return the cache key: a wheel for this very processor has the processor in it."""
    return cache.digest([version, flags, platform.machine(), _processor() if native else ""])


def sources(place: Path, version: str) -> Path:
    """Fetch the package's source distribution into a directory."""
    pip = _pip(place / "environment")
    wanted = ["--no-deps", "--no-binary", NAME, f"{NAME}=={version}"]
    run([*pip, "download", "--no-cache-dir", "--dest", place, *wanted])
    run(["rm", "-rf", place / "environment"])
    return next(place.glob("*.tar.gz"))


def _pinned() -> str:
    return pinned((ROOT / "pyproject.toml").read_text())


def _flags(*, native: bool) -> str:
    return f"-DGGML_NATIVE={'ON' if native else 'OFF'} {_FLAGS}"


def _wheel(place: Path) -> Path:
    return next(place.glob("*.whl"))


def _processor() -> str:
    """Return the processor's model and abilities as the kernel tells them."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    lines = cpuinfo.read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _build(place: Path, version: str, flags: str) -> None:
    packages.ensure(_COMPILER, f"building {NAME}")
    say(f"building {NAME} {version}; five to nine minutes on two cores")
    source = ["--no-binary", NAME, f"{NAME}=={version}"]
    options: list[str | Path] = ["--no-cache-dir", "--no-deps", "--wheel-dir", place]
    run([*_pip(place / "environment"), "wheel", *options, *source], env={"CMAKE_ARGS": flags})
    run(["rm", "-rf", place / "environment"])


def _native() -> str:
    return cache.digest_files(NATIVE, [path for path in NATIVE.iterdir() if path.is_file()])


def _with_tiles(place: Path, wheel: Path, version: str) -> None:
    packages.ensure(_COMPILER, f"building {NAME}")
    work = place / "work"
    work.mkdir()
    run([sys.executable, NATIVE / "build.py", wheel, sources(work, version), place])
    run(["rm", "-rf", work])


def _download(place: Path, version: str) -> None:
    """Fetch what a build without a network needs: the sources, and the tools for the images' own Python."""
    place.mkdir()
    sources(place, version)
    pip = _pip(place / "environment")
    machine = "aarch64" if platform.machine() in {"aarch64", "arm64"} else "x86_64"
    system = ["--python-version", "3.11", "--only-binary", ":all:", "--platform", f"manylinux_2_28_{machine}"]
    more = [f"--platform=manylinux_2_17_{machine}", f"--platform=manylinux2014_{machine}"]
    run([*pip, "download", "--dest", place, *system, *more, *_BUILD_TOOLS])
    run(["rm", "-rf", place / "environment"])


def _pip(environment: Path) -> list[str | Path]:
    run([sys.executable, "-m", "venv", environment])
    return [environment / "bin" / "python", "-m", "pip"]


if __name__ == "__main__":
    try:
        print(llama())
    except Stop as stop:
        sys.exit(str(stop))
