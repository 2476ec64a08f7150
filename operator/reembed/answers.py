"""Reads what pods answer over HTTP: whole, or not at all."""

from __future__ import annotations

import aiohttp


async def whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body of an answer, which comes in pieces; one that does not end is none.

    Raises:
        ValueError: it has more than `most` bytes, as none of ours has.

    """
    found = bytearray()
    async for part in response.content.iter_any():
        found += part
        if len(found) > most:
            raise ValueError(f"the answer of {response.url} is longer than {most} bytes")
    return bytes(found)
