"""Eight agents on a real API server: what they certify, and what liars among them cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reembed.cluster.client import Cluster
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.proposals import Proposal
from tests.panel_agents.byzantine import Lying, Mode, Turncoat
from tests.panel_agents.world import NAMES, Panel, eventually, obeyed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@dataclass(frozen=True)
class Row:
    """One row of the fault matrix: who lies and how, who is dead, what is true, and whether it is certified."""

    says: str
    certified: bool
    liars: dict[int, Mode] = field(default_factory=dict)
    dead: tuple[int, ...] = ()
    truth: Choice = Choice.APPROVE


def lying(*modes: Mode) -> dict[int, Mode]:
    return dict(enumerate(modes))


ROWS = (
    Row("all are honest", certified=True),
    Row("nobody honest approves", certified=False, truth=Choice.REJECT),
    Row("two are silent", certified=True, liars=lying(Mode.SILENT, Mode.SILENT)),
    Row("three are silent", certified=False, liars=lying(Mode.SILENT, Mode.SILENT, Mode.SILENT)),
    Row("two are dead", certified=True, dead=(6, 7)),
    Row("two equivocate", certified=True, liars=lying(Mode.EQUIVOCATING, Mode.EQUIVOCATING)),
    Row(
        "two equivocate about a bad step",
        certified=False,
        liars=lying(Mode.EQUIVOCATING, Mode.EQUIVOCATING),
        truth=Choice.REJECT,
    ),
    Row("two refuse a good step", certified=True, liars=lying(Mode.LYING_BAD, Mode.LYING_BAD)),
    Row("three refuse a good step", certified=False, liars=lying(*[Mode.LYING_BAD] * 3)),
    Row("two approve a bad step", certified=False, liars=lying(*[Mode.LYING_GOOD] * 2), truth=Choice.REJECT),
    # Above what is tolerated, but five of eight are no quorum: this is why six are needed.
    Row("five approve a bad step", certified=False, liars=lying(*[Mode.LYING_GOOD] * 5), truth=Choice.REJECT),
    Row(
        "two are silent and one is dead",
        certified=False,
        liars=lying(Mode.SILENT, Mode.SILENT),
        dead=(7,),
    ),
    Row("two cast votes of older slots", certified=True, liars=lying(Mode.REPLAYING, Mode.REPLAYING)),
    Row("three cast votes of older slots", certified=False, liars=lying(*[Mode.REPLAYING] * 3)),
    Row(
        "two sign for a dead one, and three others refuse",
        certified=False,
        liars={0: Mode.FORGING, 1: Mode.FORGING, 2: Mode.LYING_BAD, 3: Mode.LYING_BAD},
        dead=(7,),
    ),
    Row(
        "two approve a bad step under many names",
        certified=False,
        liars=lying(Mode.FLOODING, Mode.FLOODING),
        truth=Choice.REJECT,
    ),
    Row("two are slow", certified=True, liars=lying(Mode.SLOW, Mode.SLOW), dead=(6, 7)),
)


class Cast:
    """The panel whose agents turn coats, on one index; each row has an epoch of its own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.panel = Panel(cluster, namespace)
        self.coats = {name: Turncoat() for name in NAMES}
        self.lines = {name: Lying(cluster, coat) for name, coat in self.coats.items()}
        self.epoch = 4
        self.uid = ""

    async def begin(self) -> None:
        for name in NAMES:
            self._start(name)
        membership = await self.panel.found()
        for line in self.lines.values():
            line.victim, line.victim_key = NAMES[7], membership.members[7].key
        self.uid = await self.panel.index("docs")

    def _start(self, name: str) -> None:
        living = self.panel.start(name, self.coats[name], cluster=self.lines[name])

        def key() -> object:
            kept = living.agent.keys.kept
            assert kept is not None
            return kept.current

        self.lines[name].key = key  # type: ignore[assignment]

    async def play(self, row: Row) -> Proposal:
        for at, name in enumerate(NAMES):
            self.coats[name].mode = row.liars.get(at, Mode.HONEST)
            self.coats[name].choice = row.truth
        for at in row.dead:
            await self.panel.kill(NAMES[at])
        self.epoch += 1
        proposal = self.panel.raising("docs", self.uid, self.epoch)
        await self.panel.propose(proposal)
        return proposal

    async def outcome(self, row: Row, proposal: Proposal) -> bool:
        """Return whether it was certified in time, or has none long after every honest agent voted."""
        if row.certified:
            certificate = await self.panel.certificate(proposal)
            return obeyed(self.panel, certificate, self.uid)
        honest = [at for at in range(8) if at not in row.dead and row.liars.get(at, Mode.HONEST) is Mode.HONEST]
        await self.panel.said(proposal, len(honest))
        await asyncio.sleep(0.5)
        return (await self.panel.counted(proposal)).certificate is not None

    async def rest(self, row: Row) -> None:
        for at in row.dead:
            self._start(NAMES[at])


@pytest.fixture
async def cluster(apiserver_with_crds: Path) -> AsyncIterator[Cluster]:
    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        yield cluster
    # The connections of watches that were cut off take a moment to close.
    await asyncio.sleep(0.3)


@pytest.fixture
async def cast(cluster: Cluster, namespace: str) -> AsyncIterator[Cast]:
    made = Cast(cluster, namespace)
    try:
        await made.begin()
        yield made
    finally:
        await made.panel.kill()


async def test_a_step_is_certified_if_and_only_if_six_that_approve_it_live(cast: Cast) -> None:
    found = {}
    for row in ROWS:
        proposal = await cast.play(row)
        found[row.says] = await cast.outcome(row, proposal)
        await cast.rest(row)
    assert found == {row.says: row.certified for row in ROWS}


async def test_a_vote_that_stands_still_goes_on_when_the_agents_are_back(cast: Cast) -> None:
    row = Row("three are dead", certified=False, dead=(5, 6, 7))
    proposal = await cast.play(row)
    assert not await cast.outcome(row, proposal)
    await cast.rest(row)
    assert obeyed(cast.panel, await cast.panel.certificate(proposal), cast.uid)


async def test_a_certificate_is_of_no_use_for_another_epoch_or_index(cast: Cast) -> None:
    proposal = await cast.play(ROWS[0])
    certificate = await cast.panel.certificate(proposal)
    other = await cast.panel.index("other")
    assert (obeyed(cast.panel, certificate, cast.uid), obeyed(cast.panel, certificate, other)) == (True, False)


async def test_the_panel_s_status_says_who_is_in_office(cast: Cast) -> None:
    async def told() -> object:
        return (await cast.panel.raw())["status"].get("conditions")

    conditions = await eventually(told, 60)
    status = (await cast.panel.raw())["status"]
    assert [status[name] for name in ("members", "reachable", "quorum", "digest")] == [8, 8, 6, cast.panel.anchor]
    assert [one["reason"] for one in conditions] == ["QuorumReachable", "AllReachable"]  # type: ignore[attr-defined]
