"""Eight agents in pods of their own decide over real models: two of them lie, three of them go, the operator forges."""

import asyncio
import json
import logging
from typing import Any

from demo.install import Release
from demo.world import MIGRATION, NEW_POOL, OLD_POOL
from tests.e2e import panel as panels
from tests.e2e.panel import AGENTS, Panel, sitting
from tests.e2e.scaling import status_is
from tests.e2e.story import Story, example, then_every_query_was_answered

_log = logging.getLogger("stories")

LIARS, LOST = AGENTS[:2], AGENTS[2:5]
# A half of 300 labels shows no smaller loss, and no model is that much worse than another here but by a mistake.
_MARGIN = 0.1
_OPERATOR = "system:serviceaccount:reembed-system:reembed"


async def test_two_agents_that_lie_neither_stop_a_good_model_nor_help_a_bad_one(story: Story, release: Release) -> None:
    world = story.world
    async with sitting(release, world) as panel:
        await world.start_load()
        await panel.lie("Reject", LIARS)
        await migrate(story, "to-good", OLD_POOL, NEW_POOL, margin=_MARGIN)
        await status_is(
            world.kubectl, "emig", "to-good", lambda status: status.get("state") == "Succeeded", seconds=300
        )
        said = await panel.ballots()
        assert [votes for votes in said.values() if set(votes) >= set(LIARS)]

        await panel.lie("Approve", LIARS)
        await migrate(story, "to-bad", NEW_POOL, OLD_POOL, margin=0.0)
        refused = await refuses(story, panel, "to-bad")
        _log.info("refused: %s", refused["message"])
        assert set(refused["proposal"]["approved"]) <= set(LIARS)
        await then_forgeries_move_nothing(story, refused)
        assert (await story.routing())["weight"] == 0
        then_every_query_was_answered(await world.stop_load())


async def test_three_agents_that_are_gone_stop_a_migration_and_it_goes_on_with_them(
    story: Story, release: Release
) -> None:
    world = story.world
    async with sitting(release, world) as panel:
        await world.start_load()
        await panel.kill(LOST)
        await migrate(story, MIGRATION, OLD_POOL, NEW_POOL, margin=_MARGIN)
        waits = await status_is(
            world.kubectl,
            "emig",
            MIGRATION,
            lambda status: set(LOST) <= set((status.get("proposal") or {}).get("missing", ())),
            seconds=120,
        )
        assert (waits["state"], waits["reason"]) == ("Preflight", "AwaitingPanel")
        await panel.revive(LOST)
        await status_is(
            world.kubectl, "emig", MIGRATION, lambda status: status.get("state") == "Succeeded", seconds=400
        )
        then_every_query_was_answered(await world.stop_load())


def succeeded(status: dict[str, Any]) -> bool:
    return status.get("state") == "Succeeded"


async def migrate(story: Story, name: str, source: str, target: str, margin: float) -> None:
    """Ask for a migration that keeps nothing for long."""
    migration = example("migration.yaml")
    migration["metadata"]["name"] = name
    migration["spec"] |= {"from": {"poolRef": {"name": source}}, "target": {"poolRef": {"name": target}}}
    migration["spec"]["evaluation"] |= {"margin": margin}
    migration["spec"]["retention"] = {"window": "5s"}
    await story.world.kubectl.apply(json.dumps(migration))


async def refuses(story: Story, panel: Panel, name: str) -> dict[str, Any]:
    """Return the status of a migration that the panel refuses, although somebody says that it may go on."""
    kubectl = story.world.kubectl
    found = await status_is(
        kubectl,
        "emig",
        name,
        lambda status: status.get("reason") in {"RetrievalInconclusive", "RetrievalInferior", "PanelRefused"},
        seconds=300,
    )
    if found["reason"] == "RetrievalInconclusive":
        said = await panels.reembed(kubectl, "promote", name)
        assert said.code == 0, said
    return await status_is(kubectl, "emig", name, lambda status: status.get("reason") == "PanelRefused", seconds=120)


async def then_forgeries_move_nothing(story: Story, status: dict[str, Any]) -> None:
    """Whoever has the operator's account writes what it likes; gateways follow none of it, and say why."""
    world, routing = story.world, await story.routing()
    old = dict(routing)
    certificate = old.get("certificate")
    forgeries = [{"weight": 100}, *([{"weight": 100, "certificate": certificate}] if certificate else [])]
    for number, forged in enumerate(forgeries, start=50):
        epoch = routing["epoch"] + number
        await panels.forged(world, {**routing, **forged, "candidate": status["candidate"], "epoch": epoch}, _OPERATOR)
        await panels.until_followed(world, epoch, seconds=30)
        found = await panels.followed(world)
        assert [one["weight"] for one in found] == [0] * len(found), found
        await asyncio.sleep(1.0)
