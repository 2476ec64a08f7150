"""An operator that can be started and killed, and waiting for what it makes of a user's objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.controller.operator import Operator
from reembed.controller.prometheus import Prometheus
from reembed.controller.settings import Images, Settings
from reembed.controller.shell import Clock, wall_clock
from reembed.controller.web import Metrics
from tests.integration.controller.world import World, objects

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")


@asynccontextmanager
async def operator(
    cluster: Cluster,
    world: World,
    namespace: str,
    prometheus: Prometheus | None = None,
    clock: Clock = wall_clock,
    panel: str = "",
) -> AsyncIterator[Operator]:
    """Run an operator; leaving the block is its death: nothing is handed over. `panel` is the panel's namespace."""
    settings = Settings((namespace,), IMAGES, panel=panel)
    running = Operator(cluster, world, settings, Metrics(), clock, prometheus)
    serving = asyncio.create_task(running.run(asyncio.Event()))
    try:
        yield running
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def until(
    cluster: Cluster, kind: Kind, namespace: str, name: str, holds: Callable[[dict[str, Any]], bool]
) -> Any:
    """Return the object as soon as `holds` is true of it; the last one seen is told when it takes too long."""

    async def poll() -> dict[str, Any]:
        while True:
            seen = await cluster.get(kind, namespace, name) or {}
            last[0] = seen
            if holds(seen):
                return seen
            await asyncio.sleep(0.05)

    last: list[dict[str, Any]] = [{}]
    try:
        return await asyncio.wait_for(poll(), 60)
    except TimeoutError:
        pytest.fail(f"{kind.name} {name} stayed at {last[0].get('status')}")


def state(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: seen.get("status", {}).get("state") == name


async def start(cluster: Cluster, namespace: str, name: str, hold: str = "1s") -> None:
    migration = objects(namespace)[(kinds.MIGRATION, name)]
    for step in migration["spec"]["canary"]["steps"]:
        step["hold"] = hold
    await cluster.apply(kinds.MIGRATION, migration, manager="user")


async def filled(cluster: Cluster, namespace: str) -> None:
    await start(cluster, namespace, "fill")
    await until(cluster, kinds.MIGRATION, namespace, "fill", state("Succeeded"))
    # The index is released a moment after the status says so.
    await until(cluster, kinds.INDEX, namespace, "docs", lambda seen: "activeMigration" not in seen["status"])


def passed(reached: str) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: reached in [one["state"] for one in seen.get("status", {}).get("timeline", [])]
