"""Namespaces are served apart: each is seen whole before its loops run, and no other waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Refused
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.ending import Ending
from reembed.controller.handlers import concerned
from reembed.controller.listing import KINDS, Lists
from reembed.controller.loop import Loops
from reembed.controller.readiness import Readiness
from reembed.controller.serving import serve
from reembed.controller.writer import Writer
from reembed.core import names
from tests.unit.controller.fakes import FakeCluster

pytestmark = pytest.mark.looptime

FORBIDDEN = Refused(403, "the API server answered 403: pods is forbidden")
INDEX = Key(kinds.INDEX, "rag", "docs")
ENDS = {"phase": "Terminating"}
LOST = Key(kinds.INDEX, "lost", "docs")


class World:
    """Two namespaces with an index each; passes are only counted."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.loops = Loops(self._pass, logging.getLogger("test"))
        self.cache = Cache(self._news)
        self.passes: list[Key] = []
        self.on_pass: Callable[[], object] = lambda: None
        self.watches: Counter[str] = Counter()
        self.failing: set[str] = set()  # namespaces whose watches fail
        self.readiness = Readiness(("rag", "lost"), KINDS)
        self.stop = asyncio.Event()
        self.leads = asyncio.Event()
        self.leads.set()
        for namespace in ("rag", "lost"):
            self.user(kinds.INDEX, "docs", namespace)

    def user(self, kind: Kind, name: str, namespace: str = "rag", **labels: str) -> None:
        self.cluster.write(kind, {"metadata": {"namespace": namespace, "name": name, "labels": labels}})

    def at(self, seconds: float, act: Callable[..., object], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *arguments)

    async def after(self, seconds: float) -> None:
        """Serve both namespaces for a while."""
        ending = Ending(self.cluster, self.cache, Writer(self.cluster, self.cache))
        lists = Lists(self.cluster, self.cache, self.readiness, ending)
        self.at(seconds, self.stop.set)
        await serve(("lost", "rag"), lists, self.loops, self._watch, self.leads, self.stop)

    def _news(self, kind: Kind, obj: Object, before: Object | None) -> None:
        for key in concerned(kind, obj, self.cache, before):
            self.loops.wake(key)

    def pods(self) -> list[str]:
        return [one["metadata"]["name"] for one in self.cache.all(kinds.POD, "rag")]

    async def _pass(self, key: Key) -> timedelta:
        self.passes.append(key)
        self.on_pass()
        return timedelta(days=1)

    async def _watch(self, namespace: str) -> None:
        self.watches[namespace] += 1
        await asyncio.sleep(1)
        if namespace in self.failing:
            raise RuntimeError("403")
        await asyncio.Event().wait()


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_namespace_that_cannot_be_listed_holds_up_no_other(world: World) -> None:
    world.cluster.faults[kinds.POD, "lost"] = FORBIDDEN
    await world.after(1)
    assert (world.passes, world.watches) == ([INDEX], {"rag": 1})


async def test_loops_wait_until_everything_of_their_namespace_is_listed(world: World) -> None:
    world.cluster.faults[KINDS[-1], "rag"] = ClusterError(500, "the API server answered 500")
    world.at(10, world.cluster.faults.clear)
    before: list[Key] = []
    world.at(10, lambda: before.extend(world.passes))
    await world.after(20)
    assert (before, world.passes) == ([LOST], [LOST, INDEX])


async def test_a_pod_whose_end_no_watch_told_is_forgotten_within_a_minute(world: World) -> None:
    world.user(kinds.POD, "gateway", **{names.LABEL_INDEX: "docs"})
    world.at(10, world.cluster.gone, kinds.POD, "rag", "gateway")
    await world.after(10 + 60)
    assert (world.pods(), world.passes.count(INDEX)) == ([], 2)


async def test_an_end_between_the_two_first_lists_is_noticed_at_once(world: World) -> None:
    world.user(kinds.POD, "gateway")
    world.at(0.1, world.cluster.gone, kinds.POD, "rag", "gateway")
    await world.after(5.5)
    assert world.pods() == []


async def test_a_pod_that_no_watch_told_of_is_found_within_a_minute(world: World) -> None:
    world.at(10, world.user, kinds.POD, "gateway")
    await world.after(10 + 60)
    assert world.pods() == ["gateway"]


async def test_an_idle_hour_costs_lists_and_nothing_else(world: World) -> None:
    await world.after(3600)
    rounds = world.cluster.lists / len(KINDS) / 2
    assert (len(world.passes), world.cluster.applies, 60 <= rounds <= 62) == (2, 0, True)


async def test_watches_that_fail_begin_anew_and_no_others_with_them(world: World) -> None:
    world.failing.add("lost")
    await world.after(15)
    assert world.watches == {"rag": 1, "lost": 3}


async def test_a_namespace_that_loses_its_rights_is_told_until_it_has_them_again(world: World) -> None:
    world.at(10, world.cluster.faults.update, {(kinds.POD, "lost"): FORBIDDEN})
    world.at(80, world.cluster.faults.clear)
    told: list[list[bool]] = []
    for second in (9, 79, 120):
        world.at(second, lambda: told.append([world.readiness.ready(one) for one in ("rag", "lost")]))
    await world.after(121)
    assert told == [[True, True], [True, False], [True, True]]


@pytest.mark.parametrize("status", [0, 403])
async def test_the_end_is_not_waited_for_while_nothing_can_be_listed(world: World, status: int, looptime: Any) -> None:
    world.cluster.faults = {(kind, one): ClusterError(status, "no") for kind in KINDS for one in ("rag", "lost")}
    await world.after(100)
    assert (looptime, world.passes) == (100, [])


async def test_a_deleted_namespace_whose_rights_are_gone_is_let_go(world: World) -> None:
    world.cluster.write(kinds.NAMESPACE, {"metadata": {"namespace": "", "name": "lost"}, "status": ENDS})
    world.cluster.faults[kinds.POD, "lost"] = FORBIDDEN
    ours, theirs = {"finalizers": [names.FINALIZER]}, {"finalizers": [names.FINALIZER, "their.own/one"]}
    deleted = {"namespace": "lost", "generation": 1, "deletionTimestamp": "2026-01-01T12:00:00Z"}
    world.cluster.write(kinds.INDEX, {"metadata": {**deleted, **ours, "name": "docs"}})
    world.cluster.write(kinds.POOL, {"metadata": {**deleted, **theirs, "name": "old"}})
    await world.after(5)
    left = {
        key.name: obj["metadata"]["finalizers"] for key, obj in world.cluster.objects.items() if key.namespace == "lost"
    }
    assert left == {"old": ["their.own/one"]}


async def test_a_replica_on_standby_lists_and_watches_and_runs_no_pass(world: World) -> None:
    world.leads.clear()
    world.at(10, world.user, kinds.POD, "gateway")
    await world.after(10 + 60)
    assert (world.passes, world.watches, world.pods()) == ([], {"rag": 1, "lost": 1}, ["gateway"])


async def test_who_begins_to_lead_has_seen_what_the_leader_before_wrote_last(world: World) -> None:
    world.leads.clear()
    world.at(20.0, world.user, kinds.POD, "gateway")  # no watch tells of it
    world.at(20.1, world.leads.set)
    seen: list[list[str]] = []
    world.on_pass = lambda: seen.append(world.pods())
    await world.after(20.2)
    assert (sorted(world.passes, key=str), seen[0]) == (sorted((INDEX, LOST), key=str), ["gateway"])


async def test_who_leads_from_the_start_lists_once(world: World) -> None:
    await world.after(1)
    assert world.cluster.lists == 2 * len(KINDS)


async def test_a_namespace_that_cannot_be_listed_when_its_replica_begins_to_lead_waits_alone(world: World) -> None:
    world.leads.clear()
    world.at(20, world.cluster.faults.update, {(kinds.POD, "lost"): FORBIDDEN})
    world.at(21, world.leads.set)
    await world.after(25)
    assert world.passes == [INDEX]
