"""A pod whose memory grows without end, and how it is replaced: what the stories of leaks do and look at."""

from __future__ import annotations

import asyncio
import json

from demo import chaos
from demo.kubectl import KEY, Kubectl, ready
from demo.world import OLD_POOL
from tests.e2e.scaling import pool_is
from tests.e2e.story import Story


async def when_the_operator_dies_as_it_has_noted_a_leak(story: Story, pod: str) -> None:
    """Kill every replica, and leave the pool's status as the one that led would have left it.

    To find a leak takes ten minutes of measurements. What it then writes is all that another operator goes by.
    """
    await chaos.kill_operator(story.system)
    note = json.dumps({"status": {"scaling": {"recycling": pod}}})
    await story.world.kubectl.run("patch", "epool", OLD_POOL, "--subresource=status", "--type=merge", f"--patch={note}")


async def then_it_is_replaced_gracefully(story: Story, pod: str, seconds: int) -> None:
    """Look at the pods until the leaking one is gone: there was always another, and it answered all it had begun."""
    kubectl = story.world.kubectl
    logs = asyncio.create_task(kubectl.run("logs", "--follow", "--tail=1", pod))
    reasons = await _goes(kubectl, pod, seconds)
    assert reasons == {"EvictionByEvictionAPI"}
    assert "drained; the process ends" in await logs
    status = await pool_is(kubectl, lambda found: not (found.get("scaling") or {}).get("recycling"), seconds=60)
    assert (status["readyReplicas"], status["desiredReplicas"]) == (1, 1)


async def _goes(kubectl: Kubectl, pod: str, seconds: int) -> set[str]:
    """Wait until a pod is gone and return why it went, by its own conditions."""
    reasons: set[str] = set()
    async with asyncio.timeout(seconds):
        while True:
            pods = await kubectl.list("pods", f"{KEY}/pool={OLD_POOL}")
            assert ready(pods), "no pod of the pool is ready"
            found = [one for one in pods if one["metadata"]["name"] == pod]
            if not found:
                return reasons
            conditions = found[0]["status"].get("conditions", ())
            reasons |= {one["reason"] for one in conditions if one["type"] == "DisruptionTarget"}
            await asyncio.sleep(0.3)
