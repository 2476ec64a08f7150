"""Under virtual time: what a role wishes for is put to the vote by whoever has its work, and not again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from reembed.api.panel import MOST_EPOCH, Decision, parse_decision
from reembed.cluster import kinds
from reembed.core.migration import SeenIndex
from reembed.core.model import IndexStatus, Meta, Routing
from reembed.core.quorum.allowance import MOST_OPEN
from reembed.core.quorum.counting import Standing
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind
from tests.panel_agents.memory import memory_panel
from tests.panel_agents.world import Panel, Saying
from tests.sim.api_server import NAMESPACE

pytestmark = pytest.mark.looptime
ANALYST = "memory-analyst"


@dataclass
class Objects:
    index: Any
    migration: None = None
    terms: str = "1" * 64
    pools: dict[str, Any] = field(default_factory=dict)


@dataclass
class Around:
    objects: Objects


@dataclass(frozen=True)
class Wish:
    kind: Kind
    change: tuple[tuple[str, str], ...]
    reason: str = "a pod is short of memory"


class Wishing(Saying):
    """Wishes for the same all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[Any] = []

    def wishes(self, now: datetime, duties: Collection[Role]) -> list[Any]:
        return self.wanted if Role.MEMORY_ANALYST in duties else []


@asynccontextmanager
async def wishing() -> AsyncIterator[tuple[Panel, dict[str, Wishing], str]]:
    """Run a panel whose judges wish for nothing yet; yield the UID of its index too."""
    panel = memory_panel()
    judges = {name: Wishing() for name in panel.names}
    for name in panel.names:
        panel.start(name, judges[name])
    await panel.found()
    yield panel, judges, await panel.index("docs")
    await panel.kill()


def wish(uid: str, pool: str = "p") -> tuple[Around, Wish]:
    meta = Meta(NAMESPACE, "docs", uid, 1, "1", deleting=False, finalizers=())
    around = Around(Objects(SeenIndex(meta, None, IndexStatus(routing=Routing(epoch=7)))))  # type: ignore[arg-type]
    return around, Wish(Kind.MEMORY, (("poolUid", "u"), ("pool", pool)))


async def proposed(panel: Panel) -> list[Decision]:
    return [parse_decision(one) for one in await panel.cluster.list(kinds.DECISION, NAMESPACE)]


async def test_the_wishes_of_a_dead_agent_s_role_are_another_s() -> None:
    async with wishing() as (panel, judges, uid):
        await panel.kill(ANALYST)
        for judge in judges.values():
            judge.wanted = [wish(uid)]
        await asyncio.sleep(60)
        (found,) = await proposed(panel)
        assert found.proposer != ANALYST
        assert (await panel.counted(found.proposal)).standing is Standing.CERTIFIED


async def test_a_proposal_of_the_last_epoch_there_is_keeps_no_wish_from_the_vote() -> None:
    """Epochs follow the newest; one agent that lies takes the last, and nothing could be proposed any more."""
    async with wishing() as (panel, judges, uid):
        last = replace(panel.raising("docs", uid, MOST_EPOCH), kind=Kind.MEMORY)
        await panel.propose(last, "pattern-learner")
        judges[ANALYST].wanted = [wish(uid)]
        await asyncio.sleep(30)
        found = next(one for one in await proposed(panel) if one.proposer == ANALYST)
        assert (await panel.counted(found.proposal)).standing is Standing.CERTIFIED


async def test_an_agent_proposes_no_more_than_others_look_at() -> None:
    async with wishing() as (panel, judges, uid):
        judges[ANALYST].wanted = [wish(uid, f"pool-{number}") for number in range(MOST_OPEN + 5)]
        await asyncio.sleep(100)
        assert len(await proposed(panel)) == MOST_OPEN
        await asyncio.sleep(120)
        assert len(await proposed(panel)) == MOST_OPEN + 5


async def test_a_wish_is_put_to_the_vote_once_in_a_while_by_who_has_the_work() -> None:
    panel, judges = memory_panel(), {ANALYST: Wishing(), "pattern-learner": Wishing()}
    for name in panel.names:
        panel.start(name, judges.get(name))
    await panel.found()
    judges[ANALYST].wanted = [wish(await panel.index("docs"))]
    await asyncio.sleep(60)
    found = await proposed(panel)
    assert [(one.proposer, one.proposal.kind, one.proposal.change) for one in found] == [
        (ANALYST, Kind.MEMORY, (("pool", "p"), ("poolUid", "u")))
    ]
    (proposal,) = [one.proposal for one in found]
    assert (proposal.before, proposal.after.epoch, proposal.terms) == (proposal.after, 7, "1" * 64)
    assert (await panel.counted(proposal)).standing is Standing.CERTIFIED
    await asyncio.sleep(600)
    again = [parse_decision(one) for one in await panel.cluster.list(kinds.DECISION, NAMESPACE)]
    assert len({one.proposal.slot for one in again}) == 2
    await panel.kill()
