"""Under virtual time: what an agent votes, what it refuses, and that a slot gets one Ballot of it whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.core.quorum.allowance import MOST_OPEN
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.counting import Standing
from reembed.core.quorum.judging import Judgement
from reembed.core.quorum.proposals import Kind, ballot_name
from reembed.panel.voting import OPERATOR
from tests.panel_agents.memory import Memory, memory_panel
from tests.panel_agents.world import NAMES, Panel, Saying, obeyed
from tests.sim.api_server import NAMESPACE

pytestmark = pytest.mark.looptime
ONE = NAMES[0]


class Hanging(Saying):
    async def judge(self, decision: Any, now: datetime) -> Judgement:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


class Failing(Saying):
    async def judge(self, decision: Any, now: datetime) -> Judgement:
        raise RuntimeError("a division by zero")


class Lossy(Memory):
    """Writes a Ballot and says that it did not, once."""

    lost = False

    def line(self) -> Memory:
        return Lossy(self.server)

    async def create(self, kind: kinds.Kind, namespace: str, obj: dict[str, Any], *, manager: str) -> dict[str, Any]:
        made = await super().create(kind, namespace, obj, manager=manager)
        if kind == kinds.BALLOT and not self.lost:
            self.lost = True
            raise ClusterError(0, "the answer was lost")
        return made


@asynccontextmanager
async def one(judge: Any = None, cluster: Memory | None = None) -> AsyncIterator[tuple[Panel, str]]:
    """Run a panel whose first agent has this judge; yield it with the UID of its index."""
    panel = memory_panel()
    if cluster is not None:
        panel.cluster = cluster
    for name in panel.names:
        panel.start(name, judge if name == ONE else None)
    await panel.found()
    yield panel, await panel.index("docs")
    await panel.kill()


async def said(panel: Panel, proposal: Any, seconds: float = 160) -> tuple[Choice, str]:
    """Return what the first agent said, and the reason's first word."""
    assert isinstance(panel.cluster, Memory)
    async with asyncio.timeout(seconds):
        while True:
            found = panel.cluster.server.get(kinds.BALLOT, ballot_name(proposal.slot, ONE))
            if found is not None:
                return Choice(found["spec"]["choice"]), found["spec"]["reasons"][0].partition(":")[0]
            await asyncio.sleep(0.5)


async def test_six_of_eight_make_a_certificate_that_gateways_obey() -> None:
    async with one() as (panel, uid):
        await panel.kill(*NAMES[6:])
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        certificate = await panel.certificate(proposal)
        assert (len(certificate.votes), obeyed(panel, certificate, uid)) == (6, True)


@pytest.mark.parametrize(
    ("judge", "seconds"),
    [(Hanging(), 155), (Failing(), 5), (Saying(evidence={"share": float("nan")}), 5)],
    ids=["hangs", "fails", "measured what is no number"],
)
async def test_a_judge_that_says_nothing_refuses(judge: Saying, seconds: float) -> None:
    async with one(judge) as (panel, uid):
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        assert await said(panel, proposal, seconds) == (Choice.REJECT, "NotMeasured")


async def test_a_judge_that_hangs_keeps_no_other_decision_waiting() -> None:
    async with one(Hanging()) as (panel, uid):
        for epoch in range(5, 12):
            await panel.propose(panel.raising("docs", uid, epoch))
        last = panel.raising("docs", uid, 12)
        await panel.propose(last)
        assert await said(panel, last, 155) == (Choice.REJECT, "NotMeasured")


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"namespace": NAMESPACE, "name": "other", "digest": "0" * 64}, "PanelForeign"),
        ({"namespace": NAMESPACE, "name": "panel", "digest": "0" * 64}, "PanelForeign"),
    ],
    ids=["another panel", "other first members"],
)
async def test_an_index_that_does_not_name_this_panel_is_refused(ref: dict[str, str], reason: str) -> None:
    async with one() as (panel, _):
        proposal = panel.raising("foreign", await panel.index("foreign", ref), 5)
        await panel.propose(proposal)
        assert await said(panel, proposal) == (Choice.REJECT, reason)


async def test_an_index_that_is_not_there_any_more_is_refused() -> None:
    async with one() as (panel, _):
        gone, other = panel.raising("gone", "uid", 5), panel.raising("docs", "another-uid", 5)
        await panel.propose(gone)
        await panel.propose(other)
        assert [await said(panel, each) for each in (gone, other)] == [(Choice.REJECT, "IndexUnknown")] * 2


async def test_a_stranger_may_not_propose_and_a_member_may() -> None:
    async with one() as (panel, uid):
        strange, known = (replace(panel.raising("docs", uid, epoch), kind=Kind.MEMORY) for epoch in (5, 6))
        await panel.propose(strange, "somebody")
        await panel.propose(known, NAMES[3])
        assert [await said(panel, each) for each in (strange, known)] == [
            (Choice.REJECT, "ProposerUnknown"),
            (Choice.APPROVE, "Told"),
        ]


async def test_a_proposal_that_wants_to_be_open_for_too_long_is_refused() -> None:
    async with one() as (panel, uid):
        proposal = panel.raising("docs", uid, 5, seconds=3600)
        await panel.propose(proposal)
        assert await said(panel, proposal) == (Choice.REJECT, "ExpiryTooFar")


async def test_what_is_over_gets_no_vote() -> None:
    async with one() as (panel, uid):
        proposal = panel.raising("docs", uid, 5, seconds=-1)
        await panel.propose(proposal)
        await asyncio.sleep(60)
        assert await panel.ballots(proposal) == []


async def test_of_two_proposals_in_a_slot_an_agent_votes_on_one() -> None:
    async with one() as (panel, uid):
        first, second = panel.raising("docs", uid, 5, to=50), panel.raising("docs", uid, 5, to=60)
        await panel.propose(first)
        await panel.propose(second)
        await asyncio.sleep(60)
        assert first.slot == second.slot
        assert len(await panel.ballots(first)) == len(NAMES)
        counted = [await panel.counted(each) for each in (first, second)]
        assert sum(each.standing is Standing.CERTIFIED for each in counted) <= 1


async def test_after_a_restart_an_agent_does_not_vote_otherwise() -> None:
    async with one(Saying(Choice.APPROVE)) as (panel, uid):
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        await said(panel, proposal)
        await panel.kill(ONE)
        changed = Saying(Choice.REJECT)
        panel.start(ONE, changed)
        await asyncio.sleep(60)
        assert (await said(panel, proposal), changed.asked) == ((Choice.APPROVE, "Told"), 0)


async def test_who_clears_votes_away_gets_no_others_in_their_slot() -> None:
    async with one() as (panel, uid):
        assert isinstance(panel.cluster, Memory)
        first, second = panel.raising("docs", uid, 5, to=50), panel.raising("docs", uid, 5, to=60)
        await panel.propose(first)
        await panel.said(first, 8)
        signed = {one["spec"]["signature"] for one in await panel.ballots(first)}
        for each in await panel.ballots(first):
            panel.cluster.server.remove(kinds.BALLOT, each["metadata"]["name"], "a liar")
        panel.cluster.server.remove(kinds.DECISION, first.name, "a liar")
        await panel.propose(second)
        await asyncio.sleep(60)
        assert await panel.ballots(second) == []
        await panel.propose(first)
        await panel.said(first, 8)
        assert {one["spec"]["signature"] for one in await panel.ballots(first)} == signed


async def test_an_agent_that_was_away_votes_on_what_is_still_open() -> None:
    async with one() as (panel, uid):
        await panel.kill(ONE)
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        await asyncio.sleep(30)
        panel.start(ONE)
        assert await said(panel, proposal) == (Choice.APPROVE, "Told")


async def test_a_ballot_whose_answer_was_lost_is_cast_once() -> None:
    async with one(cluster=Lossy()) as (panel, uid):
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        await asyncio.sleep(30)
        assert len((await panel.counted(proposal)).approved) == len(NAMES)


async def test_a_decision_that_is_not_named_by_its_proposal_gets_no_vote() -> None:
    async with one() as (panel, uid):
        assert isinstance(panel.cluster, Memory)
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        body = panel.cluster.server.get(kinds.DECISION, proposal.name)
        assert body is not None
        lying = replace(proposal, epoch=7)
        spec = {**body["spec"], "slot": lying.slot}
        panel.cluster.server.create(kinds.DECISION, {"metadata": {"name": "d" + "0" * 40}, "spec": spec}, "somebody")
        await asyncio.sleep(30)
        assert await panel.ballots(lying) == []


async def test_what_an_agent_has_begun_is_cast_before_it_ends() -> None:
    async with one(Saying(after=3.0)) as (panel, uid):
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        await asyncio.sleep(1)
        await panel.living[ONE].drain()
        assert await said(panel, proposal, 1) == (Choice.APPROVE, "Told")


class OfAgents(Hanging):
    """Never says anything of what agents propose, and approves what the operator does."""

    async def judge(self, decision: Any, now: datetime) -> Judgement:
        if decision.proposer == OPERATOR:
            return Judgement(Choice.APPROVE, ("Told: it is good",), {})
        return await super().judge(decision, now)


async def flood(panel: Panel, uid: str, count: int, liar: str = NAMES[7]) -> list[Any]:
    """Have one agent propose so many things, none of which anybody asked for."""
    made = [replace(panel.raising("docs", uid, epoch), kind=Kind.MEMORY) for epoch in range(1000, 1000 + count)]
    for one_of_many in made:
        await panel.propose(one_of_many, liar)
    return made


async def test_one_agent_that_floods_the_panel_keeps_no_step_of_the_operators_waiting() -> None:
    """Each judgement may take two minutes; a liar's filled all places in which one is made."""
    panel = memory_panel()
    for name in panel.names:
        panel.start(name, OfAgents())
    await panel.found()
    uid = await panel.index("docs")
    await flood(panel, uid, 200)
    step = panel.raising("docs", uid, 5)
    await panel.propose(step)
    assert len((await panel.certificate(step)).votes) == 8
    await panel.kill()


async def test_of_one_agent_only_so_many_proposals_are_voted_on_at_a_time() -> None:
    async with one() as (panel, uid):
        made = await flood(panel, uid, 3 * MOST_OPEN)
        await asyncio.sleep(20)
        assert isinstance(panel.cluster, Memory)
        voted = [panel.cluster.server.get(kinds.BALLOT, ballot_name(each.slot, ONE)) is not None for each in made]
        assert voted == [True] * MOST_OPEN + [False] * (2 * MOST_OPEN)
        # Another agent's are none of these.
        other = replace(panel.raising("docs", uid, 9000), kind=Kind.MEMORY)
        await panel.propose(other, NAMES[6])
        assert await said(panel, other) == (Choice.APPROVE, "Told")


class Dying(Memory):
    """Its process ends between the signature and the Ballot."""

    async def create(self, kind: kinds.Kind, namespace: str, obj: dict[str, Any], *, manager: str) -> dict[str, Any]:
        if kind == kinds.BALLOT:
            await asyncio.Event().wait()
        return await super().create(kind, namespace, obj, manager=manager)


async def test_an_agent_that_dies_between_signing_and_casting_has_said_nothing() -> None:
    """What was signed has not left the process: the one after it votes as it finds, and once."""
    async with one() as (panel, uid):
        assert isinstance(panel.cluster, Memory)
        await panel.kill(ONE)
        panel.start(ONE, Saying(Choice.APPROVE), cluster=Dying(panel.cluster.server))
        proposal = panel.raising("docs", uid, 5)
        await panel.propose(proposal)
        await panel.said(proposal, 7)
        before = [each for each in await panel.ballots(proposal) if each["spec"]["agent"] == ONE]
        await panel.kill(ONE)
        panel.start(ONE, Saying(Choice.REJECT))
        assert (before, await said(panel, proposal)) == ([], (Choice.REJECT, "Told"))
