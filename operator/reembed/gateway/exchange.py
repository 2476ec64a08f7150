"""What all endpoints share: reading a bounded body, noticing a caller that hung up, admission, and the form of errors.

Nothing here knows what a query is. Errors have the form of the embedder's: {"error": {"type", "message"}}.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reembed.gateway.requests import SEARCH_BYTES, too_large, too_slow

T = TypeVar("T")

# What a caller has begun to send is on its way; a slow line carries four megabytes in this time.
_BODY_SECONDS = 30.0


class HungUp(Exception):
    """The caller closed its connection before the answer was there."""


class Full(Exception):
    """As many requests as the gateway does at once are under way."""


class Admission:
    """Counts requests under way and refuses those beyond a limit, instead of letting them queue for ever."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a place for the length of the block, or raise Full."""
        if self._inside >= self._limit:
            raise Full
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


async def body(request: Request, limit: int, becomes_large: Callable[[], object]) -> bytes:
    """Return the body, or raise BadRequest as soon as it is larger than `limit` bytes or takes too long.

    `becomes_large` is called once, before more of it is held than a query may have, and may raise Full. Smaller ones
    may come from any number of callers: each connection has a buffer of this size anyway.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    received = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                if len(received) + len(chunk) > limit:
                    raise too_large(limit)
                if len(received) <= SEARCH_BYTES < len(received) + len(chunk):
                    becomes_large()
                received += chunk
    except TimeoutError:
        raise too_slow(_BODY_SECONDS) from None
    return bytes(received)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, whose request was read to its end; cancel it and raise HungUp when the caller goes away."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
            raise HungUp
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()


def error(code: int, kind: str, message: str, *, retry_after: float | None = None) -> Response:
    headers: Mapping[str, str] = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return JSONResponse({"error": {"type": kind, "message": message}}, code, headers=headers)
