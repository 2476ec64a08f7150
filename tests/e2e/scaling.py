"""What stories about a pool's size do and look at: load on its pods, GPUs of a node, and what its status says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from demo.kubectl import Kubectl
from demo.world import FIRST_FILL, GPU_EXAMPLE, INDEX, OLD_POOL, World
from tests.e2e.story import example

# In a closed loop, each with texts that no cache knows, until standard input ends. A new connection for every request
# reaches pods that came meanwhile.
_CALLERS = """
import collections, http.client, itertools, json, sys, threading, urllib.error, urllib.request

url, callers = sys.argv[1], int(sys.argv[2])
numbers, seen, over = itertools.count(), collections.Counter(), threading.Event()

def ask():
    while not over.is_set():
        text = f"what does function number {next(numbers)} return " * 12
        call = urllib.request.Request(url, json.dumps({"input": [text]}).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(call, timeout=30) as answer:
                answer.read()
                seen[str(answer.status)] += 1
        except urllib.error.HTTPError as error:
            seen[str(error.code) + ("" if error.headers["Retry-After"] else " without Retry-After")] += 1
        except (OSError, http.client.HTTPException) as error:
            seen[repr(error)] += 1

threads = [threading.Thread(target=ask) for _ in range(callers)]
for one in threads:
    one.start()
print("asking", flush=True)
sys.stdin.read()
over.set()
for one in threads:
    one.join()
print(json.dumps(seen))
"""

# What the examples give a pod.
_RESOURCES = {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
_GPU = "/status/capacity/nvidia.com~1gpu"


@dataclass
class Callers:
    """What callers got once they are done, by status, or by what broke where there was none."""

    got: dict[str, int] = field(default_factory=dict)


@asynccontextmanager
async def callers(kubectl: Kubectl, pool: str, count: int) -> AsyncIterator[Callers]:
    """Have many callers ask a pool's pods until the block ends."""
    url = f"http://reembed-embedder-{pool}:8080/v1/embeddings"
    words = ("exec", "--stdin", "load", "--", "python3", "-c", _CALLERS, url, str(count))
    command = [*kubectl.program, f"--namespace={kubectl.namespace}", *words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    told = Callers()
    try:
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).strip() == b"asking"
        yield told
    finally:
        process.stdin.close()
        async with asyncio.timeout(60):
            told.got = json.loads(await process.stdout.readline() or "{}")
            await process.wait()


async def given_a_pool_on_gpus(world: World, gpu: Mapping[str, Any], cpu: Mapping[str, Any]) -> None:
    """Have the index served by a pool that prefers GPUs."""
    await world.make_namespace()
    await world.start_store()
    await world.start_models()
    pool = example("pool-old.yaml")
    (plain,) = pool["spec"]["variants"]
    limits = {**plain["resources"]["limits"], "nvidia.com/gpu": 1}
    on_gpu = {**plain, "name": "gpu", "device": "GPU", "resources": {**plain["resources"], "limits": limits}}
    pool["spec"] |= {"variants": [{**on_gpu, **gpu}, {**plain, **cpu}], "scaling": {"scaleDownWindow": "15s"}}
    await world.kubectl.apply(json.dumps(pool))
    await world.apply_example(GPU_EXAMPLE, "index.yaml", "first-fill.yaml")
    await world.kubectl.run("wait", f"emig/{FIRST_FILL}", "--for=condition=Succeeded", "--timeout=300s")
    await world.kubectl.rolled_out(f"deployment/reembed-gateway-{INDEX}")


def variant(least: int, most: int) -> dict[str, Any]:
    """Return the variant of the examples with another number of pods."""
    return {"name": "cpu", "device": "CPU", "minReplicas": least, "maxReplicas": most, "resources": _RESOURCES}


async def patch_pool(kubectl: Kubectl, pool: str, **spec: Any) -> None:
    await kubectl.run("patch", "epool", pool, "--type=merge", f"--patch={json.dumps({'spec': spec})}")


@asynccontextmanager
async def gpus(kubectl: Kubectl) -> AsyncIterator[Callable[[int], Any]]:
    """Have the node offer so many GPUs, none in the end."""
    (node,) = json.loads(await kubectl.run("get", "nodes", "--output=json"))["items"]
    name = node["metadata"]["name"]

    async def offer(count: int) -> None:
        change = [{"op": "add", "path": _GPU, "value": str(count)}]
        await kubectl.run("patch", "node", name, "--subresource=status", "--type=json", f"--patch={json.dumps(change)}")

    try:
        yield offer
    finally:
        await offer(0)


async def pool_is(
    kubectl: Kubectl, wanted: Callable[[dict[str, Any]], bool], seconds: int, pool: str = OLD_POOL
) -> dict[str, Any]:
    """Return a pool's status as soon as it is as wanted."""
    return await status_is(kubectl, "epool", pool, wanted, seconds)


async def status_is(
    kubectl: Kubectl, kind: str, name: str, wanted: Callable[[dict[str, Any]], bool], seconds: int
) -> dict[str, Any]:
    """Return an object's status as soon as it is as wanted."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = ((await kubectl.get(kind, name)) or {}).get("status") or {}
                if wanted(found):
                    return found
                await asyncio.sleep(1.0)
    except TimeoutError:
        raise AssertionError(f"the status of {kind} {name} stayed at {found}") from None


def sizes(status: Mapping[str, Any]) -> dict[str, tuple[int, int, str]]:
    """Return desired and ready pods of each variant, and why it lacks some."""
    return {
        one["name"]: (one["desiredReplicas"], one["readyReplicas"], one["reason"])
        for one in status.get("variants") or ()
    }
