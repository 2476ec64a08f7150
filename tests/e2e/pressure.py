"""Real memory pressure at an embedder, and what its metrics say of emergency protection.

A process in the embedder's own container takes memory, at once until the container is as full as wanted by the figures
that the operator judges, or so much a second without any end, and gives it back when its input ends. Nothing of the
product is told, and no threshold is changed. What goes on growing is killed at the container's limit, as any leak is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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

# Says every second how full the container is; a line of input ends the growth, the end of input everything.
_GROW = """
import select, sys
from reembed import cgroup

mapped, per_second = float(sys.argv[1]), int(sys.argv[2])
held, growing = [], True
while True:
    memory = cgroup.memory()
    print(memory.used / (memory.limit - mapped), flush=True)
    if select.select([sys.stdin], [], [], 1.0)[0]:
        if not sys.stdin.readline():
            break
        growing = False
    if growing:
        held.append(bytearray(b"1") * per_second)
"""

# The kernel's own count, in cgroup v1 or v2: it counts processes whose end no container's status tells.
_OUT_OF_MEMORY = """
from pathlib import Path

files = [Path("/sys/fs/cgroup", name) for name in ("memory/memory.oom_control", "memory.events")]
lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
(kills,) = [int(line[1]) for line in lines if line[0] == "oom_kill"]
print(kills)
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


@dataclass(slots=True)
class Growth:
    """Memory of one pod that grows: shares of its limit as the operator counts them, each with when it was heard."""

    pod: str
    stdin: asyncio.StreamWriter
    heard: list[tuple[float, float]] = field(default_factory=list)

    @property
    def peak(self) -> float:
        return max(share for _, share in self.heard)

    def passed(self, share: float) -> float | None:
        """Return when it was first so full, by the event loop's clock."""
        return next((at for at, found in self.heard if found >= share), None)

    async def until(self, share: float, seconds: int) -> None:
        async with asyncio.timeout(seconds):
            while True:
                if self.passed(share) is not None:
                    return
                await asyncio.sleep(0.2)

    def hold(self) -> None:
        """Keep what is there, and take no more."""
        self.stdin.write(b"hold\n")

    async def hear(self, told: asyncio.StreamReader) -> None:
        clock = asyncio.get_running_loop().time
        async for line in told:
            self.heard.append((clock(), float(line)))


async def embedders(kubectl: Kubectl, *pools: str) -> list[Embedder]:
    """Ask every ready pod of these pools."""
    return [_told(pool, text) for pool in pools for _, text in await _metrics(kubectl, pool)]


@asynccontextmanager
async def memory_pressure(kubectl: Kubectl, pool: str) -> AsyncIterator[None]:
    """Fill a pool's first pod with memory until the block ends."""
    pod, mapped = await _first(kubectl, pool)
    process = await _inside(kubectl, pod, _FILL, str(mapped), str(SHARE))
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert (await process.stdout.readline()).strip() == b"full"
        yield
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def growing(kubectl: Kubectl, pool: str, mib_per_second: float) -> AsyncIterator[Growth]:
    """Have the memory of a pool's first pod grow until the block ends, or the pod does."""
    pod, mapped = await _first(kubectl, pool)
    process = await _inside(kubectl, pod, _GROW, str(mapped), str(int(mib_per_second * (1 << 20))))
    assert process.stdin is not None
    assert process.stdout is not None
    growth = Growth(pod, process.stdin)
    hearing = asyncio.create_task(growth.hear(process.stdout))
    try:
        yield growth
    finally:
        process.stdin.close()
        await process.wait()
        await hearing


async def _first(kubectl: Kubectl, pool: str) -> tuple[str, float]:
    """Return a pool's first ready pod and how many bytes it maps."""
    pod, text = (await _metrics(kubectl, pool))[0]
    return pod, total(text, "reembed_memory_mapped_bytes", {})


async def _inside(kubectl: Kubectl, pod: str, program: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start a program in a pod's container."""
    words = ("exec", "--stdin", pod, "--", "python", "-c", program, *arguments)
    command = [*kubectl.program, f"--namespace={kubectl.namespace}", *words]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)


async def then_nobody_ran_out_of_memory(kubectl: Kubectl, pool: str) -> None:
    """Look at all pods that the pool has now: containers that ended, engines that did, and what the kernel counted."""
    pods = await kubectl.list("pods", f"{KEY}/pool={pool}")
    for pod in pods:
        (container,) = pod["status"]["containerStatuses"]
        assert (container["restartCount"], "OOMKilled" in json.dumps(pod)) == (0, False), pod["metadata"]["name"]
    for name in ready(pods):
        assert total(await kubectl.pod(name, "/metrics"), "reembed_embedder_child_restarts_total", {}) == 0, name
        assert int(await kubectl.run("exec", name, "--", "python", "-c", _OUT_OF_MEMORY)) == 0, name


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
