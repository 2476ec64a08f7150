"""A way through every row of the transition table: what the world and a person do, and how it ends.

Each `Life` leads a migration through one row on a real API server. Whatever it needs is said in one line: a world in
which something does not get on, a spec, and an act once the migration has got to where the row begins.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Conflict
from reembed.core.transitions import Event, State
from tests.integration.controller.running import until
from tests.integration.controller.world import World, objects

Act = Callable[[Cluster, World, str], Awaitable[None]]
GONE = "Gone"
EVALUATED = {"evaluation": {"labels": {"table": "labels"}}}
HELD = {"canary": {"steps": [{"weight": 10, "hold": "1h"}, {"weight": 100, "hold": "1s"}]}}
AT_ONCE = {"canary": {"steps": [{"weight": 100, "hold": "0s"}]}}
KEPT = {"retention": {"window": "1h"}}


@dataclass(frozen=True)
class Life:
    """How a row is reached, and the state, the serving pool and the weights that it comes to."""

    end: str
    serves: str | None = "old"
    world: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    acts: tuple[tuple[State, Act], ...] = ()  # what is done once the migration is in a state
    filled: bool = True  # whether something serves before
    target: str = "new"


async def deleted(cluster: Cluster, world: World, namespace: str) -> None:
    await cluster.delete(kinds.MIGRATION, namespace, "move")


async def stolen(cluster: Cluster, world: World, namespace: str) -> None:
    """Have another migration hold the index."""
    thief = objects(namespace)[kinds.MIGRATION, "move"]
    thief["metadata"]["name"] = "thief"
    thief["spec"]["paused"] = True
    made = await cluster.apply(kinds.MIGRATION, thief, manager="user")
    while True:
        index = await cluster.get(kinds.INDEX, namespace, "docs")
        assert index is not None
        change = {
            "metadata": {"resourceVersion": index["metadata"]["resourceVersion"]},
            "status": {"activeMigration": {"name": "thief", "uid": made["metadata"]["uid"]}},
        }
        path = kinds.INDEX.path(namespace, "docs") + "/status"
        try:
            await cluster._call("PATCH", path, body=change, content="application/merge-patch+json")
            return
        except Conflict:
            continue


async def stolen_late(cluster: Cluster, world: World, namespace: str) -> None:
    """Have another one hold it once it routes to the new side: before that, a promotion waits until it is free."""
    await until(cluster, kinds.INDEX, namespace, "docs", lambda index: _serves(index) == "new")
    await stolen(cluster, world, namespace)


def _serves(index: Any) -> str:
    serving = index["status"].get("routing", {}).get("serving") or {}
    return str(serving.get("pool", ""))


async def returned(cluster: Cluster, world: World, namespace: str) -> None:
    await cluster.delete(kinds.MIGRATION, namespace, "thief")


def commanded(verb: str) -> Act:
    async def act(cluster: Cluster, world: World, namespace: str) -> None:
        raw = await cluster.get(kinds.MIGRATION, namespace, "move")
        assert raw is not None
        value = {"uid": raw["metadata"]["uid"], "at": raw["status"]["at"], "nonce": f"{verb}-1"}
        change = {"metadata": {"annotations": {f"reembed.dev/{verb}": json.dumps(value)}}}
        await cluster.patch(kinds.MIGRATION, namespace, "move", change, manager="user")

    return act


def changed(**values: Any) -> Act:
    async def act(cluster: Cluster, world: World, namespace: str) -> None:
        for name, value in values.items():
            setattr(world, name, value)

    return act


def patched(**spec: Any) -> Act:
    async def act(cluster: Cluster, world: World, namespace: str) -> None:
        await cluster.patch(kinds.MIGRATION, namespace, "move", {"spec": spec}, manager="user")

    return act


late = patched(progressDeadline="1s")
aborted, retried = commanded("abort"), commanded("retry")
STARTING = {"starting": {"reembed-embedder-new-cpu"}}
NO_FILL, NO_INDEX, NO_VERDICT = {"reached": "Filling"}, {"reached": "Filled"}, {"verdict": None}
NO_WITHDRAWAL = {"withdraws": False}
FAILING = changed(failing={"new"})

PRE, FILL, BUILD, EVAL = State.PREFLIGHT, State.BACKFILLING, State.INDEXING, State.EVALUATING
CANARY, KEEP, PROMOTE, BACK = State.CANARY, State.RETAINING, State.PROMOTING, State.ROLLING_BACK

LIVES: Mapping[tuple[State, Event], Life] = {
    (PRE, Event.PASSED): Life("Succeeded", "new"),
    (PRE, Event.ALREADY_THERE): Life("Succeeded", target="old"),
    (PRE, Event.REFUSED): Life("Failed", spec={"dependsOn": [{"name": "move"}]}),
    (PRE, Event.DEADLINE): Life("Failed", world=STARTING, acts=((PRE, late),)),
    (PRE, Event.ABORTED): Life("RolledBack", world=STARTING, acts=((PRE, aborted),)),
    (PRE, Event.DELETED): Life(GONE, world=STARTING, acts=((PRE, deleted),)),
    (FILL, Event.PASSED): Life("Succeeded", "new"),
    (FILL, Event.REFUSED): Life("Failed", world={"rejected": 500} | NO_FILL),
    (FILL, Event.DEADLINE): Life("Failed", world=NO_FILL, acts=((FILL, late),)),
    (FILL, Event.ABORTED): Life("RolledBack", world=NO_FILL, acts=((FILL, aborted),)),
    (FILL, Event.DELETED): Life(GONE, world=NO_FILL, acts=((FILL, deleted),)),
    (BUILD, Event.PASSED): Life("Succeeded", "new"),
    (BUILD, Event.REFUSED): Life("Failed", world=NO_INDEX, acts=((BUILD, stolen), (State.FAILED, returned))),
    (BUILD, Event.DEADLINE): Life("Failed", world=NO_INDEX, acts=((BUILD, late),)),
    (BUILD, Event.ABORTED): Life("RolledBack", world=NO_INDEX, acts=((BUILD, aborted),)),
    (BUILD, Event.DELETED): Life(GONE, world=NO_INDEX, acts=((BUILD, deleted),)),
    (EVAL, Event.PASSED): Life("Succeeded", "new", spec=EVALUATED),
    (EVAL, Event.NOTHING_SERVES): Life("Succeeded", "new", filled=False),
    (EVAL, Event.REFUSED): Life("RolledBack", world={"verdict": "Inferior"}, spec=EVALUATED),
    (EVAL, Event.DEADLINE): Life("RolledBack", world=NO_VERDICT, spec=EVALUATED, acts=((EVAL, late),)),
    (EVAL, Event.ABORTED): Life("RolledBack", world=NO_VERDICT, spec=EVALUATED, acts=((EVAL, aborted),)),
    (EVAL, Event.DELETED): Life(GONE, world=NO_VERDICT, spec=EVALUATED, acts=((EVAL, deleted),)),
    (CANARY, Event.NEXT_STEP): Life("Succeeded", "new"),
    (CANARY, Event.PASSED): Life("Succeeded", "new"),
    (CANARY, Event.TRIGGERED): Life("RolledBack", acts=((CANARY, FAILING),)),
    (CANARY, Event.DEADLINE): Life(
        "RolledBack",
        spec=AT_ONCE,
        acts=((CANARY, changed(silent=True)), (CANARY, late), (BACK, changed(silent=False))),
    ),
    (CANARY, Event.ABORTED): Life("RolledBack", spec=HELD, acts=((CANARY, aborted),)),
    (CANARY, Event.DELETED): Life(GONE, spec=HELD, acts=((CANARY, deleted),)),
    (KEEP, Event.PASSED): Life("Succeeded", "new"),
    (KEEP, Event.TRIGGERED): Life("RolledBack", spec=KEPT, acts=((KEEP, FAILING),)),
    (KEEP, Event.ABORTED): Life("RolledBack", spec=KEPT, acts=((KEEP, aborted),)),
    (KEEP, Event.DELETED): Life(GONE, spec=KEPT, acts=((KEEP, deleted),)),
    (PROMOTE, Event.CONFIRMED): Life("Succeeded", "new"),
    (PROMOTE, Event.REFUSED): Life(
        "Failed", "new", world=NO_WITHDRAWAL, acts=((PROMOTE, stolen_late), (State.FAILED, returned))
    ),
    (BACK, Event.CONFIRMED): Life("RolledBack", spec=HELD, acts=((CANARY, aborted),)),
    (BACK, Event.DELETED): Life(
        GONE,
        world=NO_WITHDRAWAL,
        spec=HELD,
        acts=((CANARY, aborted), (BACK, deleted), (State.UNWINDING, changed(withdraws=True))),
    ),
    (State.UNWINDING, Event.CONFIRMED): Life(GONE, spec=HELD, acts=((CANARY, deleted),)),
    (State.SUCCEEDED, Event.DELETED): Life(GONE, "new", acts=((State.SUCCEEDED, deleted),)),
    (State.ROLLED_BACK, Event.RETRIED): Life(
        "Succeeded",
        "new",
        world={"verdict": "Inferior"},
        spec=EVALUATED,
        acts=((BACK, changed(verdict="Better")), (State.ROLLED_BACK, retried)),
    ),
    (State.ROLLED_BACK, Event.DELETED): Life(
        GONE, world={"verdict": "Inferior"}, spec=EVALUATED, acts=((State.ROLLED_BACK, deleted),)
    ),
    (State.FAILED, Event.RETRIED): Life(
        "Succeeded",
        "new",
        world={"rejected": 500} | NO_FILL,
        acts=((State.FAILED, changed(rejected=0, reached="")), (State.FAILED, retried)),
    ),
    (State.FAILED, Event.DELETED): Life(GONE, world={"rejected": 500} | NO_FILL, acts=((State.FAILED, deleted),)),
}
