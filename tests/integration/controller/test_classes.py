"""The class of a model on a real API server: made once, changed by nobody, and there when its pool comes again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Refused
from reembed.cluster.kinds import Kind
from reembed.core import names
from tests.integration.controller.running import filled, operator, until
from tests.integration.controller.world import PROBES, World, fingerprint_of, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def name(namespace: str, pool: str = "old") -> str:
    return names.model_class(fingerprint_of(objects(namespace)[kinds.POOL, pool]))


def told(seen: dict[str, Any]) -> bool:
    return "class" in seen.get("status", {})


async def kept(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Have a pool in use, and return what is kept of its class."""
    await filled(cluster, namespace)
    pool = await until(cluster, kinds.POOL, namespace, "old", told)
    assert pool["status"]["class"] == {"configMap": name(namespace)}
    return await until(cluster, kinds.CONFIG_MAP, namespace, name(namespace), bool)  # type: ignore[no-any-return]


async def test_a_class_is_made_of_what_a_ready_pod_said_and_nobody_can_change_it(
    cluster: Cluster, namespace: str, world: World
) -> None:
    async with operator(cluster, world, namespace):
        found = await kept(cluster, namespace)
    assert (found["immutable"], found["data"]["probes"], found["data"]["pod"]) == (
        True,
        PROBES,
        "reembed-embedder-old-cpu-0",
    )
    with pytest.raises(Refused, match="immutable"):
        await cluster.patch(kinds.CONFIG_MAP, namespace, name(namespace), {"data": {"probes": "x"}}, manager="test")


async def test_an_operator_that_starts_later_neither_writes_the_class_nor_the_pool_again(
    cluster: Cluster, namespace: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operator(cluster, world, namespace):
        before = await kept(cluster, namespace)
    pool = await cluster.get(kinds.POOL, namespace, "old")
    assert pool is not None
    looked, get = asyncio.Event(), cluster.get

    async def noted(kind: Kind, *of: str) -> dict[str, Any] | None:
        if kind == kinds.CONFIG_MAP:
            looked.set()
        return await get(kind, *of)

    monkeypatch.setattr(cluster, "get", noted)
    async with operator(cluster, world, namespace), asyncio.timeout(60):
        await looked.wait()
        # Another pass follows, and has an end that can be seen.
        service = names.embedder_service("old")
        await cluster.delete(kinds.SERVICE, namespace, service)
        await until(cluster, kinds.SERVICE, namespace, service, bool)
    monkeypatch.undo()
    assert await cluster.get(kinds.CONFIG_MAP, namespace, name(namespace)) == before
    assert await cluster.get(kinds.POOL, namespace, "old") == pool


async def test_a_class_outlives_its_pool_and_meets_the_one_that_comes_in_its_place(
    cluster: Cluster, namespace: str, world: World
) -> None:
    async with operator(cluster, world, namespace):
        before = await kept(cluster, namespace)
        for kind, of in ((kinds.MIGRATION, "fill"), (kinds.INDEX, "docs"), (kinds.POOL, "old")):
            await cluster.delete(kind, namespace, of)
            await until(cluster, kind, namespace, of, lambda seen: not seen)
        assert await cluster.get(kinds.CONFIG_MAP, namespace, name(namespace)) == before
        world.probes = "bm90aGluZyBvZiB0aGUga2luZA=="
        for key in ((kinds.POOL, "old"), (kinds.INDEX, "docs")):
            await cluster.apply(key[0], objects(namespace)[key], manager="user")
        await filled(cluster, namespace)
        await until(cluster, kinds.POOL, namespace, "old", told)
    assert await cluster.get(kinds.CONFIG_MAP, namespace, name(namespace)) == before
