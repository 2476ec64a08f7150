"""A real API server takes what scaling writes, and what must outlive the operator does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller.cache import Cache
from reembed.controller.scrape import Sample
from reembed.controller.writer import Writer
from tests.integration.controller.running import filled, operator, until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

_DEPLOYMENT = "reembed-embedder-old-cpu"


async def test_pods_follow_the_queue_and_a_killed_operator_takes_none_away(
    cluster: Cluster, namespace: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = [3 * 16_384.0]
    answer = world.metrics

    async def metrics(addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        found = await answer(addresses)
        return {pod: [*said, ("reembed_embedder_queue_tokens", {}, queue[0])] for pod, said in found.items()}

    monkeypatch.setattr(world, "metrics", metrics)
    pool = objects(namespace)[(kinds.POOL, "old")]
    pool["spec"] |= {"variants": [{"name": "cpu", "maxReplicas": 3}], "scaling": {"scaleDownWindow": "12s"}}
    await cluster.apply(kinds.POOL, pool, manager="user")

    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        grown = await until(cluster, kinds.POOL, namespace, "old", lambda seen: ready(seen) == 3)
        assert grown["status"]["scaling"]["reason"] in {"Queue", "AtMaximum"}
        assert await events(cluster, namespace, "ScaledUp") != []
        queue[0] = 0.0
        await until(cluster, kinds.POOL, namespace, "old", lambda seen: standing(seen) == [("cpu", 3)])

    deployment = await cluster.get(kinds.DEPLOYMENT, namespace, _DEPLOYMENT)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 3

    async with operator(cluster, world, namespace):
        await until(cluster, kinds.DEPLOYMENT, namespace, _DEPLOYMENT, lambda seen: seen["spec"]["replicas"] == 1)
        await until(cluster, kinds.POOL, namespace, "old", lambda seen: standing(seen) == [])
        budget = await cluster.get(kinds.DISRUPTION_BUDGET, namespace, "reembed-embedder-old")
        assert budget is not None


def ready(pool: dict[str, Any]) -> int:
    return int((pool.get("status") or {}).get("readyReplicas", 0))


def standing(pool: dict[str, Any]) -> list[tuple[str, int]]:
    scaling = (pool.get("status") or {}).get("scaling") or {}
    return [(one["variant"], one["replicas"]) for one in scaling.get("recommendations") or ()]


async def events(cluster: Cluster, namespace: str, reason: str) -> list[str]:
    return [one["message"] for one in await cluster.list(kinds.EVENT, namespace) if one["reason"] == reason]


async def test_a_pod_is_evicted_unless_it_is_another_one(cluster: Cluster, namespace: str, world: World) -> None:
    cache = Cache()
    writer = Writer(cluster, cache)
    for name in ("goes", "stays"):
        meta = {"namespace": namespace, "name": name}
        made = await cluster.apply(
            kinds.POD, {"metadata": meta, "spec": {"containers": [{"name": "a", "image": "b"}]}}, manager="user"
        )
        uid = made["metadata"]["uid"] if name == "goes" else "another"
        cache.put(kinds.POD, {**made, "metadata": {**made["metadata"], "uid": uid}})
        await writer.evict(namespace, name, "reembed-pools")
    await writer.evict(namespace, "unknown", "reembed-pools")
    found = {name: await cluster.get(kinds.POD, namespace, name) for name in ("goes", "stays")}
    assert {name: pod is None or "deletionTimestamp" in pod["metadata"] for name, pod in found.items()} == {
        "goes": True,
        "stays": False,
    }
