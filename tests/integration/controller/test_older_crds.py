"""A newer operator on CRDs of an older version begins nothing, and takes queries back all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from copy import deepcopy

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core import names
from tests.integration.controller.running import filled, operator, start, state, until
from tests.integration.controller.world import World

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

CRD = f"embeddingmigrations.{names.GROUP}"


@pytest.fixture
async def older(cluster: Cluster) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Return a function that replaces the migrations' CRD by one without what later versions brought."""
    crd = await cluster.get(kinds.CRD, "", CRD)
    assert crd is not None

    async def install() -> None:
        old = deepcopy(crd)
        old["metadata"] = {
            "name": CRD,
            "annotations": {names.ANNOTATION_SCHEMA: "0"},
            "resourceVersion": await version(),
        }
        status = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        for name in ("excused", "commands", "at", "gates", "hooks", "emergency"):
            del status[name]
        await cluster._call("PUT", kinds.CRD.path("", CRD), body=old)

    async def version() -> str:
        return (await cluster.get(kinds.CRD, "", CRD))["metadata"]["resourceVersion"]  # type: ignore[index]

    yield install
    crd["metadata"]["resourceVersion"] = await version()
    await cluster._call("PUT", kinds.CRD.path("", CRD), body=crd)


async def test_on_older_crds_a_trigger_counts_and_takes_the_queries_back(
    cluster: Cluster, world: World, namespace: str, older: Callable[[], Awaitable[None]]
) -> None:
    async with operator(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold="1h")
        await until(cluster, kinds.INDEX, namespace, "docs", lambda seen: seen["status"]["routing"]["weight"] == 10)
        await older()
        world.failing.add("new")
        ended = await until(cluster, kinds.MIGRATION, namespace, "move", state("RolledBack"))
    index = await cluster.get(kinds.INDEX, namespace, "docs")
    assert index is not None
    assert (index["status"]["routing"]["weight"], ended["status"]["reason"]) == (0, "ErrorRate")
