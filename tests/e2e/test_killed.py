"""What is killed in the middle of its work costs callers of a gateway nothing, and callers of a pool an honest 503."""

import asyncio
import logging

from demo.world import OLD_POOL
from tests.e2e import killing, scaling
from tests.e2e.story import Story, then_every_query_was_answered

_log = logging.getLogger("stories")

_CALLERS = 4
_WATCHED_SECONDS = 3.0


async def test_a_pod_and_an_engine_are_killed_and_every_query_is_answered(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl = story.world.kubectl
    # Nor does a cache answer for an engine that is gone.
    await scaling.patch_pool(kubectl, OLD_POOL, textCache="0", variants=[scaling.variant(2, 2)])
    await kubectl.rolled_out(f"deployment/reembed-embedder-{OLD_POOL}-cpu")
    await scaling.pool_is(kubectl, lambda status: status["readyReplicas"] == 2, seconds=60)
    gone, hurt = await killing.pods(kubectl, OLD_POOL)

    async with scaling.callers(kubectl, OLD_POOL, _CALLERS) as told:
        await asyncio.sleep(_WATCHED_SECONDS)
        await asyncio.gather(killing.kill_engine(kubectl, hurt), killing.kill_pod(kubectl, gone))
        await killing.then_all_are_back(kubectl, OLD_POOL, hurt, count=2, seconds=60)
        await asyncio.sleep(_WATCHED_SECONDS)
    tally = await story.world.stop_load()
    _log.info("callers of the pool: %s", told.got)
    _log.info("%d queries, %d failed, slowest %s ms", tally["sent"], tally["failed"], tally["slowest_ms"])
    then_every_query_was_answered(tally)
    broken = {said: count for said, count in told.got.items() if said not in {"200", "503"}}
    # Connections to the killed pod end with it; one that comes before its address is forgotten is refused.
    assert all("ConnectionRe" in said or "RemoteDisconnected" in said for said in broken), told.got
    assert told.got["200"] > sum(broken.values())
