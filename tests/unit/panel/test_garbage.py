"""Under virtual time: Decisions go an hour after their time, and what was certified is noted before."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from reembed.api.panel import render_decision
from reembed.cluster import kinds
from reembed.core.quorum.proposals import Kind, Subject
from reembed.panel.garbage import AUDIT, MOST_BYTES, MOST_LINES, bounded
from reembed.panel.office import NEVER
from tests.panel_agents.memory import Memory, memory_panel
from tests.panel_agents.world import NAMES, PANEL, Panel


@pytest.mark.looptime
async def test_closed_decisions_go_and_their_certificates_stay() -> None:
    panel = memory_panel()
    assert isinstance(panel.cluster, Memory)
    for name in NAMES:
        panel.start(name)
    await panel.found()
    uid = await panel.index("docs")
    passed, refused = panel.raising("docs", uid, 5, seconds=300), panel.raising("docs", "another", 5, seconds=300)
    for one in (passed, refused):
        await panel.propose(one)
        await panel.said(one, 8)
    await panel.kill(*(name for name in NAMES if name != "byzantine-coordinator"))
    await asyncio.sleep(3000)
    kept = len(await panel.cluster.list(kinds.DECISION, panel.namespace))
    await asyncio.sleep(1200)
    left = await panel.cluster.list(kinds.DECISION, panel.namespace)
    notes = panel.cluster.server.get(kinds.CONFIG_MAP, AUDIT)
    assert notes is not None
    lines = [json.loads(line) for line in notes["data"]["certificates.jsonl"].splitlines()]
    assert (kept, left, [line["decision"] for line in lines]) == (2, [], [passed.name])
    assert len(lines[0]["votes"]) == 8
    await panel.kill()


def test_the_newest_notes_are_kept_up_to_a_number_and_a_size() -> None:
    assert bounded([str(n) for n in range(MOST_LINES + 5)])[0] == "5"
    long = "x" * (MOST_BYTES // 3)
    assert len(bounded([long] * 5)) == 2


LIAR, COORDINATOR = "pattern-learner", "byzantine-coordinator"
_HOURS = 3600.0


async def kept(panel: Panel) -> list[str]:
    return [one["metadata"]["name"] for one in await panel.cluster.list(kinds.DECISION, panel.namespace)]


@pytest.mark.looptime
async def test_what_one_agent_proposes_for_ever_goes_like_all_else() -> None:
    """What nobody can read, what ends in a thousand years, and members for whom nobody asked."""
    panel = memory_panel()
    for name in NAMES:
        panel.start(name)
    membership = await panel.found()
    uid = await panel.index("docs")
    for_ever = replace(panel.raising("docs", uid, 5), kind=Kind.MEMORY, expires=NEVER)
    subject = Subject(panel.namespace, PANEL, (await panel.raw())["metadata"]["uid"])
    change = (("after", "0" * 64), ("before", membership.digest))
    members = replace(for_ever, kind=Kind.MEMBERSHIP, subject=subject, epoch=1000, change=change)
    for one in (for_ever, members):
        await panel.propose(one, LIAR)
    unread = render_decision(replace(for_ever, epoch=6), panel.namespace, LIAR)
    unread["metadata"]["name"] = "d" + "0" * 40
    await panel.cluster.create(kinds.DECISION, panel.namespace, unread, manager="somebody")
    await asyncio.sleep(5)
    await panel.kill(*(name for name in NAMES if name != COORDINATOR))
    await asyncio.sleep(0.9 * _HOURS)
    before = len(await kept(panel))
    await asyncio.sleep(0.4 * _HOURS)
    assert (before, await kept(panel)) == (3, [])
    await panel.kill()


@pytest.mark.looptime
async def test_members_that_some_have_voted_for_stay_although_others_are_wished_for_by_now() -> None:
    """Their votes are good for ever: who could have them cleared away would have others vote anew in their slot."""
    panel = memory_panel()
    for name in NAMES:
        panel.start(name)
    membership = await panel.found()
    await panel.kill(*NAMES[5:])
    await panel.wish(replace(membership, members=membership.members[:-1]))
    await asyncio.sleep(60)
    (first,) = await kept(panel)
    await panel.wish(membership)
    await panel.kill(*NAMES[1:5])
    await asyncio.sleep(1.2 * _HOURS)
    assert await kept(panel) == [first]
    await panel.kill()


@pytest.mark.looptime
async def test_what_an_agent_on_duty_leaves_lying_others_clear_away() -> None:
    panel = memory_panel()
    for name in NAMES:
        panel.start(name)
    await panel.found()
    panel.living[COORDINATOR].agent._garbage.round = idle  # type: ignore[method-assign]
    await panel.kill(*(name for name in NAMES if name not in {COORDINATOR, LIAR}))
    await panel.propose(panel.raising("docs", await panel.index("docs"), 5), "operator")
    await asyncio.sleep(1.3 * _HOURS)
    assert await kept(panel) == []
    await panel.kill()


async def idle() -> int:
    """Do nothing on duty."""
    return 0
