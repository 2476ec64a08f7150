"""A pool in use has the pods that its load, its nodes and its migrations ask for, and says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from reembed.api import render_migration_status
from reembed.api.acts import render_act
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.controller.cache import Key
from reembed.core.quorum.acted import Act
from reembed.core.quorum.proposals import Kind
from reembed.core.transitions import State
from tests import builders as b
from tests.unit.controller.fakes import Object
from tests.unit.controller.pool_world import CPU, IMAGES, World, carries

GPU = {"name": "gpu", "device": "GPU", "minReplicas": 1, "maxReplicas": 2}
GPU |= {"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}}  # type: ignore[dict-item]
OVERFLOW = {"name": "cpu", "minReplicas": 0, "maxReplicas": 4}


async def serving(world: World, *variants: dict[str, object], **spec: object) -> World:
    """Return the world with pool old in use, and its pods up."""
    world.pool("old", list(variants) or [CPU], **spec)
    world.index("old")
    await world.passes()
    for variant in world.sizes_now():
        world.says |= dict.fromkeys(world.up(variant), carries())
    await world.passes()
    return world


def reasons(world: World) -> list[str]:
    return [reason for reason, _ in world.server.events]


async def test_a_pool_in_use_has_its_minimum_and_a_budget() -> None:
    world = await serving(World())
    status = world.status()
    assert (world.sizes_now(), status["phase"], status["variants"], status["scaling"]["reason"]) == (
        {"cpu": 1},
        "Ready",
        [{"name": "cpu", "desiredReplicas": 1, "readyReplicas": 1, "reason": ""}],
        "Minimum",
    )
    budget = world.server.objects[Key(kinds.DISRUPTION_BUDGET, "rag", "reembed-embedder-old")]
    assert (budget["spec"]["maxUnavailable"], budget["spec"]["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


async def test_slow_answers_bring_pods_and_quick_ones_take_them_after_the_window() -> None:
    world = await serving(World())
    (pod,) = world.up()
    world.says[pod] = carries(requests=100)
    await world.passes(seconds=5)
    world.says[pod] = carries(requests=200, slow=50)
    await world.passes(seconds=10)
    assert (world.sizes_now(), world.status()["scaling"]["reason"]) == ({"cpu": 4}, "Latency")
    world.says = dict.fromkeys(world.up(), carries(requests=200, slow=50))
    found = []
    for _ in range(40):
        await world.passes(seconds=10)
        found.append(world.sizes_now()["cpu"])
    assert (found.index(1) in range(30, 35), set(found), reasons(world)) == (True, {4, 1}, ["ScaledUp", "ScaledDown"])


async def test_a_pool_says_in_which_types_its_pods_multiply_and_remembers_it() -> None:
    world = await serving(World())
    pod, *_ = world.up()
    name = "reembed_embedder_weights"
    world.says[pod] = [*carries(), (name, {"type": "BF16"}, 1.0)]
    await world.passes(seconds=60)
    world.says.clear()
    world.operate(IMAGES)
    await world.passes(seconds=60)
    assert [one["weightType"] for one in world.status()["variants"]] == ["BF16"]


async def test_a_steady_pool_is_asked_often_and_written_never() -> None:
    world = await serving(World())
    await world.passes(seconds=5)
    writes, asked = world.server.version, world.asked
    for number in range(20):
        world.says = dict.fromkeys(world.up(), carries(memory=100 + number, queue=7.0 * number))
        again = await world.passes(seconds=5)
        assert again <= timedelta(seconds=5)
    assert (world.server.version - writes, world.asked - asked) == (0, 20)


async def test_a_pool_of_one_size_is_asked_once_a_minute() -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 2})
    asked = world.asked
    for _ in range(60):
        await world.passes(seconds=5)
    assert (5 <= world.asked - asked <= 8, world.status()["scaling"]["reason"]) == (True, "Fixed")


async def test_what_no_gpu_has_room_for_goes_to_cpus_and_returns() -> None:
    world = World()
    world.pool("old", [{**GPU, "minReplicas": 2}, OVERFLOW], scaling={"scaleDownWindow": "1m"})
    world.index("old")
    await world.passes()
    world.up("gpu", ready=1)
    await world.passes(seconds=29)
    patient = world.sizes_now()
    await world.passes(seconds=2)
    world.up("cpu")
    await world.passes(seconds=5)
    assert (patient, world.sizes_now(), world.status()["variants"], world.status()["phase"]) == (
        {"gpu": 2, "cpu": 0},
        {"gpu": 2, "cpu": 1},
        [
            {"name": "gpu", "desiredReplicas": 2, "readyReplicas": 1, "reason": "Unschedulable"},
            {"name": "cpu", "desiredReplicas": 1, "readyReplicas": 1, "reason": ""},
        ],
        "Ready",
    )
    world.says = dict.fromkeys([*world.up("gpu"), *world.up("cpu")], carries())
    for _ in range(16):
        await world.passes(seconds=5)
    assert (world.sizes_now(), reasons(world)) == (
        {"gpu": 2, "cpu": 0},
        ["Overflow", "Unschedulable", "ScaledDown"],
    )


async def test_a_gpu_variant_without_an_image_is_refused_and_others_serve() -> None:
    world = World(replace(IMAGES, embedder_gpu=""))
    world.pool("old", [GPU, OVERFLOW])
    world.index("old")
    await world.passes()
    world.up("cpu")
    await world.passes()
    status = world.status()
    assert (world.sizes_now(), status["variants"][0]["reason"]) == ({"cpu": 1}, "GpuImageMissing")
    assert "set the chart's images.embedderGpu" in status["message"]


@pytest.mark.parametrize("used", [True, False], ids=["in use", "idle"])
async def test_of_two_pools_that_ask_for_one_deployment_the_second_says_so_and_the_first_runs_on(used: bool) -> None:
    world = World()
    world.pool("text", [{**CPU, "name": "v2-cpu"}])
    world.pool("text-v2", [CPU, {**CPU, "name": "small"}])
    world.index("text", *["text-v2"] * used)
    await world.passes("text")
    before = world.deployment("v2-cpu", "text")
    await world.passes("text-v2")
    status = world.status("text-v2")
    assert world.deployment("cpu", "text-v2") is before
    assert world.sizes_now("text-v2").keys() == {"cpu", "small"}
    assert status["message"] == (
        "variant 'cpu' needs Deployment reembed-embedder-text-v2-cpu, which is of pool 'text'; the variant gets no"
        " pods. Give it another name"
    )


async def test_a_gpu_variant_runs_its_own_image_and_never_needs_a_second_gpu_to_be_replaced() -> None:
    world = await serving(World(), GPU)
    spec = world.deployment("gpu")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert (container["image"], spec["strategy"]["rollingUpdate"]) == ("gpu:1", {"maxSurge": 0, "maxUnavailable": 1})
    assert {"name": "REEMBED_DEVICE", "value": "GPU"} in container["env"]


async def test_a_gpu_pod_is_replaced_after_another_variant_answers() -> None:
    world = await serving(World(), GPU, OVERFLOW)
    world.operate(replace(IMAGES, embedder="engine:2", embedder_gpu="gpu:2"))
    await world.passes()
    waits = (world.sizes_now(), running(world, "gpu"))
    world.up("cpu")
    await world.passes()
    goes = (world.sizes_now(), running(world, "gpu"))
    assert (waits, goes) == (({"gpu": 1, "cpu": 1}, "gpu:1"), ({"gpu": 1, "cpu": 1}, "gpu:2"))


def running(world: World, variant: str, pool: str = "old") -> str:
    (container,) = world.deployment(variant, pool)["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


async def test_what_is_larger_than_every_node_is_refused_and_what_a_new_node_may_bring_is_waited_for() -> None:
    found = []
    for resource, amount in (("memory", "9Gi"), ("nvidia.com/gpu", "1")):
        world = World()
        allocatable = {"memory": "8Gi", "cpu": "4"}
        world.put(kinds.NODE, {"metadata": {"name": "n", "namespace": ""}, "status": {"allocatable": allocatable}})
        world.pool("old", [{**CPU, "resources": {"requests": {resource: amount}}}])
        world.index("old")
        await world.passes()
        world.up(ready=0)
        await world.passes(seconds=31)
        found.append((world.status()["phase"], world.status()["message"]))
    assert found == [
        (
            "Failed",
            "a pod of variant 'cpu' asks for memory 9Gi, and the largest of the 1 nodes that it may run on has 8Gi for"
            " pods; ask for less, or add a larger node",
        ),
        ("Starting", "pod reembed-embedder-old-cpu-0: 0/1 nodes: Insufficient nvidia.com/gpu"),
    ]


async def test_where_nodes_may_not_be_listed_what_has_no_room_is_waited_for() -> None:
    world = World()
    world.server.faults[kinds.NODE, ""] = ClusterError(403, "nodes is forbidden")
    world.pool("old", [{**CPU, "resources": {"requests": {"memory": "9Gi"}}}])
    world.index("old")
    await world.passes()
    world.up(ready=0)
    await world.passes(seconds=31)
    assert world.status()["phase"] == "Starting"


def image(world: World, pool: str = "old") -> tuple[str, str]:
    (container,) = world.deployment(pool=pool)["spec"]["template"]["spec"]["containers"]
    return container["image"], world.status(pool)["images"]["embedder"]


def migrates(world: World, state: State) -> None:
    """Have a migration from pool old to pool new in some state."""
    migration = b.migration(state)
    spec = {"indexRef": {"name": "docs-old"}, "target": {"poolRef": {"name": "new"}}}
    status = render_migration_status(migration.status, migration.spec)
    world.put(kinds.MIGRATION, {"metadata": {"name": "move"}, "spec": spec, "status": status})


async def test_a_newer_operator_leaves_the_engines_of_a_migration_alone_until_it_has_ended() -> None:
    world = await serving(World())
    migrates(world, State.CANARY)
    await world.passes()
    template = world.deployment()["spec"]["template"]
    world.operate(replace(IMAGES, embedder="engine:2"))
    await world.passes()
    kept = (image(world), world.deployment()["spec"]["template"] == template)
    migrates(world, State.SUCCEEDED)
    await world.passes()
    assert (kept, image(world)) == ((("engine:1", "engine:1"), True), ("engine:2", "engine:2"))


async def test_engines_are_replaced_pool_by_pool() -> None:
    world = World()
    for name in ("a", "b"):
        world.pool(name)
        world.index(name)
        await world.passes(name)
        world.up(pool=name)
        await world.passes(name)
    world.operate(replace(IMAGES, embedder="engine:2"))
    await world.passes("b")
    await world.passes("a")
    world.up(pool="a", ready=0)
    await world.passes("b")
    one = (image(world, "a")[0], image(world, "b")[0])
    world.up(pool="a")
    await world.passes("b")
    assert (one, image(world, "b")[0]) == (("engine:2", "engine:1"), "engine:2")


async def test_an_emptied_status_does_not_replace_engines_in_a_migration() -> None:
    world = await serving(World())
    migrates(world, State.CANARY)
    pool = world.server.objects[Key(kinds.POOL, "rag", "old")]
    world.put(kinds.POOL, {**pool, "status": {}})
    world.operate(replace(IMAGES, embedder="engine:2"))
    await world.passes()
    assert image(world) == ("engine:1", "engine:1")


async def test_a_pod_that_leaks_is_replaced_before_it_is_full_and_after_another_is_ready() -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 1})
    (pod,) = world.up()
    for minute in range(20):
        world.says[pod] = carries(memory=500 + 15 * minute)
        await world.passes(seconds=60)
        if world.status()["scaling"].get("recycling"):
            break
    surged = (world.status()["scaling"]["recycling"], world.sizes_now(), world.server.evicted)
    assert surged == (pod, {"cpu": 2}, [])
    world.up()
    await world.passes(seconds=5)
    assert world.server.evicted == [pod]
    world.gone(pod)
    await world.passes(seconds=5)
    assert (world.sizes_now(), world.status()["scaling"].get("recycling")) == ({"cpu": 1}, None)
    assert [reason for reason in reasons(world) if reason.startswith("Recycl")] == ["Recycling", "Recycled"]


def word(world: World, kind: Kind, pod: str, at: datetime, **says: str) -> None:
    """Have the panel agree to replace a pod of pool old."""
    raw = world.server.objects[Key(kinds.MIGRATION, "rag", "move")]
    uid = world.server.objects[Key(kinds.POOL, "rag", "old")]["metadata"]["uid"]
    change = {"pod": pod, "pool": "old", "poolUid": uid, **says}
    act = Act(kind, 1, "d1", at, 1, "t", tuple(sorted(change.items())))
    world.put(kinds.MIGRATION, {**raw, "status": {**raw["status"], "executed": [render_act(act)]}})


@pytest.mark.parametrize(
    ("kind", "says"),
    [pytest.param(Kind.RECOVER, {}, id="recover"), pytest.param(Kind.CORRECT, {"drift": "PodDrift"}, id="correct")],
)
async def test_a_pod_that_the_panel_names_is_replaced_after_another_is_ready(kind: Kind, says: dict[str, str]) -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 1})
    (pod,) = world.up()
    migrates(world, State.CANARY)
    await world.passes()
    word(world, kind, pod, world.now, **says)
    await world.passes()
    surged = (world.status()["scaling"]["recycling"], world.sizes_now(), world.server.evicted)
    assert surged == (pod, {"cpu": 2}, [])
    world.operate(IMAGES)  # another operator goes on with it
    world.up()
    await world.passes(seconds=5)
    assert world.server.evicted == [pod]
    world.gone(pod)
    await world.passes(seconds=5)
    assert (world.sizes_now(), world.status()["scaling"].get("recycling")) == ({"cpu": 1}, None)
    assert [reason for reason in reasons(world) if reason.startswith("Recycl")] == ["Recycling", "Recycled"]


@pytest.mark.parametrize(
    ("kind", "drift", "kept"),
    [
        pytest.param(Kind.CORRECT, {"drift": "PodDrift"}, True, id="correct"),
        pytest.param(Kind.RECOVER, {}, False, id="recover"),
    ],
)
async def test_a_correction_applies_a_pool_again_although_no_watch_told_of_a_change(
    kind: Kind, drift: dict[str, str], kept: bool
) -> None:
    world = await serving(World())
    (pod,) = world.up()
    migrates(world, State.CANARY)
    await world.passes()
    key = Key(kinds.SERVICE, "rag", "reembed-embedder-old")
    wanted = world.server.objects[key]["spec"]
    world.server.write(kinds.SERVICE, {"metadata": {"namespace": "rag", "name": key.name}, "spec": {"selector": {}}})
    word(world, kind, pod, world.now, **drift)
    await world.passes()
    first = world.server.objects[key]["spec"] == wanted
    world.server.write(kinds.SERVICE, {"metadata": {"namespace": "rag", "name": key.name}, "spec": {"selector": {}}})
    await world.passes()
    assert (first, world.server.objects[key]["spec"] == wanted) == (kept, False)  # once


@pytest.mark.parametrize(
    ("minutes", "scaling", "says"),
    [
        pytest.param(10, {}, {}, id="of ten minutes ago"),
        pytest.param(0, {"paused": True}, {}, id="while somebody paused its scaling"),
        pytest.param(0, {}, {"poolUid": "of another"}, id="of another pool of its name"),
    ],
)
async def test_what_the_panel_agreed_on_replaces_no_pod(
    minutes: int, scaling: dict[str, Any], says: dict[str, str]
) -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 1}, **({"scaling": scaling} if scaling else {}))
    (pod,) = world.up()
    migrates(world, State.CANARY)
    word(world, Kind.RECOVER, pod, world.now - timedelta(minutes=minutes), **says)
    await world.passes()
    assert (world.sizes_now(), world.status()["scaling"].get("recycling")) == ({"cpu": 1}, None)


async def test_a_restarted_operator_takes_no_pod_away_before_it_has_seen_what_they_carry() -> None:
    world = await serving(World(), CPU)
    (pod,) = world.up()
    world.says[pod] = carries(queue=16_384 * 3)
    for _ in range(7):
        await world.passes(seconds=5)
    before = world.sizes_now()
    world.says = {}
    world.up()
    world.operate(IMAGES)
    for _ in range(100):
        await world.passes(seconds=5)
    assert (before, world.sizes_now(), world.status()["scaling"]["reason"]) == ({"cpu": 3}, {"cpu": 3}, "NoMetrics")


async def test_a_pool_that_nobody_uses_has_no_pods_and_remembers_nothing() -> None:
    world = await serving(World())
    index = world.server.objects[Key(kinds.INDEX, "rag", "docs-old")]
    world.cache.remove(kinds.INDEX, index)
    await world.passes()
    status = world.status()
    assert (world.sizes_now(), status["phase"], status["desiredReplicas"]) == ({"cpu": 0}, "Idle", 0)


async def fetching(world: World, **said: object) -> Object:
    """Have a pool whose one pod runs and is not ready; return the pool's status after a pass."""
    world.pool("old", [CPU])
    world.index("old")
    await world.passes()
    (pod,) = world.up(ready=0)
    meta = world.server.objects[Key(kinds.POD, "rag", pod)]["metadata"]
    world.put(kinds.POD, {"metadata": meta, "status": {"phase": "Running", "podIP": pod}})
    world.loading[pod] = {"source": "hf://o/r/f", "done": 40, "size": 100, "breaker": "closed", "error": "", **said}
    await world.passes(seconds=5)
    return world.status()


def _conditions(status: Object) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


async def test_a_pool_says_how_far_its_model_is() -> None:
    world = World()
    status = await fetching(world)
    assert (status["phase"], status["message"]) == (
        "Starting",
        "pod reembed-embedder-old-cpu-0 fetches hf://o/r/f: 40 % of 100 bytes are here",
    )
    assert _conditions(status) == {
        "Ready": ("False", "ModelLoading"),
        "Progressing": ("True", "ModelLoading"),
        "Degraded": ("False", "AsExpected"),
    }
    assert await world.passes(seconds=1) <= timedelta(seconds=5)


async def test_a_model_whose_source_fails_degrades_its_pool() -> None:
    status = await fetching(World(), breaker="open", error="status 503")
    assert _conditions(status)["Degraded"] == ("True", "ModelSourceFailing")


async def test_a_pod_that_answers_nonsense_is_starting() -> None:
    status = await fetching(World(), done="much")
    assert (status["phase"], status["message"]) == ("Starting", "")
