"""Deaths that nobody is told of before: of a pod, and of the engine inside one."""

from __future__ import annotations

import asyncio

from demo.kubectl import KEY, Kubectl, ready
from demo.measure import total

_ENGINE = b"reembed.embedder.child"
_KILL_ENGINE = f"""
import os, signal
from pathlib import Path

running = {{int(path.name): (path / "cmdline").read_bytes().split(b"\\0") for path in Path("/proc").glob("[0-9]*")}}
(engine,) = [number for number, words in running.items() if {_ENGINE!r} in words]
os.kill(engine, signal.SIGKILL)
"""


async def pods(kubectl: Kubectl, pool: str) -> list[str]:
    """Return a pool's ready pods."""
    return sorted(ready(await kubectl.list("pods", f"{KEY}/pool={pool}")))


async def kill_pod(kubectl: Kubectl, pod: str) -> None:
    await kubectl.run("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


async def kill_engine(kubectl: Kubectl, pod: str) -> None:
    await kubectl.run("exec", pod, "--", "python", "-c", _KILL_ENGINE)


async def then_all_are_back(kubectl: Kubectl, pool: str, hurt: str, count: int, seconds: int) -> None:
    """Wait until the pool has its pods again, the one with the killed engine among them, with another engine."""
    async with asyncio.timeout(seconds):
        while True:
            found = await pods(kubectl, pool)
            if len(found) == count and hurt in found:
                break
            await asyncio.sleep(0.5)
    assert total(await kubectl.pod(hurt, "/metrics"), "reembed_embedder_child_restarts_total", {}) == 1
