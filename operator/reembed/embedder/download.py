"""Brings one file from a server: ranged, resumed, retried, at the pace that memory allows.

A connection that ends early is taken up where it ended, also by the next start of this container. The server is told
which version of the file the first part is from (If-Range), and begins again if it has another now; so does a server
without ranges. Where a server names no version, pieces of several answers that make no right file are fetched once more
in one piece. A source that fails again and again is left alone for a while (`embedder.breaker`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random

import aiohttp

from reembed import cgroup
from reembed.embedder import pace
from reembed.embedder.breaker import Breaker, State, pause
from reembed.embedder.part import BLOCK, Part
from reembed.embedder.refusals import StorageFull, Truncated, Unavailable
from reembed.embedder.sources import Access, request, shown

_log = logging.getLogger("reembed.embedder")

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
# These may pass: the request was too early or too late, or the server is in trouble.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_FORBIDDEN = frozenset({401, 403})
# What a full disk, a quota and a limit of a process's files answer.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Seconds between two looks at memory, and how long it may be too short to write anything.
_LOOK_EVERY = 0.25
_LONGEST_SHORTAGE = 120.0
# Blocks that are read before they are written.
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Retries:
    """How often in a row a try may bring nothing new before the breaker opens, and how often that may be.

    Between tries is a pause that doubles; an open breaker waits for `open_seconds`, each time twice as long.
    """

    fruitless: int = 5
    pause: float = 0.5
    open_seconds: float = 10.0
    openings: int = 3


@dataclass
class Progress:
    """What is told of a download while it is under way."""

    source: str = ""  # empty while nothing is fetched
    done: int = 0
    size: int = 0
    error: str = ""  # why the last try ended, until another brings something
    failures: int = 0
    openings: int = 0
    breaker: State = State.CLOSED
    bytes_per_second: float | None = None  # what memory allows; None for no bound

    def report(self) -> dict[str, str | int]:
        """Return what the operator puts into the pool's status."""
        return {
            "source": self.source,
            "done": self.done,
            "size": self.size,
            "breaker": self.breaker.value,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Means:
    """What a download is done with; a test passes its own."""

    access: Access = field(default_factory=Access)
    rng: Random = field(default_factory=Random)
    memory: Callable[[], cgroup.Memory] = cgroup.memory
    progress: Progress = field(default_factory=Progress)


class Download:
    """One file's way into `part`."""

    def __init__(self, uri: str, part: Part, retries: Retries, means: Means) -> None:
        self._uri = uri
        self._shown = shown(uri)
        self._part = part
        self._retries = retries
        self._means = means
        self._breaker = Breaker(retries.fruitless, retries.open_seconds)
        self._looked = float("-inf")

    async def run(self, right: str) -> None:
        """Download until the server says that this was all; once more in one piece if the sum is not `right`.

        Raises:
            Refusal: the file cannot be had.

        """
        self._means.progress.source = self._shown
        await asyncio.to_thread(self._part.take_up)
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT, requote_redirect_url=False, read_bufsize=BLOCK // 4
        ) as session:
            await self._complete(session)
            if self._part.pieced and self._part.sha256 != right:
                self._part.begin_again()
                await self._complete(session)

    async def _complete(self, session: aiohttp.ClientSession) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._set(self._breaker.at(clock()))
            furthest = self._part.size
            try:
                await self._stream(session)
            except (aiohttp.ClientError, TimeoutError) as error:
                new = self._part.size > furthest
                self._means.progress.failures += 1
                self._means.progress.error = "" if new else _why(error)
                self._set(self._breaker.succeeded() if new else self._breaker.failed(clock()))
                _log.warning("reading %s stopped at %d bytes: %s", self._shown, self._part.size, _why(error))
                if self._breaker.openings >= self._retries.openings:
                    raise self._given_up(error) from None  # the cause's text would show the whole URI
                await asyncio.sleep(self._wait(error, clock()))
            except OSError as error:
                raise self._unwritable(error) from error
            else:
                self._set(self._breaker.succeeded())
                return

    def _wait(self, error: Exception, now: float) -> float:
        if self._breaker.state is State.OPEN:
            return self._breaker.until - now
        return pause(self._retries.pause, self._breaker.failures, self._means.rng, _wished(error))

    def _set(self, breaker: Breaker) -> None:
        progress = self._means.progress
        if breaker.state is State.OPEN and self._breaker.state is not State.OPEN:
            progress.openings += 1
            text = "%s brought nothing in %d tries: it is left alone for %.0f seconds"
            _log.warning(text, self._shown, breaker.failures, self._breaker.rest)
        self._breaker, progress.breaker = breaker, breaker.state

    def _given_up(self, error: Exception) -> Truncated | Unavailable:
        tries = self._breaker.failures
        opened = f"the circuit breaker opened {_times(self._breaker.openings)}"
        if self._part.size:
            return Truncated(
                f"{self._shown} ended after {self._part.size} bytes, and {tries} more tries brought nothing new "
                f"({_why(error)}); {opened}; the pod tries again: look at the server"
            )
        return Unavailable(
            f"{self._shown} can't be read ({_why(error)} in {tries} tries); {opened}; the pod tries again: look "
            "whether the address in spec.model.uri is right and its server runs"
        )

    def _unwritable(self, error: OSError) -> StorageFull | Unavailable:
        directory, part = self._part.path.parent, self._part
        if error.errno not in _FULL:
            return Unavailable(
                f"{self._shown} can't be written to {directory} ({error.strerror}); look at the volume and its rights"
            )
        # A block is counted while it is written, also the one that found no room.
        written = part.path.stat().st_size if part.path.exists() else 0
        left = self._means.progress.size - written
        part.remove()  # a full disk is in the way of others, too
        return StorageFull(
            f"{directory} was full after {written} bytes of {self._shown} ({error.strerror}), {left} more are "
            "needed; what was written is removed and the pod tries again: give the cache's volume more room"
        )

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        async with await self._asked(session) as response:
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is left to send
            if response.status in _PASSING:
                response.raise_for_status()
            if response.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                raise Unavailable(f"{self._shown} answers {response.status} {response.reason}; {_advice(response)}")
            await asyncio.to_thread(self._begin, response)
            await self._write(response.content)

    async def _asked(self, session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        asked = request(self._uri, self._means.access)
        # A compressed transfer would be another sequence of bytes, and could not be taken up.
        headers = {"Accept-Encoding": "identity", **asked.headers}
        if self._part.size:
            headers["Range"] = f"bytes={self._part.size}-"
            if self._part.version:
                headers["If-Range"] = self._part.version
        return await session.get(asked.url, headers=headers, allow_redirects=asked.redirects)

    def _begin(self, response: aiohttp.ClientResponse) -> None:
        """Look what an answer holds, and whether there is room for it."""
        part, version = self._part, _version(response)
        if response.status == HTTPStatus.OK:
            part.begin_again(version)
        elif _begin_of(response) not in {part.size, None} or (part.version and version and version != part.version):
            # Not what was asked for: the next try asks for all of it.
            part.begin_again()
            raise aiohttp.ClientPayloadError
        else:
            part.pieced = True
        left = response.content_length or 0
        memory, progress = self._means.memory(), self._means.progress
        progress.done, progress.size = part.size, part.size + left
        part.keep_pages = pace.keeps_pages(progress.size, memory.used, memory.limit)
        if left > (free := shutil.disk_usage(part.path.parent).free):
            raise StorageFull(
                f"{part.path.parent} has {free} bytes free, {left} more are needed of {self._shown}; the pod tries "
                "again: give the cache's volume or the node's disk more room"
            )

    async def _write(self, content: aiohttp.StreamReader) -> None:
        """Write what comes; what came before a cut is written, too, and the next try goes on behind it."""
        ahead: asyncio.Queue[bytearray | Exception | None] = asyncio.Queue(_AHEAD)
        reading = asyncio.create_task(_read(content, ahead))
        try:
            while (block := await ahead.get()) is not None:
                if isinstance(block, Exception):
                    raise block
                await self._keep_pace(len(block))
                await self._append(block)
                self._means.progress.done += len(block)
                self._means.progress.error = ""
        finally:
            reading.cancel()

    async def _append(self, block: bytearray) -> None:
        done = asyncio.to_thread(self._part.write, block), asyncio.to_thread(self._part.add, block)
        # Both end before either's error is told: what follows must not meet a thread that is still at work.
        for error in await asyncio.gather(*done, return_exceptions=True):
            if error is not None:
                raise error

    async def _keep_pace(self, size: int) -> None:
        clock, progress = asyncio.get_running_loop().time, self._means.progress
        if clock() - self._looked >= _LOOK_EVERY:
            self._looked = clock()
            while (allowed := self._allowed()) == 0.0:
                if clock() - self._looked > _LONGEST_SHORTAGE:
                    raise self._short()
                await asyncio.sleep(_LOOK_EVERY)
            self._looked = clock()
            progress.bytes_per_second = allowed
        if progress.bytes_per_second:
            await asyncio.sleep(size / progress.bytes_per_second)

    def _allowed(self) -> float | None:
        memory = self._means.memory()
        return pace.rate(memory.used, memory.limit)

    def _short(self) -> Unavailable:
        memory = self._means.memory()
        return Unavailable(
            f"{memory.used} of {memory.limit} bytes of memory were in use for {_LONGEST_SHORTAGE:.0f} seconds before "
            f"{self._shown} was whole; the pod tries again: raise the memory limit of the pool's variant"
        )


async def _read(content: aiohttp.StreamReader, ahead: asyncio.Queue[bytearray | Exception | None]) -> None:
    """Put what comes into `ahead`, in blocks that are worth a call of a thread, and why it ended, if not well."""
    data, end = bytearray(), None
    try:
        async for piece in content.iter_any():
            data += piece
            if len(data) >= BLOCK:
                await ahead.put(data)
                data = bytearray()
    except Exception as error:  # noqa: BLE001 - raised by whoever writes, behind what came before it
        end = error
        # After a cut aiohttp raises at once, whatever it still holds; that came before the cut and counts.
        content.set_exception(None)  # type: ignore[arg-type]
        data += content.read_nowait()
    if data:
        await ahead.put(data)
    await ahead.put(end)


def _version(response: aiohttp.ClientResponse) -> str:
    """Return what names this version of a file in If-Range: an ETag that means equal bytes, or its date."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "") if not tag else ""


def _begin_of(response: aiohttp.ClientResponse) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _wished(error: Exception) -> float:
    """Return how many seconds the server asks to be left alone."""
    if not isinstance(error, aiohttp.ClientResponseError) or not error.headers:
        return 0.0
    after = error.headers.get("Retry-After", "")
    return float(after) if after.isdecimal() else 0.0


def _advice(response: aiohttp.ClientResponse) -> str:
    if response.status in _FORBIDDEN:
        return (
            "it wants to know who asks: name a Secret with credentials in spec.download.secretName, or look at what it "
            "holds and may read"
        )
    if region := response.headers.get("x-amz-bucket-region"):
        return f"the bucket is in {region}: set spec.download.region to it"
    return "correct spec.model.uri in a new pool, or put the file there"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _why(error: Exception) -> str:
    """Return what happened without the error's own text, which may name the whole URI."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"status {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _why_not_connected(error.os_error)
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def _why_not_connected(error: OSError) -> str:
    # Their numbers are not the system's.
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"it speaks no TLS that is understood: {error.reason}"
    # asyncio puts its own words with the address into strerror; a resolver's errors have negative numbers.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
