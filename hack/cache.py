"""The cache of what takes long to make: the Kubernetes binary, wheels, image bases. Filled once, keyed by content.

Every entry lives under ~/.cache/reembed/KIND/KEY, where KEY is a digest of all that decides its content. `entry` makes
a missing one in a temporary directory beside it and renames it, so that a killed build leaves nothing half-made behind,
and holds a lock meanwhile, so that parallel builds of the same entry make it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache" / "reembed"

# 48 bits tell the few versions that one machine ever sees apart and still fit in an image tag that people read.
_KEY_LENGTH = 12


def digest(parts: Iterable[bytes | str]) -> str:
    """Return a short digest of texts in order; no part can run into its neighbour."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()[:_KEY_LENGTH]


def digest_files(base: Path, paths: Iterable[Path]) -> str:
    """Return a short digest of files: their places below `base`, their contents and whether they can be run."""
    parts: list[bytes | str] = []
    for path in sorted(paths):
        parts += [path.relative_to(base).as_posix(), "x" if os.access(path, os.X_OK) else "-", path.read_bytes()]
    return digest(parts)


def found(kind: str, key: str) -> Path | None:
    """Return the directory of an entry if there is one."""
    place = CACHE / kind / key
    return place if place.is_dir() else None


def entry(kind: str, key: str, make: Callable[[Path], object]) -> Path:
    """Return the directory of an entry; `make` fills an empty directory if there is none yet."""
    place = CACHE / kind / key
    if place.is_dir():
        return place
    with locked(f"{kind}-{key}"):
        if place.is_dir():
            return place
        unfinished = place.with_name(f".{key}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(place)
    return place


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of this machine's user; the kernel frees it when the process ends."""
    locks = CACHE / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
