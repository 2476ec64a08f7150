"""What Prometheus reads of pools is the whole of what the last pass of each made of it."""

from __future__ import annotations

from prometheus_client import generate_latest

from reembed.cluster import kinds
from reembed.controller.cache import Key
from reembed.controller.migration_metrics import MigrationMetrics
from reembed.controller.readiness import Readiness
from tests.unit.controller.pool_world import CPU, IMAGES, World, carries
from tests.unit.controller.test_pools import OVERFLOW, reasons, serving


def exposed(world: World, *, leads: bool = True) -> str:
    """Return everything that is exposed of pools."""
    migrations = MigrationMetrics(world.process.ended)
    world.process.tell(Readiness((), ()), lambda: leads, world.figures, migrations)
    text = generate_latest(world.process.registry).decode().splitlines()
    return "".join(f"{line}\n" for line in text if "reembed_pool_" in line and "_created" not in line)


def series(world: World, name: str) -> dict[str, float]:
    """Return the values of one metric by its last label."""
    lines = [line for line in exposed(world).splitlines() if line.startswith(f"reembed_pool_{name}{{")]
    return {line.split('"')[-2]: round(float(line.split()[-1]), 3) for line in lines}


BUSY = """\
# HELP reembed_pool_recycled_pods_total Pods that were replaced, since their memory grows or a panel agreed
# TYPE reembed_pool_recycled_pods_total counter
reembed_pool_recycled_pods_total{namespace="rag",pool="old"} 0.0
# HELP reembed_pool_desired_replicas Pods that a variant should have
# TYPE reembed_pool_desired_replicas gauge
reembed_pool_desired_replicas{namespace="rag",pool="old",variant="cpu"} 2.0
reembed_pool_desired_replicas{namespace="rag",pool="old",variant="more"} 0.0
# HELP reembed_pool_ready_replicas Pods of a variant that are ready
# TYPE reembed_pool_ready_replicas gauge
reembed_pool_ready_replicas{namespace="rag",pool="old",variant="cpu"} 2.0
reembed_pool_ready_replicas{namespace="rag",pool="old",variant="more"} 0.0
# HELP reembed_pool_recommended_replicas Pods of a variant that would do now, if the scale-down window kept no others
# TYPE reembed_pool_recommended_replicas gauge
reembed_pool_recommended_replicas{namespace="rag",pool="old",variant="cpu"} 1.0
reembed_pool_recommended_replicas{namespace="rag",pool="old",variant="more"} 0.0
# HELP reembed_pool_floor_replicas Pods that migrations need at least, whatever was measured
# TYPE reembed_pool_floor_replicas gauge
reembed_pool_floor_replicas{namespace="rag",pool="old"} 0.0
# HELP reembed_pool_scaling_paused 1 if spec.scaling.paused keeps the pods that there are, else 0
# TYPE reembed_pool_scaling_paused gauge
reembed_pool_scaling_paused{namespace="rag",pool="old"} 0.0
# HELP reembed_pool_memory_growth_bytes_per_hour By how much the memory of the pod that grows fastest grows in an hour
# TYPE reembed_pool_memory_growth_bytes_per_hour gauge
# HELP reembed_pool_memory_full_seconds In how many seconds the first pod is at its memory limit if its growth goes on
# TYPE reembed_pool_memory_full_seconds gauge
# HELP reembed_pool_scaling_reason 1 for why the pool has as many pods as it has, as its status says
# TYPE reembed_pool_scaling_reason gauge
reembed_pool_scaling_reason{namespace="rag",pool="old",reason="Fewer"} 1.0
"""
EMPTY = "".join(f"{line}\n" for line in BUSY.splitlines() if line.startswith("#"))


async def busy() -> World:
    """Return a world whose pool went to two pods for its queue, which is empty by now."""
    world = await serving(World(), CPU, {**OVERFLOW, "name": "more"})
    world.says = dict.fromkeys(world.up(), carries(queue=16_384 * 3))
    await world.passes(seconds=5)
    world.says = dict.fromkeys(world.up(), carries())
    for _ in range(8):
        await world.passes(seconds=10)
    return world


async def test_everything_that_a_pass_decides_is_exposed() -> None:
    assert exposed(await busy()) == BUSY


async def test_a_replica_that_does_not_lead_exposes_no_pool() -> None:
    world = await busy()
    world.process.recycled.remove("rag", "old")
    assert exposed(world, leads=False) == EMPTY


async def test_a_pool_that_nobody_uses_is_not_exposed_and_one_that_is_gone_is_not_counted() -> None:
    world = await busy()
    world.cache.remove(kinds.INDEX, world.server.objects[Key(kinds.INDEX, "rag", "docs-old")])
    await world.passes()
    unused = dict(world.figures.known), series(world, "recycled_pods_total")
    world.cache.remove(kinds.POOL, world.server.objects[Key(kinds.POOL, "rag", "old")])
    await world.pools.reconcile(Key(kinds.POOL, "rag", "old"))
    assert (unused, exposed(world)) == (({}, {"old": 0.0}), EMPTY)


async def test_a_pool_that_is_paused_says_so() -> None:
    world = await serving(World(), CPU, scaling={"paused": True})
    assert (series(world, "scaling_paused"), series(world, "scaling_reason")) == ({"old": 1.0}, {"Paused": 1.0})


async def test_memory_that_grows_is_told_in_bytes_and_seconds_and_a_replaced_pod_is_counted() -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 1})
    (pod,) = world.up()
    for minute in range(15):
        world.says[pod] = carries(memory=500 + 10 * minute)
        await world.passes(seconds=60)
    grows = series(world, "memory_growth_bytes_per_hour"), series(world, "memory_full_seconds")
    while not world.server.evicted:
        minute += 1
        world.says[pod] = carries(memory=500 + 10 * minute)
        world.up()
        await world.passes(seconds=60)
    world.gone(pod)
    await world.passes(seconds=5)
    found = grows, series(world, "recycled_pods_total"), [one for one in reasons(world) if "Recycl" in one]
    assert found == (({"old": 600.0}, {"old": 2160.0}), {"old": 1.0}, ["Recycling", "Recycled"])


async def test_memory_that_stays_is_never_full() -> None:
    world = await serving(World(), {"name": "cpu", "minReplicas": 1})
    for _ in range(15):
        await world.passes(seconds=60)
    grows, full = series(world, "memory_growth_bytes_per_hour"), series(world, "memory_full_seconds")
    assert (grows, full) == ({"old": 0.0}, {"old": float("inf")})


async def test_counts_go_on_and_figures_begin_anew_with_another_term() -> None:
    world = await busy()
    world.operate(IMAGES)
    before = (dict(world.figures.known), series(world, "recycled_pods_total"))
    await world.passes(seconds=5)
    after = series(world, "desired_replicas")
    assert (before, after) == (({}, {"old": 0.0}), {"cpu": 2.0, "more": 0.0})
