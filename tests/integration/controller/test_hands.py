"""What somebody's hand takes away behind the operator's back is found again, and nothing stops answering meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core import names
from tests.integration.controller.lives import returned, stolen
from tests.integration.controller.running import filled, operator, passed, start, state, until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


async def test_a_migration_that_vanishes_in_the_canary_gives_weight_index_and_collection_back(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold="60s")
        await until(cluster, kinds.INDEX, namespace, "docs", lambda seen: seen["status"]["routing"]["weight"] == 10)
        # In this order: an operator that is quick puts a finalizer back that is missing before the deletion.
        await cluster.delete(kinds.MIGRATION, namespace, "move")
        await cluster.patch(kinds.MIGRATION, namespace, "move", {"metadata": {"finalizers": None}}, manager="user")
        freed = await until(
            cluster, kinds.INDEX, namespace, "docs", lambda seen: "activeMigration" not in seen["status"]
        )
        status = freed["status"]
        assert (status["routing"]["serving"]["pool"], status["routing"].get("candidate")) == ("old", None)
        assert (status["routing"]["weight"], [one["pool"] for one in status["plan"]["collections"]]) == (0, ["old"])
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    events = await cluster.list(kinds.EVENT, namespace)
    assert "HolderVanished" in {one["reason"] for one in events if one["involvedObject"]["name"] == "docs"}


async def test_a_holder_that_somebody_wrote_by_hand_lets_the_index_go_when_it_is_deleted(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        world.reached = "Filled"
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Indexing"))
        await stolen(cluster, world, namespace)
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Failed"))
        await returned(cluster, world, namespace)
        await until(cluster, kinds.INDEX, namespace, "docs", lambda seen: "activeMigration" not in seen["status"])


async def test_an_index_whose_status_is_emptied_gets_it_back_and_its_pool_runs_on(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        before = await index_status(cluster, namespace)
        world.remember(before)
        await empty_status(cluster, namespace)
        after = await until(cluster, kinds.INDEX, namespace, "docs", has_serving)
        pool = await cluster.list(kinds.DEPLOYMENT, namespace, selector=f"{names.LABEL_POOL}=old")
    assert after["status"]["routing"] == {**before["routing"], "epoch": before["routing"]["epoch"] + 1}
    assert (after["status"]["plan"], [one["spec"]["replicas"] for one in pool]) == (before["plan"], [1])


async def test_a_migration_goes_on_after_its_index_was_emptied(cluster: Cluster, world: World, namespace: str) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", passed("Backfilling"))
        world.remember(await index_status(cluster, namespace))
        await empty_status(cluster, namespace)
        ended = await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: bool(finished(seen)))
    index = await index_status(cluster, namespace)
    # Emptied before the canary it ends as if nothing had been; later the weight was lowered, which is not undone.
    wanted = {"Succeeded": "new", "RolledBack": "old"}
    assert index["routing"]["serving"]["pool"] == wanted[ended["status"]["state"]]


async def test_a_renamed_variant_serves_until_the_new_one_does(cluster: Cluster, world: World, namespace: str) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        world.starting.add("reembed-embedder-old-fast")
        renamed = objects(namespace)[(kinds.POOL, "old")]
        renamed["spec"]["variants"] = [{"name": "fast"}]
        await cluster.apply(kinds.POOL, renamed, manager="user")
        waiting = await until(
            cluster, kinds.POOL, namespace, "old", lambda seen: "kept" in seen["status"].get("message", "")
        )
        both = await deployments(cluster, namespace)
        world.starting.clear()
        await until(cluster, kinds.DEPLOYMENT, namespace, "reembed-embedder-old-cpu", lambda seen: not seen)
    assert both == ["reembed-embedder-old-cpu", "reembed-embedder-old-fast"]
    assert "(cpu) are kept until all pods of the others are ready" in waiting["status"]["message"]


async def test_fewer_pods_that_somebody_asks_for_come_once_no_query_can_come_back(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await scale(cluster, namespace, 2)
        await until(cluster, kinds.POOL, namespace, "old", lambda seen: seen["status"]["readyReplicas"] == 2)
        await start(cluster, namespace, "move", hold="60s")
        await until(cluster, kinds.INDEX, namespace, "docs", lambda seen: seen["status"]["routing"]["weight"] == 10)
        await scale(cluster, namespace, 1)
        observed = (await cluster.get(kinds.POOL, namespace, "old") or {})["metadata"]["generation"]
        kept = await until(
            cluster, kinds.POOL, namespace, "old", lambda seen: seen["status"]["observedGeneration"] == observed
        )
        await cluster.delete(kinds.MIGRATION, namespace, "move")
        await until(cluster, kinds.POOL, namespace, "old", lambda seen: seen["status"]["desiredReplicas"] == 1)
    assert (kept["status"]["desiredReplicas"], kept["status"]["readyReplicas"]) == (2, 2)


async def scale(cluster: Cluster, namespace: str, replicas: int) -> None:
    pool = objects(namespace)[(kinds.POOL, "old")]
    pool["spec"]["variants"] = [{"name": "cpu", "minReplicas": replicas}]
    await cluster.apply(kinds.POOL, pool, manager="user")


async def test_a_finalizer_of_somebody_else_outlives_ours(cluster: Cluster, world: World, namespace: str) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", passed("Canary"))
        theirs = {"metadata": {"finalizers": ["their.own/one", names.FINALIZER]}}
        await cluster.patch(kinds.MIGRATION, namespace, "move", theirs, manager="user")
        left = await until(
            cluster,
            kinds.MIGRATION,
            namespace,
            "move",
            lambda seen: finished(seen) == "Succeeded" and names.FINALIZER not in seen["metadata"]["finalizers"],
        )
    assert left["metadata"]["finalizers"] == ["their.own/one"]


async def index_status(cluster: Cluster, namespace: str) -> dict[str, Any]:
    index = await cluster.get(kinds.INDEX, namespace, "docs")
    assert index is not None
    return dict(index["status"])


async def empty_status(cluster: Cluster, namespace: str) -> None:
    """Replace the status as a restore would that knows none."""
    index = kinds.INDEX.path(namespace, "docs") + "/status"
    change = {"status": None}
    await cluster._call("PATCH", index, body=change, content="application/merge-patch+json")


async def deployments(cluster: Cluster, namespace: str) -> list[str]:
    found = await cluster.list(kinds.DEPLOYMENT, namespace, selector=f"{names.LABEL_POOL}=old")
    return sorted(one["metadata"]["name"] for one in found)


def finished(seen: dict[str, Any]) -> str:
    reached: str = seen.get("status", {}).get("state", "")
    return reached if reached in {"Succeeded", "RolledBack", "Failed"} else ""


def has_serving(seen: dict[str, Any]) -> bool:
    return "serving" in seen.get("status", {}).get("routing", {})
