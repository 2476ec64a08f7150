"""What the cache and the writer rely on is so: versions of lists, of ends, and of applies, on a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reembed.api import parse_pool
from reembed.cluster import client, kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, version_of
from reembed.controller.manifests import embedder, index
from reembed.controller.writer import Writer
from reembed.core import names
from tests import builders as b
from tests.integration.controller.world import objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
async def cluster(apiserver_with_crds: Path) -> AsyncIterator[Cluster]:
    async with Cluster.connect(str(apiserver_with_crds)) as connected:
        yield connected


async def pool(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    made = objects(namespace)[(kinds.POOL, "old")]
    made["metadata"] |= {"name": name, "finalizers": [names.FINALIZER]}
    return await cluster.apply(kinds.POOL, made, manager="user")


async def release(cluster: Cluster, of: dict[str, Any], cache: Cache | None = None) -> None:
    """Delete a pool, and let it go as the operator does."""
    meta = of["metadata"]
    await cluster.delete(kinds.POOL, meta["namespace"], meta["name"])
    deleted = await cluster.get(kinds.POOL, meta["namespace"], meta["name"])
    assert deleted is not None
    writer = Writer(cluster, cache or Cache())
    await writer.finalizers(kinds.POOL, parse_pool(deleted)[0], [], "reembed-pools")


async def test_a_list_forgets_what_ended_before_it_and_keeps_what_was_made_after_it(
    cluster: Cluster, namespace: str
) -> None:
    told: list[str] = []
    cache = Cache(lambda kind, obj, before: told.append(obj["metadata"]["name"]))
    ended = await pool(cluster, namespace, "ended")
    cache.put(kinds.POOL, ended)
    await release(cluster, ended)
    listed = await cluster.snapshot(kinds.POOL, namespace)
    cache.put(kinds.POOL, await pool(cluster, namespace, "later"))
    told.clear()
    cache.settle(kinds.POOL, namespace, {one["metadata"]["name"] for one in listed.objects}, listed.version)
    assert (told, [one["metadata"]["name"] for one in cache.all(kinds.POOL, namespace)]) == (["ended"], ["later"])


async def test_the_pages_of_a_list_are_of_one_moment_whatever_is_made_meanwhile(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PAGE", 2)
    for number in range(5):
        await pool(cluster, namespace, f"pool-{number}")
    found, versions = [], set()
    async for page in cluster.pages(kinds.POOL, namespace):
        found.append([one["metadata"]["name"] for one in page.objects])
        versions.add(page.version)
        await pool(cluster, namespace, f"pool-9-{len(found)}")
    assert (found, len(versions)) == ([["pool-0", "pool-1"], ["pool-2", "pool-3"], ["pool-4"]], 1)


async def test_the_end_that_a_watch_tells_is_newer_than_all_that_was_before(cluster: Cluster, namespace: str) -> None:
    made = await pool(cluster, namespace, "ended")
    async for change, seen in cluster.watch(kinds.POOL, namespace, name="ended"):
        if change == "DELETED":
            break
        if "deletionTimestamp" not in seen["metadata"]:
            await release(cluster, made)
        last = seen
    assert version_of(seen) > version_of(last) > version_of(made)


async def test_a_pool_that_goes_with_its_last_finalizer_is_not_cached(cluster: Cluster, namespace: str) -> None:
    cache = Cache()
    made = await pool(cluster, namespace, "ended")
    cache.put(kinds.POOL, made)
    await release(cluster, made, cache)
    assert cache.get(kinds.POOL, namespace, "ended") is None


META = b.pool("new").meta
BY_HAND = {
    kinds.SERVICE: {"spec": {"selector": {"by": "hand"}}},
    kinds.DISRUPTION_BUDGET: {"spec": {"maxUnavailable": 2}},
}


def wanted(kind: Kind, namespace: str) -> dict[str, Any]:
    manifest = embedder.service(META) if kind == kinds.SERVICE else index.disruption_budget(META)
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


@pytest.mark.parametrize("kind", BY_HAND, ids=lambda kind: kind.name)
async def test_what_somebody_changed_is_repaired_and_then_left_alone(
    cluster: Cluster, namespace: str, kind: Kind
) -> None:
    cache, manifest = Cache(), wanted(kind, namespace)
    writer, name = Writer(cluster, cache), manifest["metadata"]["name"]
    await writer.ensure(kind, manifest, "reembed-pools")
    cache.put(kind, await cluster.patch(kind, namespace, name, BY_HAND[kind], manager="user"))
    versions = []
    for _ in range(2):
        await writer.ensure(kind, manifest, "reembed-pools")
        found = await cluster.get(kind, namespace, name)
        assert found is not None
        versions.append(found["metadata"]["resourceVersion"])
    repaired = {field: found["spec"][field] for field in BY_HAND[kind]["spec"]}
    expected = {field: manifest["spec"][field] for field in BY_HAND[kind]["spec"]}
    assert (repaired, versions[0]) == (expected, versions[1])


async def test_an_apply_that_changes_nothing_moves_nothing(cluster: Cluster, namespace: str) -> None:
    manifest = wanted(kinds.SERVICE, namespace)
    twice = [await cluster.apply(kinds.SERVICE, manifest, manager="reembed-pools") for _ in range(2)]
    assert version_of(twice[0]) == version_of(twice[1])
