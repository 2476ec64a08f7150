"""Callers of an OpenAI-compatible server: closed loops, and an open one at a given rate. One process, little CPU.

The client is as thin as can be, since it runs on the server's cores: a kept connection each, one write, one read.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import uvloop


@dataclass
class Answers:
    """What callers saw: seconds of each answer that was 200, the others by status, and for how long they asked."""

    seconds: list[float] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    lasted: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.lasted

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.seconds, q))


class _Caller:
    def __init__(self, port: int, answers: Answers) -> None:
        self._port = port
        self._answers = answers
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, text: str) -> None:
        body = json.dumps({"input": text, "encoding_format": "base64"}).encode()
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        began = time.perf_counter()
        status = None
        while status is None:
            status = await self._once(head % len(body) + body)
        if status == 200:
            self._answers.seconds.append(time.perf_counter() - began)
        else:
            self._answers.refused[status] = self._answers.refused.get(status, 0) + 1

    async def _once(self, request: bytes) -> int | None:
        """Return the status; None if the server had closed the connection, as some do after so many requests."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
            return None
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        if b"connection: close" in head:
            self.close()
        return int(head.split()[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def closed(port: int, texts: Iterable[str], clients: int, seconds: float) -> Answers:
    """Let so many callers ask, each as soon as it was answered."""
    return uvloop.run(_closed(port, itertools.cycle(texts), clients, seconds))


async def _closed(port: int, texts: Iterator[str], clients: int, seconds: float) -> Answers:
    answers = Answers()
    began = time.perf_counter()

    async def call() -> None:
        caller = _Caller(port, answers)
        while time.perf_counter() - began < seconds:
            await caller.ask(next(texts))
        caller.close()

    await asyncio.gather(*(call() for _ in range(clients)))
    answers.lasted = time.perf_counter() - began
    return answers


def opened(port: int, text: str, rate: float, seconds: float) -> Answers:
    """Ask one text at a steady rate, whether earlier ones were answered or not."""
    return uvloop.run(_opened(port, text, rate, seconds))


async def _opened(port: int, text: str, rate: float, seconds: float) -> Answers:
    answers = Answers()
    idle: list[_Caller] = []
    began = time.perf_counter()

    async def call() -> None:
        caller = idle.pop() if idle else _Caller(port, answers)
        await caller.ask(text)
        idle.append(caller)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            group.create_task(call())
    answers.lasted = time.perf_counter() - began
    for caller in idle:
        caller.close()
    return answers
