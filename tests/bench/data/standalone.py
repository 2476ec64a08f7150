"""What the embedder gives when nothing but requests is asked of it: the same texts, batches and priority as a backfill.

Bodies are encoded before the clock runs and answers are not decoded, so that the caller takes as little of the cores as
can be. As many requests are under way as two shards have.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import uvloop

from reembed.backfill.pipeline import REQUESTS
from reembed.core.batching import batch_pages, fitting

_HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"X-Reembed-Priority: %s\r\nContent-Length: %d\r\n\r\n"
)


def rate(url: str, texts: Sequence[str], seconds: float, *, shards: int, background: bool) -> float:
    """Return texts a second."""
    pages = batch_pages(0.0, 0.0)
    requests = [
        (len(some), _HEAD % (b"background" if background else b"live", len(body)) + body)
        for some in _batches(texts, pages)
        for body in [json.dumps({"input": some, "input_type": "document", "encoding_format": "base64"}).encode()]
    ]
    return uvloop.run(_rate(urlsplit(url).port or 80, requests, seconds, REQUESTS * shards))


def _batches(texts: Sequence[str], pages: int) -> Iterator[list[str]]:
    rest = list(texts)
    while rest:
        count = fitting(rest[:pages], pages)
        yield rest[:count]
        del rest[:count]


async def _rate(port: int, requests: Sequence[tuple[int, bytes]], seconds: float, callers: int) -> float:
    endless, ended = itertools.cycle(requests), list[tuple[float, int]]()
    until = time.perf_counter() + seconds

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            count, request = next(endless)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(f"the embedder answered {head[:200]!r}; with nobody else there it must not")
            ended.append((time.perf_counter(), count))
        writer.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    # Neither the first answers nor the last, which are given to fewer callers, say how fast it is.
    inside = [(at, count) for at, count in ended[callers:] if at <= until]
    return sum(count for _, count in inside[1:]) / (inside[-1][0] - inside[0][0])
