"""A receiver of hooks as a test wants it, and the real runner as its client in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from hack.cache import ROOT

SECRET = "wh-5ecret"
KEY = "uid-move/1/EachStep/0/announce"
BODY = '{"hook":"announce","when":"EachStep"}'


@dataclass(frozen=True)
class Received:
    """One call as it came."""

    headers: Mapping[str, str]
    body: bytes
    path: str


@dataclass
class Receiver:
    """Answers calls in order, the last answer for ever. A status of 0 closes the connection, -1 never answers."""

    answers: list[tuple[int, str, dict[str, str]]]
    received: list[Received] = field(default_factory=list)
    url: str = ""
    called: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(dict(request.headers), await request.read(), request.path_qs))
        self.called.set()
        status, text, headers = self.answers[min(len(self.received), len(self.answers)) - 1]
        if status == -1:
            await self.over.wait()
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 200, text=text, headers=headers)


def answer(status: int, text: str = "", **headers: str) -> tuple[int, str, dict[str, str]]:
    return status, text, {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def receiving(
    *answers: tuple[int, str, dict[str, str]], context: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Serve until the block ends."""
    receiver = Receiver(list(answers))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"{'https' if context else 'http'}://127.0.0.1:{port}/in/p4th?token=t0ken"
    try:
        yield receiver
    finally:
        receiver.over.set()
        await runner.cleanup()


@dataclass(frozen=True)
class Ended:
    """What is left of a runner."""

    code: int
    said: str  # its termination message
    logged: list[str]
    output: str  # everything it wrote anywhere


async def run_hook(directory: Path, url: str, **changed: str) -> Ended:
    """Call `url` as the pod of a hook does; `changed` are variables without their prefix."""
    process = await start_hook(directory, url, **changed)
    return await ended(process, directory)


async def start_hook(directory: Path, url: str, **changed: str) -> asyncio.subprocess.Process:
    told = {
        "NAME": "announce",
        "URL": url,
        "PAYLOAD": BODY,
        "KEY": KEY,
        "TIMEOUT": "20",
        "RETRIES": "3",
        "HMAC_SECRET": SECRET,
    } | changed
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("REEMBED_")},
        **{f"REEMBED_HOOK_{name}": value for name, value in told.items()},
        "REEMBED_TERMINATION_LOG": str(directory / "termination-log"),
        "PYTHONPATH": str(ROOT / "operator"),
    }
    command = [sys.executable, "-m", "reembed.hooks"]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)


async def ended(process: asyncio.subprocess.Process, directory: Path) -> Ended:
    out, err = (stream.decode() for stream in await process.communicate())
    assert process.returncode is not None
    said = (directory / "termination-log").read_text()
    return Ended(process.returncode, said, [json.loads(line)["message"] for line in out.splitlines()], out + err + said)
