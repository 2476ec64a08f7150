"""The directory of model files, which pods of one node or of one claim may share.

A file is fetched by whoever holds its lock; the others wait and find it. The lock is the kernel's, so that it is free
as soon as its holder is gone, however it went. A file whose sum was right is not summed again: a record beside it says
what it looked like then (size, time of its last change, inode), and any difference costs another sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_log = logging.getLogger("reembed.embedder")

_LOOK_EVERY = 0.2
# What file systems answer that know no locks.
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[bool]:
    """Hold a lock file; yield whether it keeps others out, which a file system without locks does not.

    Waiting is by looking again: a thread that waits in the kernel could not be told to end.

    Raises:
        OSError: the directory cannot be written.

    """
    with path.open("a") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    _log.info("another pod fetches %s; this one waits for it", path.stem)
                told = True
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise
                _log.warning("%s knows no locks: pods that share it may fetch a model twice", path.parent)
                yield False
                return
            else:
                yield True
                return
            await asyncio.sleep(_LOOK_EVERY)


def sum_of(path: Path, record: Path) -> str:
    """Return a file's sum: the recorded one, if the file looks as it did then.

    Raises:
        OSError: the file cannot be read.

    """
    now = looks(path)
    try:
        known = json.loads(record.read_text())
        if isinstance(known, dict) and {name: known.get(name) for name in now} == now:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError):
        pass
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        # As it was when it was opened: what changed meanwhile is summed again the next time.
        remember(path, record, found, now)
    return found


def remember(path: Path, record: Path, sha256: str, found: dict[str, int] | None = None) -> None:
    """Keep a file's sum; where it cannot be kept, the next start sums the file again."""
    written = {**(found or looks(path)), "sha256": sha256}
    part = record.with_suffix(f".{os.getpid()}.tmp")
    try:
        part.write_text(json.dumps(written))
        part.replace(record)
    except OSError as error:
        _log.warning("the sum of %s cannot be kept (%s): the next start takes it again", path.name, error.strerror)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def looks(path: Path) -> dict[str, int]:
    """Return what a file that is changed has another of; raises OSError if there is none."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
