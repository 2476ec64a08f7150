"""One engine process and the pipe to it, on the server's event loop: no thread waits for the interpreter on the way.

The other end reads and writes with `multiprocessing.connection.Connection`; frames here are the same (a length of four
bytes, big-endian, and a pickled message). Both ends are this program, so what is unpickled is its own.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import cast

from reembed.embedder.board import Board
from reembed.embedder.messages import FromEngine, ToEngine

_LENGTH = struct.Struct("!i")
_ENVIRONMENT = {
    # A crash would otherwise call a debugger, if there is one, and print pages.
    "GGML_NO_BACKTRACE": "1",
    # Large buffers that llama.cpp replaces go back to the kernel; glibc would keep them from the second time on.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
}


class Link(asyncio.Protocol):
    """The server's end; `take` gets the process's messages in order."""

    def __init__(self, take: Callable[[FromEngine], None]) -> None:
        self._take = take
        self._received = bytearray()
        self._transport: asyncio.WriteTransport | None = None
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def open(cls, board: Board, take: Callable[[FromEngine], None]) -> Link:
        """Start a process that writes to `board`."""
        ours, theirs = socket.socketpair()
        link = cls(take)
        with theirs:
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            try:
                await link.run(theirs.fileno(), board.descriptor)
            except OSError:
                await link.ended()
                raise
        return link

    async def run(self, *descriptors: int) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reembed.embedder.child", *map(str, descriptors)),
            pass_fds=descriptors,
            env={**os.environ, **_ENVIRONMENT},
        )

    def send(self, message: ToEngine) -> None:
        """Send in order; a message to a process that died is lost, and `ended` says so."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_LENGTH.pack(len(data)) + data)

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> int:
        """Wait until the process is gone; return its exit status, below 0 for a signal."""
        status = await self._process.wait() if self._process is not None else 0
        if self._transport is not None:
            self._transport.close()
        return status

    async def close(self) -> None:
        self.kill()
        await self.ended()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        for message in self._messages():
            self._take(message)

    def _messages(self) -> Iterator[FromEngine]:
        begin, received = 0, self._received
        while len(received) >= begin + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, begin)
            end = begin + _LENGTH.size + length
            if len(received) < end:
                break
            with memoryview(received) as view, view[begin + _LENGTH.size : end] as frame:
                message = pickle.loads(frame)  # noqa: S301 - our own process wrote it
            yield message
            begin = end
        del received[:begin]
