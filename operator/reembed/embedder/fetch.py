"""Brings a model file into the cache: ranged, resumed, retried, and with its SHA-256 checked while it streams.

The header is checked as soon as enough of the file is there, so a wrong file is refused before its gigabytes are paid
for. A file is written under another name and renamed once its sum is right: what bears the final name is whole. A
connection that ends early is taken up where it ended, also by the next start of this container; a server without ranges
begins again. Credentials may be part of a URI, so only its host and path are ever shown.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from reembed.core.model import Model
from reembed.embedder.gguf import HeaderIncomplete, check_header, read_header
from reembed.embedder.refusals import ChecksumMismatch, NotGGUF, Truncated, Unavailable

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
        await asyncio.to_thread(_check_local, path, model)
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
        self._digest = hashlib.sha256()
        self._header: _HeaderWatch | None = _HeaderWatch(model)

    async def run(self, retries: Retries) -> None:
        """Download until the file is whole and right."""
        resumed = await asyncio.to_thread(self._take_up)
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            await self._complete(session, retries)
            if resumed and not self._right:
                # What an earlier container left may be of another file.
                self._begin_again()
                await self._complete(session, retries)
        if not self._right:
            self.part.unlink()
            raise ChecksumMismatch(
                f"{self._shown} has sha256 {self._digest.hexdigest()} ({self._size} bytes), the pool expects "
                f"{self._model.sha256}; nothing is served: correct spec.model.sha256 in a new pool, or the file"
            )
        if self._header is not None:
            raise NotGGUF(f"{self._shown} ends within its GGUF header ({self._size} bytes); convert the model again")

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
            with self.part.open("ab") as file:
                async for block in response.content.iter_chunked(_BLOCK):
                    file.write(block)
                    self._seen(block)

    def _take_up(self) -> bool:
        """Go on with what an earlier container left; return whether there was any."""
        if not self.part.exists():
            return False
        with self.part.open("rb") as file:
            while block := file.read(_BLOCK):
                self._seen(block)
        return self._size > 0

    def _begin_again(self) -> None:
        self.part.unlink(missing_ok=True)
        self._size = 0
        self._digest = hashlib.sha256()
        self._header = _HeaderWatch(self._model)

    def _seen(self, block: bytes) -> None:
        self._size += len(block)
        self._digest.update(block)
        if self._header is not None and self._header.complete(block):
            self._header = None


class _HeaderWatch:
    """Keeps a file's beginning until its header is there and checked."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._data = bytearray()
        self._next_look = len(b"GGUF")

    def complete(self, block: bytes) -> bool:
        """Add what came; return whether the header was checked."""
        self._data += block
        if len(self._data) < self._next_look:
            return False
        try:
            header = read_header(BytesIO(self._data))
        except HeaderIncomplete:
            if len(self._data) > _MOST_HEADER:
                raise
            # Reading begins at the front each time, so look again only when there is twice as much.
            self._next_look = 2 * len(self._data)
            return False
        check_header(header, self._model)
        return True


def shown(uri: str) -> str:
    """Return a URI without user, password and query, where credentials may be."""
    url = urlsplit(uri)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _check_local(path: Path, model: Model) -> None:
    if not path.is_file():
        raise Unavailable(f"there is no file {path}; look at spec.model.uri and at what the claim holds")
    with path.open("rb") as file:
        check_header(read_header(file), model)
    found = _sum(path)
    if found != model.sha256:
        raise ChecksumMismatch(
            f"{path} has sha256 {found} ({path.stat().st_size} bytes), the pool expects {model.sha256}; nothing is "
            "served: the file may be incomplete, or spec.model.sha256 that of another"
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
