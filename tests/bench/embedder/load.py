"""Callers of an OpenAI-compatible server: closed loops, and an open one at a given rate. One process, little CPU.

The client is as thin as can be, since it runs on the server's cores: a kept connection each, one write, one read. What
is counted began when all callers were already at work: neither the first answers nor the last ones, which are given
with fewer callers, say how fast a server is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import uvloop

_HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

# Seconds beyond those that are measured, for a server that is slow to begin.
_PATIENCE = 20.0


@dataclass
class Answers:
    """What callers saw: seconds of each answer that was 200, the others by status, and for how long they asked.

    `cpu` is what the callers themselves took of one core, in percent.
    """

    seconds: list[float] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    lasted: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.lasted if self.lasted else 0.0

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.seconds, q)) if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: when it was asked for, when it was there, and its status."""

    began: float
    ended: float
    status: int


def counted(answered: Sequence[Answered], clients: int, seconds: float) -> Answers:
    """Return what came within `seconds` from when as many answers as there are callers were there.

    The span ends with its last answer: many come at once where a server computes them together, and a span that ends
    just before would count too few.
    """
    ordered = sorted(answered, key=lambda one: one.ended)
    if len(ordered) <= clients:
        return Answers()
    first = ordered[clients - 1].ended
    inside = [one for one in ordered[clients:] if one.ended <= first + seconds]
    refused = Counter(one.status for one in inside if one.status != 200)
    times = [one.ended - one.began for one in inside if one.status == 200]
    return Answers(times, dict(refused), inside[-1].ended - first if inside else 0.0)


class _Caller:
    def __init__(self, port: int, answered: list[Answered]) -> None:
        self._port = port
        self._answered = answered
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, text: str) -> None:
        body = json.dumps({"input": text, "encoding_format": "base64"}).encode()
        began = time.perf_counter()
        status = None
        while status is None:
            status = await self._once(_HEAD % len(body) + body)
        self._answered.append(Answered(began, time.perf_counter(), status))

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


def closed(port: int, texts: Sequence[str], clients: int, seconds: float) -> Answers:
    """Let so many callers ask, each as soon as it was answered."""
    return uvloop.run(_closed(port, texts, clients, seconds))


async def _closed(port: int, texts: Sequence[str], clients: int, seconds: float) -> Answers:
    answered: list[Answered] = []
    endless = itertools.cycle(texts)
    began, cpu = time.perf_counter(), time.process_time()

    def enough() -> bool:
        if time.perf_counter() > began + seconds + _PATIENCE:
            return True
        return len(answered) >= clients and answered[-1].ended > answered[clients - 1].ended + seconds

    async def call() -> None:
        caller = _Caller(port, answered)
        while not enough():
            await caller.ask(next(endless))
        caller.close()

    await asyncio.gather(*(call() for _ in range(clients)))
    found = counted(answered, clients, seconds)
    found.cpu = 100 * (time.process_time() - cpu) / (time.perf_counter() - began)
    return found


def opened(port: int, texts: Iterable[str], dues: Sequence[float]) -> Answers:
    """Ask at given times, in seconds from now, whether earlier texts were answered or not.

    A time counts from when its text was due, so that no answer hides how late the next one was asked for.
    """
    return uvloop.run(_opened(port, texts, dues))


async def _opened(port: int, texts: Iterable[str], dues: Sequence[float]) -> Answers:
    answered: list[Answered] = []
    idle: list[_Caller] = []
    began = time.perf_counter()

    async def call(text: str) -> None:
        caller = idle.pop() if idle else _Caller(port, answered)
        await caller.ask(text)
        idle.append(caller)

    async with asyncio.TaskGroup() as group:
        for due, text in zip(dues, itertools.cycle(texts), strict=False):
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            group.create_task(call(text))
    for caller in idle:
        caller.close()
    refused = Counter(one.status for one in answered if one.status != 200)
    return Answers(
        [one.ended - one.began for one in answered if one.status == 200],
        dict(refused),
        time.perf_counter() - began,
    )
