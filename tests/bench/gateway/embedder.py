"""An embedder that answers at once, in the real one's words: a program of its own, which costs little beside others.

`python -m tests.bench.gateway.embedder PORT FINGERPRINT VECTORS`: VECTORS is a file of float32 rows, and the text
"query N" has the Nth of them (other texts have the first). Answers are rendered once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import httptools
import numpy as np
import uvloop

from reembed.embedder.answers import render
from reembed.embedder.messages import Done


class Answering(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        (text,) = json.loads(self._body)["input"]
        self._body.clear()
        _, _, number = text.rpartition(" ")
        self._transport.write(self._answers[int(number) if number.isdecimal() else 0])
        if not self._parser.should_keep_alive():
            self._transport.close()


def rendered(fingerprint: str, vector: bytes) -> bytes:
    """Return a whole answer; its body is written by what writes those of embedders."""
    body = render(Done(0, vector, (9,), ()), fingerprint, base64=True)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(port: int, answers: list[bytes]) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answers), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    port, fingerprint, file = sys.argv[1:]
    rows = np.load(Path(file))
    uvloop.run(serve(int(port), [rendered(fingerprint, row.tobytes()) for row in rows]))


if __name__ == "__main__":
    main()
