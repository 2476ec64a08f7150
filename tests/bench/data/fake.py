"""An embedder that costs next to nothing: `python -m tests.bench.data.fake PORT FINGERPRINT`.

It stands where a pool of GPUs would, whose answers no pipeline waits for. One constant vector answers every text, as
base64 or as decimal numbers, whichever is asked for; answers are made once for each number of texts, so that what is
left is to read a request and to find out how many texts it has.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import sys
from typing import cast

import numpy as np
import orjson
import uvloop

from tests.bench.data.source import DIMENSIONS

_VECTOR = np.random.default_rng(1).standard_normal(DIMENSIONS).astype("<f4")


class _Connection(asyncio.Protocol):
    """One caller; requests come one after the other, in any pieces."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._data[:end]).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._data) < end + 4 + length:
                return
            body = bytes(self._data[end + 4 : end + 4 + length])
            del self._data[: end + 4 + length]
            self._transport.write(self._answer(body))
            if b"connection: close" in head:
                self._transport.close()

    def _answer(self, body: bytes) -> bytes:
        if not body:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        asked = orjson.loads(body)
        return _answer(len(asked["input"]), asked.get("encoding_format") == "base64", self._fingerprint)


@functools.cache
def _answer(count: int, base64_wanted: bool, fingerprint: str) -> bytes:
    vector = base64.b64encode(_VECTOR.tobytes()).decode() if base64_wanted else [float(one) for one in _VECTOR]
    data = [{"object": "embedding", "index": n, "embedding": vector} for n in range(count)]
    usage = {"prompt_tokens": 64 * count, "total_tokens": 64 * count}
    said = {"object": "list", "model": fingerprint, "fingerprint": fingerprint, "data": data, "usage": usage}
    body = json.dumps({**said, "truncated": []}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _serve(port: int, fingerprint: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(fingerprint), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2]))
