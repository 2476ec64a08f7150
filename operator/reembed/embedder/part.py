"""A model file on its way: what of it is on the disk, the sum of that, and its header as soon as it is there.

A block is written by one thread and summed by another, beside the event loop. Where memory is short, what was written
is brought to the disk every few blocks: pages that are not there yet cannot be taken back. Elsewhere nobody waits for
the disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from reembed.embedder.gguf import Header, HeaderIncomplete, read_header
from reembed.embedder.refusals import PermanentRefusal

_log = logging.getLogger("reembed.embedder")

BLOCK = 1 << 20
# Bytes that may wait in the page cache for the disk.
_SYNC_EVERY = 32 << 20
# A header with a vocabulary of some hundred thousand words is smaller than this.
_MOST_HEADER = 64 << 20

Check = Callable[[Header], None]


class Part:
    """What there is of a file. `check` raises the refusal if its header is not what the pool says."""

    def __init__(self, path: Path, check: Check) -> None:
        self.path = path
        self._check = check
        self._version = path.with_suffix(".part.json")
        self.begin_empty()
        self.keep_pages = True

    def begin_empty(self) -> None:
        """Know of nothing; what is on the disk stays there."""
        self.size = 0
        self.pieced = False  # together from more than one answer
        self.version = ""  # which file it is a part of, as its server named it: an ETag or a date
        self._synced = 0
        self._digest = hashlib.sha256()
        self._header = _HeaderWatch(self._check)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def header(self) -> Header | None:
        return self._header.found

    def take_up(self) -> None:
        """Go on with what an earlier container left, if it is the beginning of such a file."""
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                while block := file.read(BLOCK):
                    self.add(block)
        except PermanentRefusal as refusal:
            _log.warning("what was left of %s is thrown away: %s", self.path.name, refusal)
            self.begin_again()
        self._synced = self.size
        self.pieced = self.size > 0
        self.version = self._known_version()

    def begin_again(self, version: str = "") -> None:
        """Throw away what there is, for an answer with the whole file of this version."""
        self.remove()
        self.begin_empty()
        self.version = version
        if version:
            self._version.write_text(json.dumps({"version": version}))

    def write(self, block: bytes | bytearray) -> None:
        """Write what follows; `add` tells of it.

        Raises:
            OSError: it cannot be written.

        """
        with self.path.open("ab", buffering=0) as file:
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
            if not self.keep_pages:
                self._sync(file.fileno(), file.tell())

    def add(self, block: bytes | bytearray) -> None:
        """Sum what follows.

        Raises:
            PermanentRefusal: the header is there now and is not what the pool says.

        """
        self.size += len(block)
        self._digest.update(block)
        self._header.add(block)

    def finish(self, target: Path) -> None:
        """Give the file its final name."""
        self.path.rename(target)
        self._version.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def _sync(self, file: int, written: int) -> None:
        if written - self._synced < _SYNC_EVERY:
            return
        os.fdatasync(file)
        os.posix_fadvise(file, 0, written, os.POSIX_FADV_DONTNEED)
        self._synced = written

    def _known_version(self) -> str:
        try:
            return str(json.loads(self._version.read_text())["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


class _HeaderWatch:
    """Keeps a file's beginning until its header is there and checked."""

    def __init__(self, check: Check) -> None:
        self.found: Header | None = None
        self._check = check
        self._data = bytearray()
        self._next_look = len(b"GGUF")

    def add(self, block: bytes | bytearray) -> None:
        """Look at what came, unless the header is known; raises the refusal if the file is not what the pool says."""
        if self.found is not None:
            return
        self._data += block
        if len(self._data) < self._next_look:
            return
        try:
            header = read_header(BytesIO(self._data))
        except HeaderIncomplete:
            if len(self._data) > _MOST_HEADER:
                raise
            # Reading begins at the front each time, so look again only when there is twice as much.
            self._next_look = 2 * len(self._data)
            return
        self._check(header)
        self.found = header
        self._data.clear()
