"""Brings a model file into the cache: ranged, resumed, retried, and with its SHA-256 checked while it streams.

The header is checked as soon as enough of the file is there, so a wrong file is refused before its gigabytes are paid
for. A file is written under another name and renamed once its sum is right: what bears the final name is whole. A
connection that ends early is taken up where it ended; a server without ranges begins again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from reembed.core.model import Model
from reembed.embedder.gguf import MAGIC, check_header, read_header
from reembed.embedder.refusals import ChecksumMismatch, NotGGUF, Refusal, Truncated, Unavailable

_LOGGER = logging.getLogger("reembed.embedder")

_BLOCK = 1 << 20
# A header with its vocabulary of some hundred thousand words is smaller than this.
_HEADER = 16 << 20
_TRIES = 6
_PAUSE_SECONDS = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a cut or refused download is taken up again, with a pause that doubles."""

    tries: int = _TRIES
    pause: float = _PAUSE_SECONDS


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
        _check_whole_header(target, model)
        return target
    part = target.with_suffix(".part")
    await _download(model, part, retries)
    part.rename(target)
    return target


async def _download(model: Model, part: Path, retries: Retries) -> None:
    """Stream the file into `part`, taking it up again after each cut."""
    last: Exception | None = None
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        for number in range(retries.tries):
            if number:
                await asyncio.sleep(retries.pause * 2 ** (number - 1))
            try:
                await _stream(session, model, part)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                last = error
                _LOGGER.warning("download of %s was cut at %d bytes: %r", model.uri, _size(part), error)
                continue
            return _finish(model, part)
    got = _size(part)
    if got:
        raise Truncated(
            f"{model.uri} ended at {got} bytes in each of {retries.tries} tries; check the server"
        ) from last
    raise Unavailable(f"{model.uri} cannot be read ({last!r}) in {retries.tries} tries; check the address") from last


async def _stream(session: aiohttp.ClientSession, model: Model, part: Path) -> None:
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with session.get(model.uri, headers=headers) as response:
        if response.status == 416:  # nothing is left to send
            return
        response.raise_for_status()
        mode = "ab" if response.status == 206 else "wb"
        with part.open(mode) as file:
            checked = have > 0 and mode == "ab"
            async for block in response.content.iter_chunked(_BLOCK):
                file.write(block)
                if not checked:
                    file.flush()
                    checked = _check_beginning(part, model)


def _finish(model: Model, part: Path) -> None:
    _check_whole_header(part, model)
    found = _sum(part)
    if found != model.sha256:
        size = part.stat().st_size
        part.unlink()
        raise ChecksumMismatch(
            f"{model.uri} has sha256 {found} ({size} bytes), the pool expects {model.sha256}; correct "
            "spec.model.sha256 in a new pool, or serve the right file"
        )


def _check_beginning(part: Path, model: Model) -> bool:
    """Check the header if enough of the file is there; return whether it was."""
    with part.open("rb") as file:
        data = file.read(_HEADER)
    if len(data) < len(MAGIC):
        return False
    if not data.startswith(MAGIC):
        part.unlink()
        raise NotGGUF(
            f"{model.uri} begins with {data[:4]!r}, a GGUF file with {MAGIC!r}; convert the model to GGUF first"
        )
    try:
        header = read_header(BytesIO(data))
    except NotGGUF:
        return len(data) >= _HEADER  # more of it may come
    check_header(header, model)
    return True


def _check_local(path: Path, model: Model) -> None:
    if not path.is_file():
        raise Unavailable(f"there is no file {path}; check spec.model.uri and what the claim holds")
    _check_whole_header(path, model)
    found = _sum(path)
    if found != model.sha256:
        raise ChecksumMismatch(
            f"{path} has sha256 {found} ({path.stat().st_size} bytes), the pool expects {model.sha256}; the file may "
            "be incomplete, or spec.model.sha256 that of another"
        )


def _check_whole_header(path: Path, model: Model) -> None:
    with path.open("rb") as file:
        check_header(read_header(file), model)


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


__all__ = ["Refusal", "Retries", "fetch"]
