"""A migration's whole life on a real API server, with the operator dying on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Refused
from reembed.cluster.kinds import Kind
from tests.integration.controller.running import filled, operator, passed, start, state, until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


async def test_a_first_fill_and_a_migration_succeed_and_leave_the_new_pool_serving(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move")
        moved = await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
        await until(cluster, kinds.POOL, namespace, "old", lambda seen: seen["status"]["phase"] == "Idle")
        await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: "finalizers" not in seen["metadata"])
    index = await cluster.get(kinds.INDEX, namespace, "docs")
    assert index is not None
    routing = index["status"]["routing"]
    assert (routing["serving"]["pool"], routing.get("candidate"), routing["weight"]) == ("new", None, 0)
    assert "activeMigration" not in index["status"]
    assert [one["state"] for one in moved["status"]["timeline"]] == [
        *("Preflight", "Backfilling", "Indexing", "Evaluating"),
        *("Canary", "Canary", "Canary", "Retaining", "Promoting", "Succeeded"),
    ]
    assert world.weights == [0, 10, 50, 100, 0]


async def test_an_operator_that_dies_in_every_state_ends_the_same(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
    await start(cluster, namespace, "move")
    for reached in ("Preflight", "Backfilling", "Evaluating", "Canary", "Retaining", "Succeeded"):
        async with operator(cluster, world, namespace):
            await until(cluster, kinds.MIGRATION, namespace, "move", passed(reached))
    assert world.weights == [0, 10, 50, 100, 0]
    assert len(world.jobs) == 2


async def test_a_candidate_that_fails_is_rolled_back_and_the_old_pool_serves(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        world.failing.add("new")
        await start(cluster, namespace, "move")
        ended = await until(cluster, kinds.MIGRATION, namespace, "move", state("RolledBack"))
        index = await until(
            cluster, kinds.INDEX, namespace, "docs", lambda seen: "activeMigration" not in seen["status"]
        )
    assert ended["status"]["reason"] == "ErrorRate"
    assert index["status"]["routing"]["serving"]["pool"] == "old"
    assert index["status"]["plan"]["pointer"]["collection"] == index["status"]["routing"]["serving"]["collection"]


async def test_a_deleted_migration_leaves_nothing_half_made(cluster: Cluster, world: World, namespace: str) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Canary"))
        await cluster.delete(kinds.MIGRATION, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: not seen)
        index = await cluster.get(kinds.INDEX, namespace, "docs")
        assert index is not None
    status = index["status"]
    assert (status["routing"]["serving"]["pool"], status["routing"].get("candidate")) == ("old", None)
    assert [one["pool"] for one in status["plan"]["collections"]] == ["old"]
    assert "activeMigration" not in status


async def test_a_pool_in_use_is_kept_running_while_it_is_deleted(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await cluster.delete(kinds.POOL, namespace, "old")
        await asyncio.sleep(1)
        pool = await cluster.get(kinds.POOL, namespace, "old")
        deployments = await cluster.list(kinds.DEPLOYMENT, namespace, selector="reembed.dev/pool=old")
    assert pool is not None
    assert [one["spec"]["replicas"] for one in deployments] == [1]


async def test_a_second_migration_waits_for_the_first_and_says_for_which(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await start(cluster, namespace, "fill")
        await until(cluster, kinds.MIGRATION, namespace, "fill", state("Preflight"))
        await start(cluster, namespace, "move")
        waiting = await until(
            cluster,
            kinds.MIGRATION,
            namespace,
            "move",
            lambda seen: seen.get("status", {}).get("reason") == "IndexHeld",
        )
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    assert waiting["status"]["message"].startswith("waiting for EmbeddingMigration 'fill'")


async def test_a_finished_migration_is_not_written_again(cluster: Cluster, world: World, namespace: str) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(operator(cluster, world, namespace))
        await filled(cluster, namespace)
        await asyncio.sleep(1)
        versions = [await version(cluster, namespace) for _ in range(2) if not await pause(2)]
    assert versions[0] == versions[1]


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def version(cluster: Cluster, namespace: str) -> list[str]:
    kinds_and_names: list[tuple[Kind, str]] = [(kinds.MIGRATION, "fill"), (kinds.INDEX, "docs"), (kinds.POOL, "old")]
    found = [await cluster.get(kind, namespace, name) for kind, name in kinds_and_names]
    return [one["metadata"]["resourceVersion"] for one in found if one is not None]


async def test_what_the_api_server_refuses_is_told_as_refused(cluster: Cluster, namespace: str) -> None:
    pool = objects(namespace)[(kinds.POOL, "old")]
    pool["spec"]["model"]["dimensions"] = 4001
    with pytest.raises(Refused, match="should be less than or equal to 4000"):
        await cluster.apply(kinds.POOL, pool, manager="user")
