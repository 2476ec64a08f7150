"""A leak from its first byte to the end of its pod. It is believed after ten minutes: run by `make test-soak`."""

import asyncio
import logging

import pytest

from demo.world import OLD_POOL
from tests.e2e import pressure, recycling, scaling
from tests.e2e.story import Story

pytestmark = pytest.mark.soak

_log = logging.getLogger("stories")

# From a quarter of the limit to all of it in eighteen minutes. A pool that does not scale is looked at once a minute;
# that took thirteen minutes to be certain of it.
_LEAK_MIB = 0.33


async def test_a_leak_is_found_and_its_pod_replaced_before_it_is_full(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl, clock = story.world.kubectl, asyncio.get_running_loop().time

    async with pressure.growing(kubectl, OLD_POOL, _LEAK_MIB) as growth:
        began = clock()
        await scaling.pool_is(kubectl, lambda found: found["scaling"].get("recycling") == growth.pod, seconds=960)
        _log.info("found after %.0f s at a share of %.3f", clock() - began, growth.heard[-1][1])
        await recycling.then_it_is_replaced_gracefully(story, growth.pod, seconds=120)
        _log.info("replaced after %.0f s", clock() - began)
    _log.info("peak share %.3f", growth.peak)
    assert growth.peak < 1.0

    await story.then_it_cost_nobody_anything(OLD_POOL, "Recycling", "Recycled")
