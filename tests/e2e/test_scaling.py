"""A pool has the pods that its callers need, on the devices that there are, and nobody notices how they come and go."""

import json

from demo.world import LAST_EXAMPLE, MIGRATION, NEW_POOL, OLD_POOL
from tests.e2e import scaling
from tests.e2e.scaling import sizes
from tests.e2e.story import Story, then_every_query_was_answered

# More than the pods of one machine answer within the target, and far below what would be turned away.
_CALLERS = 48


async def test_pods_come_when_answers_are_slow_and_go_when_they_are_quick_again(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl = story.world.kubectl
    scaled = {"latencyTarget": "100ms", "scaleDownWindow": "20s"}
    await scaling.patch_pool(kubectl, OLD_POOL, scaling=scaled, variants=[scaling.variant(1, 3)])

    async with scaling.callers(kubectl, OLD_POOL, _CALLERS) as told:
        grown = await scaling.pool_is(kubectl, lambda status: status.get("readyReplicas", 0) >= 2, seconds=180)
        assert "p95 of live requests" in grown["scaling"]["message"]
    assert set(told.got) == {"200"}
    await scaling.pool_is(kubectl, lambda status: sizes(status).get("cpu") == (1, 1, ""), seconds=180)

    pool = await kubectl.get("epool", OLD_POOL)
    assert pool is not None
    events = await story.events(pool["metadata"]["uid"], "ScaledUp", "ScaledDown")
    assert (events[0], events[-1]) == ("ScaledUp", "ScaledDown")
    then_every_query_was_answered(await story.world.stop_load())


async def test_what_finds_no_gpu_runs_on_cpus_until_it_finds_one(story: Story) -> None:
    kubectl = story.world.kubectl
    async with scaling.gpus(story.system) as offer:
        await offer(1)
        await scaling.given_a_pool_on_gpus(
            story.world, gpu={"minReplicas": 2, "maxReplicas": 2}, cpu={"minReplicas": 0, "maxReplicas": 2}
        )
        await story.world.start_load()
        full = {"gpu": (2, 1, "Unschedulable"), "cpu": (1, 1, "")}
        status = await scaling.pool_is(kubectl, lambda found: sizes(found) == full, seconds=120)
        assert (status["phase"], status["readyReplicas"], status["desiredReplicas"]) == ("Ready", 2, 2)

        await offer(2)
        free = {"gpu": (2, 2, ""), "cpu": (0, 0, "")}
        await scaling.pool_is(kubectl, lambda found: sizes(found) == free, seconds=180)

        pool = await kubectl.get("epool", OLD_POOL)
        assert pool is not None
        told = await story.events(pool["metadata"]["uid"], "Unschedulable", "Overflow", "ScaledDown")
        assert set(told) == {"Unschedulable", "Overflow", "ScaledDown"}
        then_every_query_was_answered(await story.world.stop_load())
        await story.world.clear()


async def test_a_pool_that_can_never_run_is_refused_with_numbers_and_nobody_is_killed(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl = story.world.kubectl
    too_little = {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}}
    for resources, reason, said in (
        (too_little, "MemoryInsufficient", "the container's limit is 128 MiB; nothing was loaded"),
        ({"requests": {"cpu": "500"}}, "NeverFits", "500"),
    ):
        await scaling.patch_pool(kubectl, NEW_POOL, variants=[{"name": "cpu", "resources": resources}])
        await story.world.apply_example(LAST_EXAMPLE)
        status = await scaling.status_is(
            kubectl, "emig", MIGRATION, lambda found, wanted=reason: found.get("reason") == wanted, seconds=120
        )
        assert said in status["message"]
        pods = json.loads(await kubectl.run("get", "pods", f"--selector=reembed.dev/pool={NEW_POOL}", "--output=json"))
        assert "OOMKilled" not in json.dumps(pods)
        await story.when_the_migration_is_deleted()
    then_every_query_was_answered(await story.world.stop_load())
