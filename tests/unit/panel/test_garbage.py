"""Under virtual time: Decisions go an hour after their time, and what was certified is noted before."""

from __future__ import annotations

import asyncio
import json

import pytest

from reembed.cluster import kinds
from reembed.panel.garbage import AUDIT, MOST_BYTES, MOST_LINES, bounded
from tests.panel_agents.memory import Memory, memory_panel
from tests.panel_agents.world import NAMES


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
