"""Eight agents in pods of their own decide over real models: two of them lie, three of them go, the operator forges."""

import json
import logging
from typing import Any

import pytest

from demo.install import Release
from demo.world import NEW_POOL, OLD_POOL
from reembed.core.quorum.proposals import Proposal
from tests.e2e import panel as panels
from tests.e2e.panel import AGENTS, Panel, sitting
from tests.e2e.scaling import status_is
from tests.e2e.story import Story, example, then_every_query_was_answered

# Eight agents more than a machine of two cores has room for beside other stories: run by `make test-soak`.
pytestmark = pytest.mark.soak

_log = logging.getLogger("stories")

LIARS, LOST = AGENTS[:2], AGENTS[2:5]
# A half of 300 labels shows no smaller loss, and no model is that much worse than another here but by a mistake.
_MARGIN = 0.1


async def test_three_agents_that_are_gone_stop_a_step_and_two_that_lie_neither_stop_a_good_model_nor_help_a_bad_one(
    story: Story, release: Release
) -> None:
    kubectl = story.world.kubectl
    async with sitting(release, story.world) as panel:
        await story.world.start_load()
        await panel.kill(LOST)
        await migrate(story, "to-good", OLD_POOL, NEW_POOL, margin=_MARGIN)
        waits = await status_is(kubectl, "emig", "to-good", lacks_the_lost, seconds=120)
        assert (waits["state"], waits["reason"]) == ("Preflight", "AwaitingPanel")
        await panel.revive(LOST)
        await panel.lie("Reject", LIARS)
        await status_is(kubectl, "emig", "to-good", succeeded, seconds=400)

        await panel.lie("Approve", LIARS)
        await migrate(story, "to-bad", NEW_POOL, OLD_POOL, margin=0.0)
        bad = await status_is(kubectl, "emig", "to-bad", rolled_back, seconds=300)
        proposal = await panels.proposed_by_the_operators_account(panel, "to-bad", bad["candidate"])
        said = await panel.votes(proposal, seconds=150)
        _log.info("the panel said: %s", said)
        assert {agent for agent, choice in said.items() if choice == "Approve"} == set(LIARS)
        await then_forgeries_move_nothing(panel, proposal)
        then_every_query_was_answered(await story.world.stop_load())


def lacks_the_lost(status: dict[str, Any]) -> bool:
    return set(LOST) <= set((status.get("proposal") or {}).get("missing", ()))


def succeeded(status: dict[str, Any]) -> bool:
    return status.get("state") == "Succeeded"


def rolled_back(status: dict[str, Any]) -> bool:
    return status.get("state") == "RolledBack"


async def migrate(story: Story, name: str, source: str, target: str, margin: float) -> None:
    """Ask for a migration that keeps nothing for long."""
    migration = example("migration.yaml")
    migration["metadata"]["name"] = name
    migration["spec"] |= {"from": {"poolRef": {"name": source}}, "target": {"poolRef": {"name": target}}}
    migration["spec"]["evaluation"] |= {"margin": margin}
    migration["spec"]["retention"] = {"window": "5s"}
    await story.world.kubectl.apply(json.dumps(migration))


async def then_forgeries_move_nothing(panel: Panel, proposal: Proposal) -> None:
    """Whoever has the operator's account writes what it likes; gateways follow none of it, and say why."""
    two = await panels.certificate_of(panel, proposal)
    twice = two | {"votes": two["votes"] * 3}
    for certificate in (two, twice, None):
        said = await panels.forged(panel, proposal, certificate)
        assert {(one["weight"], one["serving"]["pool"]) for one in said} == {(0, NEW_POOL)}, said
