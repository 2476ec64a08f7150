"""What people say to a running migration, by annotation or manifest, and what they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from time import monotonic
from typing import Any

import aiohttp
import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller.prometheus import Prometheus
from tests.integration.controller.running import filled, operator, start, state, until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

LONG = "1h"


def holding(weight: int) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: "stepAcknowledgedAt" in seen.get("status", {}) and seen["status"]["weight"]["set"] == weight


async def command(cluster: Cluster, namespace: str, verb: str, **changes: str) -> dict[str, Any]:
    """Command a migration, and return the answer in its status."""
    raw = await cluster.get(kinds.MIGRATION, namespace, "move")
    assert raw is not None
    value = {"uid": raw["metadata"]["uid"], "at": raw["status"]["at"], "nonce": f"{verb}-{monotonic()}"} | changes
    change = {"metadata": {"annotations": {f"reembed.dev/{verb}": json.dumps(value)}}}
    await cluster.patch(kinds.MIGRATION, namespace, "move", change, manager="user")

    def answer(seen: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in seen["status"].get("commands", []) if one["nonce"] == value["nonce"]]

    return answer(await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: bool(answer(seen))))[0]


async def test_a_step_is_paused_resumed_and_promoted_by_command(cluster: Cluster, world: World, namespace: str) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold=LONG)
        await until(cluster, kinds.MIGRATION, namespace, "move", holding(10))
        paused = await command(cluster, namespace, "pause")
        promoted = await command(cluster, namespace, "promote")
        held = await until(
            cluster, kinds.MIGRATION, namespace, "move", lambda seen: seen["status"]["reason"] == "Paused"
        )
        resumed = await command(cluster, namespace, "resume")
        await until(cluster, kinds.MIGRATION, namespace, "move", holding(50))
    assert [one["outcome"] for one in (paused, promoted, resumed)] == ["Accepted"] * 3
    assert (held["status"]["step"], held["status"]["weight"]["set"]) == (0, 10)


async def test_a_command_for_another_step_is_refused_with_what_it_is_at(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold=LONG)
        await until(cluster, kinds.MIGRATION, namespace, "move", holding(10))
        answer = await command(cluster, namespace, "promote", at="1/Canary/1")
    assert (answer["outcome"], answer["message"]) == (
        "Refused",
        "it is meant for 1/Canary/1, and the migration is at 1/Canary/0; look at it, and command again",
    )


async def test_a_manifest_pauses_a_migration_and_lets_it_go_on(cluster: Cluster, world: World, namespace: str) -> None:
    manifest = objects(namespace)[kinds.MIGRATION, "move"]
    manifest["spec"]["paused"] = True
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await cluster.apply(kinds.MIGRATION, manifest, manager="user")
        await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: "status" in seen)
        index = await cluster.get(kinds.INDEX, namespace, "docs")
        manifest["spec"]["paused"] = False
        await cluster.apply(kinds.MIGRATION, manifest, manager="user")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    assert index is not None
    assert "activeMigration" not in index["status"]


async def test_a_migration_waits_for_the_one_it_depends_on(cluster: Cluster, world: World, namespace: str) -> None:
    manifest = objects(namespace)[kinds.MIGRATION, "move"]
    manifest["spec"]["dependsOn"] = [{"name": "fill"}]
    async with operator(cluster, world, namespace):
        await cluster.apply(kinds.MIGRATION, manifest, manager="user")
        waiting = await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: "status" in seen)
        await filled(cluster, namespace)
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    assert waiting["status"]["reason"] == "WaitingForDependency"


async def test_pods_near_their_limit_are_protected_and_people_are_told(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold=LONG)
        await until(cluster, kinds.MIGRATION, namespace, "move", holding(10))
        world.memory = 352.0
        pressed = await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: "emergency" in seen["status"])
        # Pods and people are told after the status is written.
        async with asyncio.timeout(30):
            while "EmergencyBegan" not in await told(cluster, namespace):  # noqa: ASYNC110 the API server is asked
                await asyncio.sleep(0.05)
        world.memory = 100.0
    assert pressed["status"]["emergency"]["message"].endswith("is at 88% of its limit, above 85%")
    assert {name.rsplit("-", 1)[0] for name in world.protected} == {
        "reembed-embedder-new-cpu",
        "reembed-embedder-old-cpu",
    }


async def told(cluster: Cluster, namespace: str) -> set[str]:
    return {one["reason"] for one in await cluster.list(kinds.EVENT, namespace)}


async def test_a_query_of_the_users_own_keeps_traffic_from_moving(
    cluster: Cluster, world: World, namespace: str, prometheus: str
) -> None:
    manifest = objects(namespace)[kinds.MIGRATION, "move"]
    limit = {"name": "refunds", "query": "vector(7)", "threshold": 5, "for": "1s"}
    manifest["spec"]["rollback"]["triggers"]["prometheus"] = [limit]
    async with aiohttp.ClientSession() as session:
        asked = Prometheus(session, prometheus, monotonic)
        async with operator(cluster, world, namespace, asked):
            await filled(cluster, namespace)
            await cluster.apply(kinds.MIGRATION, manifest, manager="user")
            waiting = await until(
                cluster, kinds.MIGRATION, namespace, "move", lambda seen: reason(seen) == "Prometheus_refunds"
            )
    (trigger,) = waiting["status"]["triggers"]
    assert (trigger["name"], trigger["value"], trigger["threshold"]) == ("Prometheus_refunds", "7", "5")
    assert waiting["status"]["weight"]["set"] == 0


def reason(seen: dict[str, Any]) -> str:
    return str(seen.get("status", {}).get("reason", ""))
