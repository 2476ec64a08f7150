"""Brings a model file into the cache: ranged, resumed, retried, and with its SHA-256 checked while it streams.

The header is checked as soon as enough of the file is there, so a wrong file is refused before its gigabytes are paid
for. A file is written under another name and renamed once its sum is right: what bears the final name is whole. A
connection that ends early is taken up where it ended, also by the next start of this container; a server without ranges
begins again. Pieces of several answers that make no right file are fetched once more in one piece, since the server may
have got another file in between. A file shorter than its own header says may yet become whole; another wrong sum is for
good. Credentials may be part of a URI, so only its host and path are ever shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from reembed.core.model import Model
from reembed.embedder.gguf import Header, HeaderIncomplete, check_header, read_header
from reembed.embedder.refusals import ChecksumMismatch, NotGGUF, PermanentRefusal, Refusal, Truncated, Unavailable

_log = logging.getLogger("reembed.embedder")

_BLOCK = 1 << 20
# A header with a vocabulary of some hundred thousand words is smaller than this.
_MOST_HEADER = 64 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
# These may pass: the request was too early or too late, or the server is in trouble.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retries:
    """How often in a row a try may bring nothing new, and the pause between tries, which doubles."""

    fruitless: int = 5
    pause: float = 0.5


async def fetch(model: Model, cache: Path, retries: Retries = Retries()) -> Path:
    """Return the path of the checked model file.

    Raises:
        Refusal: the file cannot be had or is not what the pool says; its message says what to do.

    """
    url = urlsplit(model.uri)
    if url.scheme == "file":
        path = Path(unquote(url.path))
        try:
            await asyncio.to_thread(_check_local, path, model)
        except OSError as error:
            raise Unavailable(
                f"{path} can't be read ({error.strerror}); look at the claim's volume and at the file's permissions"
            ) from error
        return path
    target = cache / f"{model.sha256}.gguf"
    if target.exists() and await asyncio.to_thread(_sum, target) == model.sha256:
        with target.open("rb") as file:
            check_header(read_header(file), model)
        return target
    download = _Download(model, target.with_suffix(".part"))
    await download.run(retries)
    download.part.rename(target)
    return target


class _Download:
    """A file on its way: what of it is on the disk, and the sum of that."""

    def __init__(self, model: Model, part: Path) -> None:
        self.part = part
        self._model = model
        self._shown = shown(model.uri)
        self._size = 0
        self._pieced = False  # together from more than one answer
        self._digest = hashlib.sha256()
        self._watch = _HeaderWatch(model)

    async def run(self, retries: Retries) -> None:
        """Download until the file is whole and right."""
        try:
            await asyncio.to_thread(self._take_up)
            async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
                await self._complete(session, retries)
                if self._pieced and not self._right:
                    self._begin_again()
                    await self._complete(session, retries)
            found = self._digest.hexdigest()
            if (fault := _fault(self._shown, self._size, found, self._watch.header, self._model)) is not None:
                raise fault
        except PermanentRefusal:
            # The next start shall not find it: by then the server may have the right file.
            self.part.unlink(missing_ok=True)
            raise

    @property
    def _right(self) -> bool:
        return self._digest.hexdigest() == self._model.sha256

    async def _complete(self, session: aiohttp.ClientSession, retries: Retries) -> None:
        """Stream until the server says that this was all."""
        fruitless = 0
        while True:
            furthest = self._size
            try:
                return await self._stream(session)
            except (aiohttp.ClientError, TimeoutError) as error:
                fruitless = 0 if self._size > furthest else fruitless + 1
                _log.warning("reading %s stopped at %d bytes: %s", self._shown, self._size, _why(error))
                if fruitless == retries.fruitless:
                    raise self._given_up(error, fruitless) from None  # the cause's text would show the whole URI
            except OSError as error:
                raise Unavailable(
                    f"{self._shown} can't be written to {self.part.parent} ({error.strerror}); the model's "
                    "volume needs room for the whole file"
                ) from error
            await asyncio.sleep(retries.pause * 2**fruitless)

    def _given_up(self, error: Exception, tries: int) -> Truncated | Unavailable:
        if self._size:
            return Truncated(
                f"{self._shown} ended after {self._size} bytes, and {tries} more tries brought nothing new "
                f"({_why(error)}); the pod tries again: look at the server"
            )
        return Unavailable(
            f"{self._shown} can't be read ({_why(error)} in {tries} tries); the pod tries again: look whether the "
            "address in spec.model.uri is right and its server runs"
        )

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        # A compressed transfer would be another sequence of bytes, and could not be taken up.
        headers = {"Accept-Encoding": "identity"}
        if self._size:
            headers["Range"] = f"bytes={self._size}-"
        async with session.get(self._model.uri, headers=headers) as response:
            if response.status == 416:
                return  # nothing is left to send
            if response.status in _PASSING:
                response.raise_for_status()
            if response.status not in {200, 206}:
                raise Unavailable(
                    f"{self._shown} answers {response.status} {response.reason}; correct spec.model.uri in a new "
                    "pool, or put the file there"
                )
            if response.status == 200:
                self._begin_again()
            self._pieced = response.status == 206
            with self.part.open("ab") as file:
                async for block in response.content.iter_chunked(_BLOCK):
                    file.write(block)
                    self._seen(block)

    def _take_up(self) -> None:
        """Go on with what an earlier container left, if it is the beginning of such a file."""
        if not self.part.exists():
            return
        try:
            with self.part.open("rb") as file:
                while block := file.read(_BLOCK):
                    self._seen(block)
        except PermanentRefusal as refusal:
            _log.warning("what was left of %s is thrown away: %s", self._shown, refusal)
            self._begin_again()
        self._pieced = self._size > 0

    def _begin_again(self) -> None:
        self.part.unlink(missing_ok=True)
        self._size = 0
        self._pieced = False
        self._digest = hashlib.sha256()
        self._watch = _HeaderWatch(self._model)

    def _seen(self, block: bytes) -> None:
        self._size += len(block)
        self._digest.update(block)
        self._watch.add(block)


class _HeaderWatch:
    """Keeps a file's beginning until its header is there and checked."""

    def __init__(self, model: Model) -> None:
        self.header: Header | None = None
        self._model = model
        self._data = bytearray()
        self._next_look = len(b"GGUF")

    def add(self, block: bytes) -> None:
        """Look at what came, unless the header is known; raises the refusal if the file is not what the pool says."""
        if self.header is not None:
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
        check_header(header, self._model)
        self.header = header
        self._data.clear()


def shown(uri: str) -> str:
    """Return a URI without user, password and query, where credentials may be."""
    url = urlsplit(uri)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _check_local(path: Path, model: Model) -> None:
    if not path.is_file():
        raise Unavailable(f"there is no file {path}; look at spec.model.uri and at what the claim holds")
    header = None
    with path.open("rb") as file, contextlib.suppress(HeaderIncomplete):
        header = read_header(file)
        check_header(header, model)
    if (fault := _fault(str(path), path.stat().st_size, _sum(path), header, model)) is not None:
        raise fault


def _fault(name: str, size: int, found: str, header: Header | None, model: Model) -> Refusal | None:
    """Return why a file is not the pool's, by its sum and its header (None if it ends within); None if it is."""
    if found == model.sha256:
        return (
            None if header else NotGGUF(f"{name} ends within its GGUF header ({size} bytes); convert the model again")
        )
    if header is None or size < header.size:
        whole = f"its GGUF header describes {header.size}" if header else "which is within its GGUF header"
        return Truncated(
            f"{name} ends after {size} bytes, {whole}; nothing is served and the pod tries again: copy the whole file "
            "there, if no copy is under way"
        )
    return ChecksumMismatch(
        f"{name} has sha256 {found} ({size} bytes), the pool expects {model.sha256}; nothing is served: correct "
        "spec.model.sha256 in a new pool, or the file"
    )


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _why(error: Exception) -> str:
    """Return what happened without the error's own text, which may name the whole URI."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"status {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _why_not_connected(error.os_error)
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def _why_not_connected(error: OSError) -> str:
    # asyncio puts its own words with the address into strerror; a resolver's errors have negative numbers.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
