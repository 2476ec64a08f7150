"""What the operator believes of the panel's objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from reembed.api.panel import membership_json, render_memberships
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.controller.voting import Voting
from reembed.core.model import PanelRef
from reembed.core.quorum.certificates import Certified
from tests import builders as b
from tests import panels

FIRST, SECOND = panels.agents(), panels.agents(generation=1, version=2)
CHAIN = FIRST.followed_by(SECOND)
REF = PanelRef("agents", "panel", FIRST.membership.digest)


class Watched:
    """A cluster whose Panel is told so many times, each as it is given."""

    def __init__(self, *chains: tuple[Certified, ...]) -> None:
        self._chains = chains
        self.told = asyncio.Event()

    async def watch(self, kind: Kind, namespace: str, *, name: str | None = None) -> AsyncIterator[tuple[str, Any]]:
        del namespace, name
        if kind == kinds.PANEL:
            for number, chain in enumerate(self._chains, start=1):
                meta = {"namespace": "agents", "name": "panel", "uid": "u", "resourceVersion": str(number)}
                spec = membership_json(FIRST.membership)
                yield "MODIFIED", {"metadata": meta, "spec": spec, "status": {"memberships": render_memberships(chain)}}
            self.told.set()
        await asyncio.Event().wait()


async def believed(*chains: tuple[Certified, ...]) -> tuple[Certified, ...]:
    cluster = Watched(*chains)
    voting = Voting(cast("Cluster", cluster), "agents", lambda slot: None, lambda: 0.0)
    watching = asyncio.create_task(voting.run())
    await cluster.told.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    report = voting.report(b.migration(), REF, "uid-docs", b.NOON)
    assert report is not None
    return report.chain


@pytest.mark.parametrize(
    ("chains", "expected"),
    [
        pytest.param((CHAIN[:1],), CHAIN[:1], id="the first members"),
        pytest.param((CHAIN[:1], CHAIN), CHAIN, id="those whom they chose"),
        pytest.param((CHAIN, CHAIN[:1]), CHAIN, id="an older copy"),
        pytest.param((CHAIN, ()), CHAIN, id="nothing any more"),
        pytest.param((CHAIN[:1], (CHAIN[0], replace(CHAIN[1], votes=()))), CHAIN[:1], id="others without votes"),
    ],
)
async def test_who_was_seen_in_office_stays_there_until_others_are_certified(
    chains: tuple[tuple[Certified, ...], ...], expected: tuple[Certified, ...]
) -> None:
    """One agent that lies may write anything into the Panel's status."""
    assert await believed(*chains) == expected
