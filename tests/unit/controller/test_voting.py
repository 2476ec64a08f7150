"""What the operator believes of the panel's objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from reembed.api.panel import Ballot, membership_json, render_ballot, render_decision, render_memberships
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.controller.voting import Voting
from reembed.core.model import Meta, PanelRef, PanelReport
from reembed.core.quorum.allowance import MOST_OPEN
from reembed.core.quorum.certificates import Certified, Choice
from reembed.core.quorum.proposals import Kind as Asked
from reembed.core.quorum.proposals import Subject
from tests import builders as b
from tests import panels

FIRST, SECOND = panels.agents(), panels.agents(generation=1, version=2)
CHAIN = FIRST.followed_by(SECOND)
FORGED = (CHAIN[0], replace(CHAIN[1], votes=()))
STRANGERS = tuple((Certified(panels.agents(generation=one).membership),) for one in range(5, 50))
OTHERS = STRANGERS[0]
REF = PanelRef("agents", "panel", FIRST.membership.digest)


class Watched:
    """A cluster whose Panel is told so many times, each as it is given."""

    def __init__(self, *chains: tuple[Certified, ...], others: dict[Kind, list[dict[str, Any]]] | None = None) -> None:
        self._chains = chains
        self._others = others or {}
        self.told = asyncio.Event()

    async def watch(self, kind: Kind, namespace: str, *, name: str | None = None) -> AsyncIterator[tuple[str, Any]]:
        del namespace, name
        if kind == kinds.PANEL:
            for number, chain in enumerate(self._chains, start=1):
                meta = {"namespace": "agents", "name": "panel", "uid": "u", "resourceVersion": str(number)}
                spec = membership_json(FIRST.membership)
                yield "MODIFIED", {"metadata": meta, "spec": spec, "status": {"memberships": render_memberships(chain)}}
            self.told.set()
        for number, found in enumerate(self._others.get(kind, ())):
            found["metadata"] |= {"uid": f"u{number}", "resourceVersion": str(number)}
            yield "ADDED", found
        await asyncio.Event().wait()


async def reported(cluster: Watched) -> PanelReport:
    voting = Voting(cast("Cluster", cluster), "agents", lambda slot: None, lambda: 0.0, lambda: b.NOON)
    watching = asyncio.create_task(voting.run())
    await cluster.told.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    report = voting.report(b.migration(), REF, "uid-docs", b.NOON)
    assert report is not None
    return report


async def believed(*chains: tuple[Certified, ...]) -> tuple[Certified, ...]:
    return (await reported(Watched(*chains))).chain


def certified(proposer: str, epoch: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a Decision about the migration of these tests, and six ballots for it."""
    subject = Subject("rag", "docs", "uid-docs", "move", "uid-move")
    asked = replace(panels.raising(10, 10, epoch), kind=Asked.MEMORY, subject=subject)
    made = render_decision(asked, "agents", proposer)
    meta = Meta("agents", asked.name, "u", 1, "1")
    votes = zip(FIRST.names, FIRST.votes(asked, 6), strict=False)
    cast_ones = [Ballot(name, asked.slot, asked.digest, Choice.APPROVE, vote, ("Fine: it is",)) for name, vote in votes]
    return made, [render_ballot(one, "agents", meta) for one in cast_ones]


async def test_of_what_one_agent_proposes_only_so_much_is_counted() -> None:
    """Each count verifies the signatures of every ballot, and is made in every pass of every migration."""
    made = [certified("agent-7", epoch) for epoch in range(20)] + [certified("agent-1", 100)]
    others = {
        kinds.DECISION: [one for one, _ in made],
        kinds.BALLOT: [one for _, cast_ones in made for one in cast_ones],
    }
    found = (await reported(Watched(CHAIN[:1], others=others))).agreed
    assert [one.proposal.epoch for one in found] == [*range(MOST_OPEN), 100]


@pytest.mark.parametrize(
    ("chains", "expected"),
    [
        pytest.param((CHAIN[:1],), CHAIN[:1], id="the first members"),
        pytest.param((CHAIN[:1], CHAIN), CHAIN, id="those whom they chose"),
        pytest.param((CHAIN, CHAIN[:1]), CHAIN, id="an older copy"),
        pytest.param((CHAIN, ()), CHAIN, id="nothing any more"),
        pytest.param((CHAIN[:1], (CHAIN[0], replace(CHAIN[1], votes=()))), CHAIN[:1], id="others without votes"),
        pytest.param((FORGED, CHAIN[:1]), CHAIN[:1], id="others without votes, when the operator has just started"),
        pytest.param((OTHERS, CHAIN), CHAIN, id="other first members, when the operator has just started"),
        pytest.param((OTHERS,), (), id="other first members alone"),
        pytest.param((CHAIN, *STRANGERS), CHAIN, id="many other first members"),
    ],
)
async def test_who_was_seen_in_office_stays_there_until_others_are_certified(
    chains: tuple[tuple[Certified, ...], ...], expected: tuple[Certified, ...]
) -> None:
    """One agent that lies may write anything into the Panel's status."""
    assert await believed(*chains) == expected
