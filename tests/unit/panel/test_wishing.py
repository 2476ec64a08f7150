"""Under virtual time: what a role wishes for is put to the vote by whoever has its work, and not again and again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from reembed.api.panel import parse_decision
from reembed.cluster import kinds
from reembed.core.migration import SeenIndex
from reembed.core.model import IndexStatus, Meta, Routing
from reembed.core.quorum.counting import Standing
from reembed.core.quorum.proposals import Kind
from tests.panel_agents.memory import memory_panel
from tests.panel_agents.world import Saying
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

    def wishes(self, now: datetime) -> list[Any]:
        return self.wanted


async def test_a_wish_is_put_to_the_vote_once_in_a_while_by_who_has_the_work() -> None:
    panel, judges = memory_panel(), {ANALYST: Wishing(), "pattern-learner": Wishing()}
    for name in panel.names:
        panel.start(name, judges.get(name))
    await panel.found()
    uid = await panel.index("docs")
    meta = Meta(NAMESPACE, "docs", uid, 1, "1", deleting=False, finalizers=())
    around = Around(Objects(SeenIndex(meta, None, IndexStatus(routing=Routing(epoch=7)))))  # type: ignore[arg-type]
    judges[ANALYST].wanted = [(around, Wish(Kind.MEMORY, (("poolUid", "u"), ("pool", "p"))))]
    await asyncio.sleep(60)
    found = [parse_decision(one) for one in await panel.cluster.list(kinds.DECISION, NAMESPACE)]
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
