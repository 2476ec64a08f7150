"""Kubernetes in one binary, built once from `kube/` and cached by a digest of its sources.

The cluster and the API server of the integration tests ask for `kubernetes()`; it takes about ten minutes and some
gigabytes of Go cache the first time and nothing afterwards. The binary runs the program it is named by its first
argument or by a link (`kubectl`, `helm`).
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from hack import cache, tools
from hack.console import Stop, run, say

_HERE = Path(__file__).resolve().parent
_SOURCES = _HERE / "kube"
_PAUSE = _HERE / "pause"
_TRIES = 3


def kubernetes() -> Path:
    """Return the binary that is all of Kubernetes."""
    return cache.entry("kube", source_key(_SOURCES), _build) / "kube"


def pause() -> Path:
    """Return the program that holds a pod's network while its containers come and go."""
    key = source_key(_PAUSE)
    return cache.entry("pause", key, lambda place: _compile(_PAUSE, place / "pause", "-s -w")) / "pause"


def source_key(sources: Path) -> str:
    """Return the key of a binary: a digest of all files that it is built from."""
    return cache.digest_files(sources, (path for path in sources.rglob("*") if path.is_file()))


def version(go_mod: str) -> str:
    """Return the Kubernetes version that a go.mod asks for, such as v1.35.4."""
    found = re.search(r"^\s+k8s\.io/kubernetes (v\d+\.\d+\.\d+)$", go_mod, re.MULTILINE)
    if found is None:
        raise ValueError("go.mod requires no k8s.io/kubernetes, so there is nothing to build")
    return found[1]


def _build(place: Path) -> None:
    release = version((_SOURCES / "go.mod").read_text())
    say(f"building Kubernetes {release}; from an empty Go cache this takes about ten minutes")
    major, minor, _ = release[1:].split(".")
    stamps = {"gitVersion": release, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())
    _compile(_SOURCES, place / "kube", f"-s -w {flags}")


def _download(sources: Path, env: dict[str, str]) -> None:
    """Fetch what is compiled; of some hundred modules one may be cut off on the way, and Go does not ask again."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(Stop):
            run([tools.go(), "mod", "download"], cwd=sources, env=env)
            return
    run([tools.go(), "mod", "download"], cwd=sources, env=env)


def _compile(sources: Path, target: Path, linker_flags: str) -> None:
    # GOTOOLCHAIN=local: the Go that was found is new enough and must not fetch another one.
    env = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    _download(sources, env)
    run([tools.go(), "build", "-trimpath", "-ldflags", linker_flags, "-o", target, "."], cwd=sources, env=env)
