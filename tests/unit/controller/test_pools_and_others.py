"""What people, nodes, budgets and other controllers do to a pool's pods costs none of those that answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.api import render_index_status
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.controller.cache import Key
from reembed.core.model import Arm, IndexStatus, Routing
from tests.unit.controller.pool_world import CPU, IMAGES, World, carries
from tests.unit.controller.test_pools import GPU, OVERFLOW, running, serving

BUDGET = Key(kinds.DISRUPTION_BUDGET, "rag", "reembed-embedder-old")


async def of_three(world: World, **spec: object) -> World:
    """Return the world with a pool that has three pods, each at what it should carry."""
    await serving(world, CPU, **spec)
    world.says[world.up()[0]] = carries(queue=16_384 * 3)
    await world.passes(seconds=5)
    world.says = dict.fromkeys(world.up(), carries(queue=16_384))
    for _ in range(8):
        await world.passes(seconds=5)
    assert world.sizes_now() == {"cpu": 3}
    return world


async def scaled(world: World, replicas: int) -> None:
    """Have somebody else change a Deployment."""
    found = world.deployment()
    world.put(kinds.DEPLOYMENT, {**found, "spec": {**found["spec"], "replicas": replicas}})
    await world.passes(seconds=1)


@pytest.mark.parametrize("replicas", [0, 1, 6, 20])
async def test_a_deployment_that_somebody_scales_is_put_right_at_once(replicas: int) -> None:
    world = await of_three(World())
    await scaled(world, replicas)
    assert world.sizes_now() == {"cpu": 3}


async def test_a_deployment_that_somebody_deletes_comes_back_as_large_as_it_was() -> None:
    world = await of_three(World())
    found = world.deployment()
    world.server.gone(kinds.DEPLOYMENT, "rag", found["metadata"]["name"])
    world.cache.remove(kinds.DEPLOYMENT, found)
    await world.passes(seconds=1)
    assert world.sizes_now() == {"cpu": 3}


async def test_a_paused_pool_may_be_scaled_by_hand() -> None:
    world = await of_three(World(), scaling={"paused": False})
    pool = world.server.objects[Key(kinds.POOL, "rag", "old")]
    world.put(kinds.POOL, {**pool, "spec": {**pool["spec"], "scaling": {"paused": True}}})
    await world.passes()
    await scaled(world, 2)
    assert world.sizes_now() == {"cpu": 2}


async def test_nodes_can_be_drained_while_a_pod_waits_for_a_gpu() -> None:
    """The pod that waits is a disruption by itself: a budget of one would refuse every eviction for as long."""
    world = World()
    world.pool("old", [GPU, OVERFLOW])
    world.index("old")
    await world.passes()
    world.up("gpu", ready=0)
    await world.passes(seconds=31)
    waits = world.server.objects[BUDGET]["spec"]["maxUnavailable"]
    world.up("cpu")
    world.up("gpu")
    await world.passes(seconds=5)
    assert (waits, world.server.objects[BUDGET]["spec"]["maxUnavailable"]) == (2, 1)


async def test_a_surge_without_a_node_lets_no_second_pod_be_drained() -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 2})
    meta = world.deployment()["metadata"]
    stamp = world.now.isoformat().replace("+00:00", "Z")
    no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": stamp}
    status = {"phase": "Pending", "conditions": [no_room]}
    world.put(kinds.POD, {"metadata": {"name": f"{meta['name']}-9", "labels": meta["labels"]}, "status": status})
    await world.passes(seconds=31)
    assert world.server.objects[BUDGET]["spec"]["maxUnavailable"] == 1


async def test_a_gpu_variant_that_grows_needs_no_cover() -> None:
    world = await serving(World(), GPU, OVERFLOW)
    world.says[world.up("gpu")[0]] = carries(queue=16_384 * 2)
    found = []
    for _ in range(3):
        await world.passes(seconds=5)
        found.append(world.sizes_now())
    assert found[-1] == {"gpu": 2, "cpu": 0}


async def leaking(world: World, pool: str = "old") -> str:
    """Have the first pod of a pool leak until it is being replaced; return its name."""
    pod = world.up(pool=pool)[0]
    for minute in range(20):
        world.says[pod] = carries(memory=500 + 15 * minute)
        await world.passes(pool, seconds=60)
        if world.status(pool)["scaling"].get("recycling"):
            break
    assert world.status(pool)["scaling"]["recycling"] == pod
    return pod


async def test_a_pod_that_leaks_is_replaced_whatever_the_length_of_its_name() -> None:
    """Kubernetes cuts what it makes a pod's name of at 58 characters, in the middle of a long Deployment's name."""
    name = "m" * 41
    world, found = World(), []
    world.pool(name)
    world.index(name)
    await world.passes(name)
    world.says |= dict.fromkeys(world.up(pool=name), carries())
    await world.passes(name)
    pod = await leaking(world, name)
    for _ in range(4):
        world.says |= dict.fromkeys(set(world.up(pool=name)) - {pod}, carries())
        await world.passes(name, seconds=5)
        found.append(world.sizes_now(name))
    assert (found, pod in world.server.evicted) == ([{"cpu": 2}] * 4, True)


async def test_a_pod_that_is_replaced_while_queries_move_leaves_no_pod_more() -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 1})
    arm = Arm("old", "c_old", "f")
    routing = Routing(epoch=4, serving=arm, candidate=Arm("new", "c_new", "g"), weight=50)
    index = world.server.objects[Key(kinds.INDEX, "rag", "docs-old")]
    world.put(kinds.INDEX, {**index, "status": render_index_status(IndexStatus(routing=routing))})
    pod = await leaking(world)
    world.up()
    await world.passes(seconds=5)
    world.gone(pod)
    await world.passes(seconds=5)
    assert (world.server.evicted, world.sizes_now()) == ([pod], {"cpu": 1})


async def test_an_eviction_that_nobody_can_have_holds_up_nothing_else() -> None:
    """With two budgets over one pod the API server answers 500 for ever."""
    world = await serving(World(), {"name": "cpu", "minReplicas": 1})
    pod = await leaking(world)
    world.server.refuses_evictions = ClusterError(500, "This pod has more than one PodDisruptionBudget")
    world.up()
    await world.passes(seconds=5)
    variants = world.status()["variants"]
    assert (world.status()["scaling"]["recycling"], variants[0]["readyReplicas"]) == (pod, 2)


async def test_a_pod_that_says_that_it_is_infinitely_far_is_starting() -> None:
    world = World()
    world.pool("old")
    world.index("old")
    await world.passes()
    (pod,) = world.up(ready=0)
    meta = world.server.objects[Key(kinds.POD, "rag", pod)]["metadata"]
    world.put(kinds.POD, {"metadata": meta, "status": {"phase": "Running", "podIP": pod}})
    world.loading[pod] = {"source": "x" * 40_000, "done": 1, "size": float("inf"), "breaker": "closed", "error": ""}
    await world.passes(seconds=5)
    infinite = world.status()["message"]
    world.loading[pod] |= {"size": 2}
    await world.passes(seconds=5)
    assert (infinite, len(world.status()["message"]) < 2000) == ("", True)


async def test_a_gpu_pod_is_covered_until_the_new_one_answers_though_pods_go_without_a_window() -> None:
    world = await serving(World(), GPU, OVERFLOW, scaling={"scaleDownWindow": "0s"})
    world.operate(replace(IMAGES, embedder="engine:2", embedder_gpu="gpu:2"))
    await world.passes()
    world.says |= dict.fromkeys(world.up("cpu"), carries())
    found = []
    for ready in (None, None, 0, 0, 1):
        await world.passes(seconds=5)
        found.append((running(world, "gpu"), world.sizes_now()))
        if ready is not None:
            world.says |= dict.fromkeys(rolled(world, ready), carries())
    assert found == [("gpu:2", {"gpu": 1, "cpu": 1})] * 5
    await world.passes(seconds=5)
    await world.passes(seconds=5)
    assert world.sizes_now() == {"gpu": 1, "cpu": 0}


def rolled(world: World, ready: int) -> list[str]:
    """Have the pods of the GPU variant be of its newest template, and so many of them answer."""
    found = world.deployment("gpu")
    status = {"readyReplicas": ready, "updatedReplicas": 1, "observedGeneration": found["metadata"]["generation"]}
    world.put(kinds.DEPLOYMENT, {**found, "status": status})
    return [f"{found['metadata']['name']}-0"] if ready else []


async def test_pods_of_a_renamed_variant_stay_until_it_is_known_what_they_carry() -> None:
    world = await of_three(World())
    world.says = {}
    world.operate(IMAGES)
    pool = world.server.objects[Key(kinds.POOL, "rag", "old")]
    renamed = [{**CPU, "name": "new"}]
    world.put(kinds.POOL, {**pool, "spec": {**pool["spec"], "variants": renamed}})
    await world.passes(seconds=5)
    world.up("new")
    await world.passes(seconds=5)
    assert Key(kinds.DEPLOYMENT, "rag", "reembed-embedder-old-cpu") in world.server.objects
    assert world.status()["message"] == (
        "variants no longer in spec (cpu) are kept until all pods of the others are ready and measured"
    )


async def test_a_pool_that_waits_for_a_gpu_does_not_hold_up_the_engines_of_others() -> None:
    world = World()
    for name, variants in (("a", [GPU, OVERFLOW]), ("b", [CPU])):
        world.pool(name, variants)
        world.index(name)
        await world.passes(name)
    world.up("gpu", "a", ready=0)
    await world.passes("a", seconds=31)
    for name in ("a", "b"):
        world.up("cpu", name)
        await world.passes(name)
    world.operate(replace(IMAGES, embedder="engine:2", embedder_gpu="gpu:2"))
    await world.passes("a")
    world.up("cpu", "a")
    world.up("gpu", "a", ready=0)
    await world.passes("a")
    await world.passes("b")
    assert running(world, "cpu", "b") == "engine:2"
