"""An operator that is killed at any transition is gone on from: the same end, and every effect once.

Each row of the transition table is walked by a migration of its own (`lives`). The operator is a process that gets
SIGKILL the moment the row's new state is in the migration's status, in the middle of whatever it does next; another one
starts. What it may have done twice shows in the history of the index: every version of it is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Gone
from reembed.cluster.kinds import Kind
from reembed.controller.scrape import Sample
from reembed.core.fingerprint import fingerprint
from reembed.core.transitions import TRANSITIONS, Event, State
from tests.integration.controller.killable import Killable, killable
from tests.integration.controller.lives import GONE, LIVES, Life
from tests.integration.controller.running import until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

Object = dict[str, Any]
_PATIENCE = 240.0  # a machine may have much else to do; nothing waits longer than it must


def test_every_row_of_the_table_has_a_life() -> None:
    assert set(LIVES) == {(state, event) for state, row in TRANSITIONS.items() for event in row}


@pytest.mark.parametrize("state", [state for state in State if TRANSITIONS[state]], ids=lambda state: state.value)
async def test_an_operator_killed_as_a_state_is_left_comes_to_the_same_end(
    state: State, cluster: Cluster, apiserver_with_crds: Path, namespaces: dict[Event, str]
) -> None:
    lives = [
        lived(cluster, str(apiserver_with_crds), namespaces[event], (state, event)) for event in TRANSITIONS[state]
    ]
    found = await asyncio.gather(*lives)
    assert found == [(event.value, expected(LIVES[state, event])) for event in TRANSITIONS[state]]


@pytest.fixture
async def namespaces(cluster: Cluster, namespace: str) -> dict[Event, str]:
    """Make a namespace for each event."""
    made = {event: f"{namespace}-{event.value.lower()}" for event in Event}
    for name in made.values():
        await cluster._call("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    return made


def expected(life: Life) -> Object:
    return {"end": life.end, "serves": life.serves, "holder": None, "candidate": None, "weight": 0, "twice": []}


async def lived(cluster: Cluster, kubeconfig: str, namespace: str, row: tuple[State, Event]) -> tuple[str, Object]:
    """Lead a migration through a row, with an operator that is killed there; return how it ended."""
    life = LIVES[row]
    world = World(cluster, namespace, "docs")
    world.ip = "127.0.0.1"
    history: list[Object] = []
    async with answering(world) as port, watched(cluster, kinds.INDEX, namespace, history):
        bringing_up = asyncio.create_task(world.run())
        await prepare(cluster, world, namespace, life)
        with killable(kubeconfig, namespace, port) as operator:
            end = await led(cluster, world, namespace, row, operator)
            index = await freed(cluster, namespace)
        bringing_up.cancel()
    routing = index["status"].get("routing") or {}
    serving = routing.get("serving") or {}
    return row[1].value, {
        "end": end,
        "serves": serving.get("pool"),
        "holder": index["status"].get("activeMigration"),
        "candidate": routing.get("candidate"),
        "weight": routing.get("weight", 0),
        "twice": done_twice(history, world),
    }


async def led(cluster: Cluster, world: World, namespace: str, row: tuple[State, Event], operator: Killable) -> str:
    """Do what the life says, kill the operator when the row is behind it, and return the state it ends in."""
    life, (begins, event) = LIVES[row], row
    left_by = (begins, TRANSITIONS[begins][event])
    acts, states, killed = list(life.acts), [State.PREFLIGHT.value], False
    async with asyncio.timeout(_PATIENCE):
        async for raw in versions(cluster, namespace):
            state = raw["status"].get("state", "") if raw is not None else GONE
            if (state and state != states[-1]) or (state == "Canary" and event is Event.NEXT_STEP):
                states.append(state)
            while state and acts and acts[0][0].value == states[-1]:
                await acts.pop(0)[1](cluster, world, namespace)
            if not killed and passed(states, *left_by):
                operator.kill()
                operator.start()
                killed = True
            if killed and not acts and states[-1] == life.end:
                return states[-1]
    raise AssertionError("a watch of a migration ends only with it")


def passed(states: list[str], begins: State, ends: State) -> bool:
    """Return whether the last two states are the row's; finished ones pass a moment between them unseen."""
    return states[-1] == ends.value and begins.value in states[:-1] + ([begins.value] if begins == ends else [])


async def versions(cluster: Cluster, namespace: str) -> AsyncIterator[Object | None]:
    """Yield each version of the migration as it is written, and None once it is gone."""
    while True:
        with suppress(Gone):
            async for change, raw in cluster.watch(kinds.MIGRATION, namespace, name="move"):
                if change == "DELETED":
                    yield None
                    return
                yield {"status": {}, **raw}


async def freed(cluster: Cluster, namespace: str) -> Object:
    """Return the index once nobody holds it."""

    def free(index: Object) -> bool:
        return "activeMigration" not in index["status"] and not (index["status"].get("routing") or {}).get("candidate")

    found: Object = await until(cluster, kinds.INDEX, namespace, "docs", free)
    return found


def done_twice(history: list[Object], world: World) -> list[str]:
    """Return what was done again: a routing that is told under another epoch, a pointer moved to where it is."""
    found = []
    routings, pointers = [], []
    for index in history:
        status = index.get("status") or {}
        routings.append(status.get("routing") or {})
        pointers.append((status.get("plan") or {}).get("pointer") or {})
    for before, after in pairwise(routings):
        same = {**before, "epoch": 0} == {**after, "epoch": 0}
        if same and before.get("epoch") != after.get("epoch"):
            found.append(f"routing {after}")
    for before, after in pairwise(pointers):
        if before.get("collection") == after.get("collection") and before != after:
            found.append(f"pointer {after}")
    collections = list(world.jobs.values())
    found += [f"Job for {one}" for one in set(collections) if collections.count(one) > 1]
    return found


@asynccontextmanager
async def watched(cluster: Cluster, kind: Kind, namespace: str, history: list[Object]) -> AsyncIterator[None]:
    """Keep every version of the objects of a kind."""

    async def watch() -> None:
        while True:
            with suppress(Gone):
                async for _, obj in cluster.watch(kind, namespace):
                    history.append(obj)

    task = asyncio.create_task(watch())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def answering(world: World) -> AsyncIterator[int]:
    """Answer for all pods on one port of the loopback."""

    async def json(request: web.Request) -> web.Response:
        answers = await world.json({"pod": world.ip}, request.path)
        return web.json_response(answers["pod"]) if answers else web.Response(status=503)

    async def metrics(_: web.Request) -> web.Response:
        (samples,) = (await world.metrics({"pod": world.ip})).values()
        return web.Response(text="".join(map(exposed, samples)))

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/status", json), web.get("/v1/index", json)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, world.ip, 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def exposed(sample: Sample) -> str:
    name, labels, value = sample
    text = ",".join(f'{label}="{one}"' for label, one in labels.items())
    return f"{name}{{{text}}} {value}\n"


async def prepare(cluster: Cluster, world: World, namespace: str, life: Life) -> None:
    """Write a user's objects, an index that already serves, and the migration."""
    for name, value in life.world.items():
        setattr(world, name, value)
    wanted = objects(namespace)
    for (kind, _), obj in wanted.items():
        if kind != kinds.MIGRATION:
            await cluster.apply(kind, obj, manager="user")
    if life.filled:
        world.jobs["before"] = "c_before"
        body = {"metadata": {"namespace": namespace, "name": "docs"}, "status": serving_status()}
        await cluster.apply(kinds.INDEX, body, manager="reembed-migrations", subresource="status")
    migration = wanted[kinds.MIGRATION, "move"]
    migration["spec"] |= {"target": {"poolRef": {"name": life.target}}, **life.spec}
    del migration["spec"]["from"]
    await cluster.apply(kinds.MIGRATION, migration, manager="user")


def serving_status() -> Object:
    arm = {"pool": "old", "collection": "c_before", "fingerprint": OLD}
    entry = {**arm, "name": "c_before", "dimensions": 384, "shards": 8, "desired": "Indexed"}
    del entry["collection"]
    return {
        "routing": {"epoch": 1, "serving": arm, "weight": 0},
        "plan": {
            "collections": [entry],
            "pointer": {"collection": "c_before", "fingerprint": OLD, "generation": 1},
        },
    }


def _old_fingerprint() -> str:
    raw = objects("rag")[kinds.POOL, "old"]
    raw["metadata"] |= {"uid": "u"}
    return fingerprint(parse_pool(raw)[1].model)


OLD = _old_fingerprint()
