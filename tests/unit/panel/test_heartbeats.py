"""Under virtual time: who is found dead when, who does its work, and how the panel becomes whole again."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from reembed.cluster import kinds
from reembed.core.quorum.membership import Role
from reembed.panel.settings import ROLES
from tests.panel_agents.memory import Memory, Pods, memory_panel, virtual_clock
from tests.panel_agents.world import Living, Panel

pytestmark = pytest.mark.looptime


class World:
    """A panel in office whose agents have connections of their own, and pods that are made anew."""

    def __init__(self) -> None:
        self.panel = memory_panel()
        assert isinstance(self.panel.cluster, Memory)
        self.server = self.panel.cluster.server
        self.lines: dict[str, Memory] = {}
        self.pods = Pods(self.server, self.panel, lambda name: self.start(name) and None)

    def start(self, name: str, skew: float = 0.0) -> Living:
        assert isinstance(self.panel.cluster, Memory)
        line = self.lines[name] = self.panel.cluster.line()
        return self.panel.start(name, clock=lambda: virtual_clock() + timedelta(seconds=skew), cluster=line)

    async def begin(self, skews: dict[str, float] | None = None) -> Panel:
        for name in self.panel.names:
            self.start(name, (skews or {}).get(name, 0.0))
            await asyncio.sleep(0.7)  # their beats are spread, as in life
        await self.panel.found()
        await asyncio.sleep(40)
        return self.panel

    def doing(self, role: Role) -> list[str]:
        return [name for name, one in self.panel.living.items() if one.agent.duties.mine(role)]

    def status(self) -> dict[str, object]:
        found = self.server.get(kinds.PANEL, "panel")
        assert found is not None
        return dict(found["status"])


async def until(holds: object, seconds: float = 300) -> float:
    """Return how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not holds():  # type: ignore[operator]  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.5)
    return loop.time() - began


@pytest.mark.parametrize("name", ["embedding-specialist", "byzantine-coordinator"])
async def test_the_work_of_a_dead_agent_is_another_s_within_45_seconds(name: str) -> None:
    world = World()
    panel = await world.begin()
    world.pods._starts = 1e6
    await panel.kill(name)
    took = await until(lambda: len(world.doing(ROLES[name])) == 1)
    await asyncio.sleep(10)
    assert (took <= 45, len(world.doing(ROLES[name]))) == (True, 1)
    await panel.kill()


async def test_a_panel_that_lost_two_agents_is_whole_within_a_minute() -> None:
    world = World()
    panel = await world.begin()
    # They hang: no kubelet sees that, and only the deletion of their pods helps.
    gone = ("byzantine-coordinator", "memory-analyst")
    await panel.kill(*gone)
    others = [one.agent.duties for one in panel.living.values()]

    def whole() -> bool:
        back = sorted(name for _, name in world.pods.deleted) == sorted(gone) and len(panel.living) == 8
        return back and all(len(duties.live) == 8 for duties in others)

    assert await until(whole) <= 60
    await until(lambda: world.status()["reachable"] == 8)
    measured = [
        sample.value
        for one in panel.living.values()
        for metric in one.metrics.recovery.collect()
        for sample in metric.samples
        if sample.name.endswith("_sum") and sample.value
    ]
    assert measured
    assert all(seconds / 2 <= 60 for seconds in measured)
    await panel.kill()


async def test_an_agent_that_could_not_look_for_minutes_deletes_nobody_s_pod() -> None:
    world = World()
    panel = await world.begin()
    world.pods._starts = 1e6  # its own pod is deleted meanwhile; this process lives on
    world.lines["byzantine-coordinator"].cut = True
    await asyncio.sleep(200)
    world.lines["byzantine-coordinator"].cut = False
    await asyncio.sleep(60)
    assert {name for _, name in world.pods.deleted} == {"byzantine-coordinator"}
    await panel.kill()


async def test_clocks_that_are_an_hour_wrong_make_nobody_dead() -> None:
    world = World()
    panel = await world.begin({"memory-analyst": 3600.0, "pattern-learner": -3600.0})
    await asyncio.sleep(120)
    assert (world.pods.deleted, world.status()["reachable"]) == ([], 8)
    await panel.kill()


async def test_a_pod_that_does_not_come_back_is_deleted_once_a_minute() -> None:
    world = World()
    panel = await world.begin()
    await panel.kill("memory-analyst")
    world.pods._start = lambda _: None
    await asyncio.sleep(300)
    times = [at for at, _ in world.pods.deleted]
    assert len(times) >= 3
    assert min(later - sooner for sooner, later in itertools.pairwise(times)) >= 60
    await panel.kill()


async def test_a_pod_that_may_not_be_deleted_keeps_no_other_one_from_being_made_anew() -> None:
    world = World()
    panel = await world.begin()
    for line in world.lines.values():
        line.refused = "pod-memory-analyst"
    await panel.kill("memory-analyst")
    await asyncio.sleep(15)
    await panel.kill("pattern-learner")
    await asyncio.sleep(60)
    assert [name for _, name in world.pods.deleted] == ["pattern-learner"]
    await panel.kill()


@pytest.mark.parametrize(
    ("deployment", "phase"),
    [
        ({"spec": {"replicas": 1}, "status": {"observedGeneration": 9, "updatedReplicas": 0}}, "Running"),
        ({"spec": {"replicas": 1}, "status": {"observedGeneration": 9, "updatedReplicas": 1}}, "Pending"),
    ],
    ids=["its Deployment rolls out", "it has not begun to run"],
)
async def test_a_pod_on_its_way_is_left_alone(deployment: dict[str, object], phase: str) -> None:
    world = World()
    panel = await world.begin()
    world.server.put(kinds.DEPLOYMENT, "reembed-panel-memory-analyst", deployment, "deployments")
    world.pods.make("memory-analyst", phase)
    await panel.kill("memory-analyst")
    await asyncio.sleep(180)
    assert world.pods.deleted == []
    await panel.kill()


async def test_a_coordinator_that_beats_and_does_nothing_is_replaced_in_its_work() -> None:
    world = World()
    panel = await world.begin()

    async def nothing() -> None: ...

    panel.living["byzantine-coordinator"].agent._coordinator.round = nothing  # type: ignore[method-assign]
    await panel.kill("memory-analyst")
    await asyncio.sleep(75)
    assert [name for _, name in world.pods.deleted] == ["memory-analyst"]
    await panel.kill()


async def test_a_panel_in_which_nothing_happens_is_not_written() -> None:
    world = World()
    panel = await world.begin()
    before = world.server.get(kinds.PANEL, "panel")
    await asyncio.sleep(600)
    assert world.server.get(kinds.PANEL, "panel") == before
    await panel.kill()


async def test_a_panel_below_its_quorum_says_so() -> None:
    world = World()
    panel = await world.begin()
    world.pods._starts = 1e6
    await panel.kill("memory-analyst", "pattern-learner", "streaming-loader")
    await asyncio.sleep(60)
    (ready, degraded) = world.status()["conditions"]  # type: ignore[misc]
    assert (ready["status"], ready["reason"], degraded["status"]) == ("False", "QuorumMissing", "True")
    assert world.status()["unreachable"] == ["memory-analyst", "pattern-learner", "streaming-loader"]
    await panel.kill()
