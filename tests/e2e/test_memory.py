"""Memory that grows brings another pod before it is full, and never costs a query or a container."""

import asyncio
import logging

from demo.world import OLD_POOL
from tests.e2e import pressure, recycling, scaling
from tests.e2e.scaling import sizes
from tests.e2e.story import Story

_log = logging.getLogger("stories")

# From the quarter that an idle pod of the examples has to its limit in a minute and a half, or in six minutes.
_FAST_MIB = 4.0
_SLOW_MIB = 1.0
_TARGET = 0.7
# Above what the target tolerates, so that the pods that came have to stay.
_SHORT = 0.8
_WATCHED_SECONDS = 5.0


async def test_pods_come_before_memory_is_full_and_go_when_it_is_free_again(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl, clock = story.world.kubectl, asyncio.get_running_loop().time
    # Memory alone decides, however busy the machine is. What grows is one pod's alone: a moment after the second pod
    # came, one would do again; the window is longer than that moment.
    scaled = {"memoryTarget": f"{_TARGET:.0%}", "latencyTarget": "30s", "scaleDownWindow": "30s"}
    await scaling.patch_pool(kubectl, OLD_POOL, scaling=scaled, variants=[scaling.variant(1, 3)])

    async with pressure.growing(kubectl, OLD_POOL, _FAST_MIB) as growth:
        grown = await scaling.pool_is(kubectl, lambda status: sizes(status)["cpu"][0] >= 2, seconds=120)
        _log.info("decided at a share of %.3f: %s", growth.heard[-1][1], grown["scaling"]["message"])
        assert grown["scaling"]["reason"] == "Memory"
        assert grown["scaling"]["message"].startswith("memory ")
        await scaling.pool_is(kubectl, lambda status: status["readyReplicas"] >= 2, seconds=60)
        came, share = clock(), growth.heard[-1][1]
        assert share < 1.0
        await growth.until(_SHORT, seconds=120)
        growth.hold()
        passed = growth.passed(_TARGET)
        assert passed is not None
        _log.info("second pod ready at a share of %.3f, %.1f s after the target was passed", share, came - passed)
        await asyncio.sleep(_WATCHED_SECONDS)
        assert sizes(await scaling.pool_is(kubectl, bool, seconds=5))["cpu"] == (2, 2, "")
        await pressure.then_nobody_ran_out_of_memory(kubectl, OLD_POOL)
    _log.info("peak share %.3f", growth.peak)
    await scaling.pool_is(kubectl, lambda status: sizes(status)["cpu"] == (1, 1, ""), seconds=120)

    await story.then_it_cost_nobody_anything(OLD_POOL, "ScaledUp", "ScaledDown")


async def test_a_leaking_pod_is_replaced_by_an_operator_that_only_read_of_the_leak(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl, clock = story.world.kubectl, asyncio.get_running_loop().time

    async with pressure.growing(kubectl, OLD_POOL, _SLOW_MIB) as growth:
        began = clock()
        await recycling.when_the_operator_dies_as_it_has_noted_a_leak(story, growth.pod)
        await recycling.then_it_is_replaced_gracefully(story, growth.pod, seconds=120)
        _log.info("replaced %.1f s after the operator's death", clock() - began)
    _log.info("peak share %.3f", growth.peak)

    await story.then_it_cost_nobody_anything(OLD_POOL, "Recycled")
