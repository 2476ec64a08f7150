"""The plugin's commands and the real operator understand each other: one story on a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from tests.integration.controller.running import filled, operator, start, until
from tests.integration.controller.world import World, objects
from tests.integration.plugin.conftest import Cli


def in_first_hold(seen: dict[str, Any]) -> bool:
    status = seen.get("status", {})
    return (status.get("state"), status.get("step"), status.get("reason")) == ("Canary", 0, "Holding")


async def test_a_migration_is_led_through_its_life_by_commands(
    cli: Cli, apiserver_with_crds: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(apiserver_with_crds))

    async def told(*words: str) -> tuple[int, str]:
        code, out, _ = await asyncio.to_thread(cli.run, *words)
        return code, out.strip()

    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        world = World(cluster, namespace, "docs")
        pods = asyncio.create_task(world.run())
        for (kind, _), obj in objects(namespace).items():
            if kind != kinds.MIGRATION:
                await cluster.apply(kind, obj, manager="user")
        async with operator(cluster, world, namespace):
            await filled(cluster, namespace)
            await start(cluster, namespace, "move", hold="1h")
            await until(cluster, kinds.MIGRATION, namespace, "move", in_first_hold)
            story = [
                await told("resume", "move"),
                await told("pause", "move"),
                await told("resume", "move"),
                await told("promote", "move"),
                await told("abort", "move"),
                await told("status", "move", "--timeout", "30s"),
            ]
        pods.cancel()
    assert story[:5] == [
        (1, "refused: it is not paused"),
        (0, "accepted: paused; rollback triggers are watched as before"),
        (0, "accepted: it goes on"),
        (0, "accepted: it goes on as soon as every gate holds"),
        (0, "accepted: queries go back and what was made is withdrawn"),
    ]
    code, verdict = story[5]
    assert (code, verdict.partition(": ")[2].partition(":")[0]) == (1, "RolledBack")
