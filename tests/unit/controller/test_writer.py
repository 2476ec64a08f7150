"""What the operator writes is written once, repaired when somebody changes it, and never remembered after its end."""

from __future__ import annotations

from typing import Any

import pytest

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.controller.cache import Cache
from reembed.controller.writer import Writer
from reembed.core import names
from tests.unit.controller.fakes import FakeCluster

SERVICE = {"metadata": {"namespace": "rag", "name": "pool"}, "spec": {"selector": {"pool": "new"}}}


class World:
    """A writer, with its cluster and its cache."""

    def __init__(self, *, generations: bool = False) -> None:
        self.cluster = FakeCluster(generations=generations)
        self.cache = Cache()
        self.writer = Writer(self.cluster, self.cache)

    def user(self, **fields: Any) -> None:
        """Write as somebody else, and let the watch tell it."""
        self.cache.put(kinds.SERVICE, self.cluster.write(kinds.SERVICE, {"metadata": SERVICE["metadata"], **fields}))

    async def applies(self, passes: int) -> int:
        """Return how many requests some passes took."""
        before = self.cluster.applies
        for _ in range(passes):
            await self.writer.ensure(kinds.SERVICE, SERVICE, "reembed-pools")
        return self.cluster.applies - before

    def spec(self) -> Any:
        (found,) = self.cluster.objects.values()
        return found["spec"]


@pytest.fixture(params=[True, False], ids=["with a generation", "without a generation"])
def world(request: pytest.FixtureRequest) -> World:
    return World(generations=request.param)


async def test_what_nobody_changed_is_applied_once(world: World) -> None:
    assert await world.applies(passes=3) == 1


async def test_what_somebody_changed_is_applied_once_more(world: World) -> None:
    await world.applies(passes=1)
    world.user(spec={"selector": {"pool": "other"}})
    assert (await world.applies(passes=3), world.spec()) == (1, SERVICE["spec"])


async def test_what_is_doubted_is_applied_once_more_whatever_is_remembered(world: World) -> None:
    await world.applies(passes=1)
    world.writer.doubt(kinds.SERVICE, "rag", "pool")
    assert (await world.applies(passes=3), world.spec()) == (1, SERVICE["spec"])


async def test_a_status_that_moves_costs_a_service_one_apply_that_changes_nothing() -> None:
    world = World()
    await world.applies(passes=1)
    world.user(status={"loadBalancer": {"ingress": []}})
    version = world.cluster.version
    assert (await world.applies(passes=3), world.cluster.version) == (1, version)


async def test_a_status_that_moves_costs_nothing_where_specs_are_counted() -> None:
    world = World(generations=True)
    await world.applies(passes=1)
    world.user(status={"replicas": 1})
    assert await world.applies(passes=3) == 0


def pool(**meta: Any) -> dict[str, Any]:
    model = {"uri": "http://m/m.gguf", "sha256": "a" * 64, "pooling": "Mean", "dimensions": 8, "maxTokens": 8}
    spec = {"model": model, "variants": [{"name": "cpu"}]}
    return {"metadata": {"namespace": "rag", "name": "new", **meta}, "spec": spec}


async def finalizers_of_the_cached_pool(after: list[str], **meta: Any) -> list[str] | None:
    """Replace a pool's finalizers by `after` and return those that the cache holds then."""
    world = World()
    raw = world.cluster.write(kinds.POOL, pool(finalizers=[names.FINALIZER, "users"], **meta))
    world.cache.put(kinds.POOL, raw)
    await world.writer.finalizers(kinds.POOL, parse_pool(raw)[0], after, "reembed-pools")
    cached = world.cache.get(kinds.POOL, "rag", "new")
    return None if cached is None else cached["metadata"]["finalizers"]


async def test_a_deleted_object_without_finalizers_is_forgotten() -> None:
    assert await finalizers_of_the_cached_pool([], deletionTimestamp="2026-01-01T12:00:00Z") is None


async def test_a_deleted_object_that_somebody_else_holds_is_kept() -> None:
    assert await finalizers_of_the_cached_pool(["users"], deletionTimestamp="2026-01-01T12:00:00Z") == ["users"]


async def test_an_object_without_finalizers_that_nobody_deleted_is_kept() -> None:
    assert await finalizers_of_the_cached_pool([]) == []


async def test_what_an_operator_before_this_one_applied_is_not_applied_again() -> None:
    before = World()
    await before.writer.ensure(kinds.SERVICE, SERVICE, "reembed")
    after = Writer(before.cluster, before.cache)
    await after.ensure(kinds.SERVICE, SERVICE, "reembed")
    assert before.cluster.applies == 1


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"spec": {"ports": [{"port": 9999}]}}, id="somebody changed it"),
        pytest.param({"metadata": {**SERVICE["metadata"], "annotations": {}}}, id="an older operator made it"),
    ],
)
async def test_what_differs_from_what_is_wanted_is_applied_at_the_start(changed: dict[str, Any]) -> None:
    before = World()
    await before.writer.ensure(kinds.SERVICE, SERVICE, "reembed")
    before.cache.put(kinds.SERVICE, before.cluster.write(kinds.SERVICE, {"metadata": SERVICE["metadata"], **changed}))
    await Writer(before.cluster, before.cache).ensure(kinds.SERVICE, SERVICE, "reembed")
    assert before.cluster.applies == 2
