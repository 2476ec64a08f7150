"""Under virtual time: keys, first members, other members, and a Panel's status that somebody spoils."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from reembed.api.panel import membership_json, parse_decision, render_memberships
from reembed.cluster import kinds
from reembed.core import names
from reembed.core.quorum.certificates import Certified, broken_chain
from reembed.core.quorum.membership import Member, Membership, Role
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.panel.keys import ANNOTATION_ROTATE, SECRET, BrokenSecret, KeyStore
from reembed.panel.office import NEVER
from reembed.panel.settings import ROLES
from reembed.signing import verify
from tests.panel_agents.memory import Memory, memory_panel
from tests.panel_agents.world import NAMES, PANEL, Panel, eventually, obeyed

pytestmark = pytest.mark.looptime
ONE = "memory-analyst"


@asynccontextmanager
async def office() -> AsyncIterator[tuple[Panel, Membership, Memory]]:
    panel = memory_panel()
    assert isinstance(panel.cluster, Memory)
    for name in panel.names:
        panel.start(name)
        await asyncio.sleep(0.5)
    membership = await panel.found()
    yield panel, membership, panel.cluster
    await panel.kill()


async def version(panel: Panel, wanted: int, seconds: float = 300) -> Membership:
    async def there() -> Membership | None:
        chain = await panel.chain()
        return chain[-1].membership if chain and chain[-1].membership.version == wanted else None

    return await eventually(there, seconds)


async def rotated(panel: Panel, memory: Memory, membership: Membership) -> Membership:
    """Ask one agent for another key, and wish for members with it."""
    before = await panel.key(ONE)
    await memory.patch(
        SECRET, panel.namespace, f"reembed-panel-{ONE}", {"metadata": {"annotations": {ANNOTATION_ROTATE: "1"}}},
        manager="somebody",
    )  # fmt: skip

    async def another() -> bytes | None:
        found = await panel.key(ONE)
        return found if found != before else None

    key = await eventually(another, 120)
    return replace(
        membership,
        version=membership.version + 1,
        members=tuple(replace(one, key=key) if one.name == ONE else one for one in membership.members),
    )


async def test_two_starts_at_once_use_one_key() -> None:
    memory = Memory()
    stores = [KeyStore(memory.line(), "rag", f"reembed-panel-{ONE}", ONE) for _ in range(5)]
    kept = await asyncio.gather(*(store.open() for store in stores))
    assert len({one.current.public for one in kept}) == 1


async def test_a_key_outlives_its_process_and_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    memory = Memory()
    made = await KeyStore(memory, "rag", "s", ONE).open()
    again = await KeyStore(memory.line(), "rag", "s", ONE).open()
    raw = made.current.raw()
    assert again.current.public == made.current.public
    stored = memory.server.get(SECRET, "s")
    assert stored is not None
    shown = f"{made!r} {again!r} {caplog.text}"
    assert all(text not in shown for text in (repr(raw), raw.hex(), stored["data"]["key"]))


async def test_a_secret_without_a_key_is_told_by_its_name_alone() -> None:
    memory = Memory()
    memory.server.put(SECRET, "s", {"data": {"key": "c2VjcmV0"}}, "somebody")
    with pytest.raises(BrokenSecret, match="Secret s holds what is no key") as found:
        await KeyStore(memory, "rag", "s", ONE).open()
    assert "secret" not in str(found.value).replace("Secret", "")
    assert found.value.__cause__ is None


async def test_an_empty_secret_that_the_chart_made_gets_a_key() -> None:
    memory = Memory()
    memory.server.put(SECRET, "s", {}, "helm")
    kept = await KeyStore(memory, "rag", "s", ONE).open()
    assert (await KeyStore(memory, "rag", "s", ONE).open()).current.public == kept.current.public


async def test_a_key_is_replaced_without_a_gap() -> None:
    async with office() as (panel, membership, memory):
        uid = await panel.index("docs")
        wished = await rotated(panel, memory, membership)
        between = panel.raising("docs", uid, 5)
        await panel.propose(between)
        assert len((await panel.said(between, 8)).approved) == 8
        await panel.wish(wished)
        assert (await version(panel, 2)).digest == wished.digest
        await asyncio.sleep(70)
        after = panel.raising("docs", uid, 6)
        await panel.propose(after)
        assert len((await panel.said(after, 8)).approved) == 8
        assert obeyed(panel, await panel.certificate(after), uid)
        kept = panel.living[ONE].agent.keys.kept
        new = wished.member(ONE)
        assert kept is not None
        assert new is not None
        assert (kept.next, kept.current.public) == (None, new.key)


async def test_while_a_key_is_replaced_one_agent_may_be_dead() -> None:
    async with office() as (panel, membership, memory):
        wished = await rotated(panel, memory, membership)
        await panel.kill("pattern-learner", "byzantine-coordinator")
        await panel.wish(wished)
        assert (await version(panel, 2)).digest == wished.digest


async def test_members_whose_keys_nobody_publishes_do_not_come_into_office() -> None:
    async with office() as (panel, membership, _):
        forged = tuple(replace(one, key=b"f" * 32) if one.name == ONE else one for one in membership.members)
        await panel.wish(replace(membership, version=2, members=forged))
        await asyncio.sleep(120)
        assert len(await panel.chain()) == 1
        # A wish that is taken back leaves nothing behind.
        await panel.wish(membership)
        await asyncio.sleep(30)
        assert len(await panel.chain()) == 1


async def test_members_of_whom_too_few_live_do_not_come_into_office() -> None:
    async with office() as (panel, membership, _):
        strangers = tuple(Member(f"x-{n}", Role.PATTERN_LEARNER, bytes([n]) * 32) for n in range(3))
        await panel.wish(Membership(2, 2, (*membership.members[:5], *strangers)))
        await asyncio.sleep(120)
        assert len(await panel.chain()) == 1


async def test_more_members_than_may_be_faulty_do_not_change_at_once() -> None:
    async with office() as (panel, membership, _):
        left = membership.members[:5]
        await panel.wish(Membership(2, 1, left))
        await asyncio.sleep(120)
        assert len(await panel.chain()) == 1
        told = (await panel.raw())["status"]["conditions"][1]
        assert (told["reason"], "3 members change at once" in told["message"]) == ("MembersWait", True)


async def test_a_wish_that_is_changed_while_its_vote_is_open_is_voted_on_in_another_slot() -> None:
    async with office() as (panel, membership, memory):
        second = await rotated(panel, memory, membership)
        # Half of them voted for what was wished for first, and are gone from that slot.
        await panel.kill(*NAMES[3:7])
        await panel.wish(second)
        await asyncio.sleep(20)
        await panel.wish(replace(membership, members=tuple(one for one in membership.members if one.name != NAMES[6])))
        for name in NAMES[3:7]:
            panel.start(name)
        await asyncio.sleep(60)
        decisions = [parse_decision(one) for one in await memory.list(kinds.DECISION, panel.namespace)]
        standing = {one.proposal.epoch: (await panel.counted(one.proposal)).standing.value for one in decisions}
        assert standing[3] == "Certified"


async def test_one_change_is_proposed_by_however_many_agents() -> None:
    async with office() as (panel, membership, memory):
        wished = await rotated(panel, memory, membership)
        for living in panel.living.values():
            living.agent.duties.place = lambda _: 0  # type: ignore[method-assign, assignment]
        await panel.wish(wished)
        await version(panel, 2)
        decisions = await memory.list(kinds.DECISION, panel.namespace)
        assert [one["spec"]["proposal"]["kind"] for one in decisions] == ["Membership"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rendered: [],
        lambda rendered: rendered[:1],
        lambda rendered: [{**rendered[0], "faulty": 0}],
        lambda rendered: [*rendered, {**rendered[-1], "version": 3}],
        lambda rendered: "not a list of members"[:0] or [{"version": 1, "faulty": 2, "members": []}],
    ],
    ids=["emptied", "cut short", "other first members", "one too many", "without members"],
)
async def test_a_status_that_somebody_spoils_is_written_anew(spoil: Any) -> None:
    async with office() as (panel, membership, memory):
        await panel.wish(await rotated(panel, memory, membership))
        await version(panel, 2)
        told = (await panel.raw())["status"]
        await asyncio.sleep(40)
        # A member that starts while it is spoilt believes no less.
        memory.server.patch(
            kinds.PANEL, PANEL, {"status": {"memberships": spoil(told["memberships"]), "reachable": 3}}, "a liar"
        )
        await panel.kill("streaming-loader")
        panel.start("streaming-loader")
        await asyncio.sleep(60)
        chain = await panel.chain()
        assert (broken_chain(chain, panel.anchor, verify), chain[-1].membership.version) == (None, 2)
        assert (await panel.raw())["status"]["reachable"] == len(NAMES)
        await asyncio.sleep(60)
        assert panel.living["streaming-loader"].agent.office.active == chain[-1].membership


async def test_one_agent_that_proposes_in_every_slot_keeps_no_change_of_members_from_office() -> None:
    """Nobody votes for what the Panel does not ask for; but its slots were left to it, and there are sixteen."""
    async with office() as (panel, membership, memory):
        wished = await rotated(panel, memory, membership)
        subject = Subject(panel.namespace, PANEL, (await panel.raw())["metadata"]["uid"])
        for version_ in range(2, 60):
            after = replace(membership, version=version_, members=membership.members[1:])
            forged = Proposal(
                Kind.MEMBERSHIP, subject, version_, Split(), Split(), "", NEVER,
                (("after", after.digest), ("before", membership.digest)),
            )  # fmt: skip
            await panel.propose(forged, NAMES[7])
        await panel.wish(wished)
        assert set((await version(panel, 2)).members) == set(wished.members)


async def test_who_voted_for_members_votes_for_no_others_in_their_slot_after_a_restart() -> None:
    """Such votes are good for ever, and whoever lies may have kept them when they were cleared away."""
    async with office() as (panel, membership, memory):
        await panel.kill(*NAMES[5:])
        await panel.wish(replace(membership, members=membership.members[:-1]))
        await asyncio.sleep(90)
        (raw,) = await memory.list(kinds.DECISION, panel.namespace)
        first = parse_decision(raw).proposal
        voted = await panel.ballots(first)
        for each in voted:
            memory.server.remove(kinds.BALLOT, each["metadata"]["name"], "a liar")
        memory.server.remove(kinds.DECISION, first.name, "a liar")
        await panel.kill()
        await panel.wish(replace(membership, members=(*membership.members[:-2], membership.members[-1])))
        for name in panel.names:
            panel.start(name)
        assert (len(voted), (await version(panel, 3)).members) == (5, (await panel.chain())[-1].membership.members)
        second = [parse_decision(one).proposal for one in await memory.list(kinds.DECISION, panel.namespace)]
        slot_of_first = next(one for one in second if one.epoch == 2)
        assert len((await panel.counted(slot_of_first)).approved) <= 3


async def test_who_is_in_office_first_is_whom_a_person_named_whatever_an_agent_writes_before() -> None:
    """The first to write into an empty status could be one that lies, and all others would wait for ever."""
    panel = memory_panel()
    assert isinstance(panel.cluster, Memory)
    for name in panel.names:
        panel.start(name)
    keys = {name: await eventually(lambda n=name: panel.key(n)) for name in panel.names}  # type: ignore[misc]
    membership = Membership(1, 2, tuple(Member(name, ROLES[name], keys[name]) for name in panel.names))
    others = (replace(one, key=bytes(31) + bytes([n])) for n, one in enumerate(membership.members))
    evil = replace(membership, members=tuple(others))
    annotations = {names.ANNOTATION_FIRST: membership.digest}
    body = {
        "metadata": {"namespace": panel.namespace, "name": PANEL, "annotations": annotations},
        "spec": membership_json(membership),
        "status": {"memberships": render_memberships((Certified(evil),))},
    }
    panel.cluster.server.put(kinds.PANEL, PANEL, body, "a liar")

    async def first() -> bool:
        return (await panel.chain())[0].membership.digest == membership.digest

    assert await eventually(first, 120)
    await panel.kill()


async def test_an_agent_that_writes_the_status_all_the_time_keeps_no_change_of_members_from_the_others() -> None:
    """Ten times a second it says that those before are in office; each write of the others is a compare-and-set."""
    async with office() as (panel, membership, memory):
        wished = await rotated(panel, memory, membership)
        before = (await panel.raw())["status"]["memberships"]

        async def spoil() -> None:
            while True:
                await asyncio.sleep(0.1)
                told = {"memberships": before, "members": int(asyncio.get_running_loop().time() * 10)}
                await memory.patch(kinds.PANEL, panel.namespace, PANEL, {"status": told}, manager="a liar")

        async def believed() -> bool:
            found = [panel.living[name].agent.office.active for name in NAMES]
            return all(one is not None and one.version == 2 for one in found)

        spoiling = asyncio.create_task(spoil())
        await panel.wish(wished)
        assert await eventually(believed, 120)
        spoiling.cancel()
