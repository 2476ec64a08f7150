"""Eight agents on a real API server: what they certify, what they refuse, and what liars among them cannot do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reembed.cluster.client import Cluster
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.counting import Standing
from tests.panel_agents.world import NAMES, Panel, Saying, obeyed, panel_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
async def cluster(apiserver_with_crds: Path) -> AsyncIterator[Cluster]:
    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        yield cluster


@pytest.fixture
async def panel(cluster: Cluster, namespace: str) -> AsyncIterator[Panel]:
    async with panel_of(cluster, namespace) as panel:
        yield panel


async def test_a_step_that_all_approve_has_a_certificate_that_gateways_obey(panel: Panel) -> None:
    uid = await panel.index("docs")
    proposal = panel.raising("docs", uid, 5)
    await panel.propose(proposal)
    certificate = await panel.certificate(proposal)
    assert (len(certificate.votes) >= 6, obeyed(panel, certificate, uid)) == (True, True)


async def test_three_refusals_refuse(cluster: Cluster, namespace: str) -> None:
    judges = {name: Saying(Choice.REJECT) for name in NAMES[:3]}
    async with panel_of(cluster, namespace, judges) as panel:
        proposal = panel.raising("docs", await panel.index("docs"), 5)
        await panel.propose(proposal)
        counted = await panel.said(proposal, 8)
    assert (counted.standing, set(counted.refused)) == (Standing.REFUSED, set(NAMES[:3]))
