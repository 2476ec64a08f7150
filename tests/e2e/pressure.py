"""Real memory pressure at an embedder, and what its metrics say of emergency protection.

A process in the embedder's own container takes memory until the container is as full as wanted by the figures that the
operator judges, and gives it back when its input ends. Nothing of the product is told, and no threshold is changed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from demo.kubectl import KEY, Kubectl, ready
from demo.measure import total

# Above the 85 % at which protection begins, below the 90 % of the rollback trigger.
SHARE = 0.88

_FILL = """
import sys
from reembed import cgroup

mapped, share = float(sys.argv[1]), float(sys.argv[2])
held = []
while (memory := cgroup.memory()).used < share * (memory.limit - mapped):
    held.append(bytearray(b"1") * (1 << 20))
print("full", flush=True)
sys.stdin.read()
"""

_BURST = """
import json, os, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(number):
    body = json.dumps({"query": f"how is file number {number} read " * 40, "k": 10}).encode()
    call = urllib.request.Request(os.environ["GATEWAY_URL"] + "/v1/search", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(call, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

callers = int(sys.argv[1])
with ThreadPoolExecutor(callers) as pool:
    print(json.dumps(list(pool.map(ask, range(callers)))))
"""


@dataclass(frozen=True, slots=True)
class Embedder:
    """What one embedder says of itself."""

    pool: str
    protected: bool
    entered: int
    turned_away: int  # requests, to come again
    background: int  # texts of background requests that it embedded


async def embedders(kubectl: Kubectl, *pools: str) -> list[Embedder]:
    """Ask every ready pod of these pools."""
    return [_told(pool, text) for pool in pools for _, text in await _metrics(kubectl, pool)]


@asynccontextmanager
async def memory_pressure(kubectl: Kubectl, pool: str) -> AsyncIterator[None]:
    """Fill a pool's first pod with memory until the block ends."""
    pod, text = (await _metrics(kubectl, pool))[0]
    mapped = total(text, "reembed_memory_mapped_bytes", {})
    fill = ["exec", "--stdin", pod, "--", "python", "-c", _FILL, str(mapped), str(SHARE)]
    command = [*kubectl.program, f"--namespace={kubectl.namespace}", *fill]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert (await process.stdout.readline()).strip() == b"full"
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def burst(kubectl: Kubectl, callers: int) -> list[int]:
    """Ask as many long queries at the same time, and return the status of each answer."""
    return list(json.loads(await kubectl.run("exec", "load", "--", "python3", "-c", _BURST, str(callers))))


async def _metrics(kubectl: Kubectl, pool: str) -> list[tuple[str, str]]:
    pods = ready(await kubectl.list("pods", f"{KEY}/pool={pool}"))
    return [(pod, await kubectl.pod(pod, "/metrics")) for pod in pods]


def _told(pool: str, text: str) -> Embedder:
    return Embedder(
        pool=pool,
        protected=total(text, "reembed_embedder_emergency", {}) == 1,
        entered=int(total(text, "reembed_embedder_emergencies_total", {})),
        turned_away=int(total(text, "reembed_embedder_requests_total", {"code": "429"})),
        background=int(total(text, "reembed_embedder_texts_total", {"priority": "background"})),
    )
