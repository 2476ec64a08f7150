"""Programs that only the system's package manager can give: installed with apt as root, else named in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hack.console import Stop, run, say


def ensure(packages: Mapping[str, str], purpose: str) -> None:
    """Make sure that programs (or files, by absolute path) exist; `packages` says which Debian package has each."""
    missing = sorted({package for need, package in packages.items() if not _present(need)})
    if not missing:
        return
    install = f"apt-get install {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise Stop(f"{purpose} needs what Debian calls {', '.join(missing)}: install it with this system's own tools")
    if os.geteuid() != 0:
        raise Stop(f"{purpose} needs programs that are not installed; as root: {install}")
    say(f"installing {', '.join(missing)}")
    run(["apt-get", "update", "-q"])
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], env=quiet)


def _present(need: str) -> bool:
    return Path(need).exists() if need.startswith("/") else shutil.which(need, path=_search_path()) is not None


def _search_path() -> str:
    # Some are for administrators only and lie where a plain user's PATH does not lead.
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
