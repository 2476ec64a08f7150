"""Under virtual time: every agent tells who is proved to lie by Ballots, and of nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.core.quorum.certificates import Choice, ballot_message
from reembed.core.quorum.membership import decoded, encoded
from reembed.core.quorum.proposals import ballot_name
from tests.panel_agents.memory import Memory, memory_panel
from tests.panel_agents.world import NAMES, Panel, Saying

pytestmark = pytest.mark.looptime
LIAR, VICTIM, WITNESS = NAMES[0], NAMES[1], NAMES[2]


@asynccontextmanager
async def voted(silent: str, judge: Any = None) -> AsyncIterator[tuple[Panel, dict[str, Any]]]:
    """Have all but one agent vote on a proposal; yield the panel and what the silent one would have cast."""
    panel = memory_panel()
    for name in NAMES:
        panel.start(name, Saying(after=3600.0) if name == silent else judge)
    await panel.found()
    proposal = panel.raising("docs", await panel.index("docs"), 5)
    await panel.propose(proposal)
    await panel.said(proposal, 7)
    like = (await panel.ballots(proposal))[0]
    spec = like["spec"] | {"agent": silent}
    meta = {"name": ballot_name(proposal.slot, silent), "labels": like["metadata"]["labels"]}
    yield panel, {"metadata": meta, "spec": spec}
    await panel.kill()


def signed(panel: Panel, body: dict[str, Any], signer: str, choice: Choice) -> dict[str, Any]:
    kept = panel.living[signer].agent.keys.kept
    assert kept is not None
    active = panel.living[signer].agent.office.active
    assert active is not None
    key, spec = kept.signing(active, signer), body["spec"]
    assert key is not None
    message = ballot_message(spec["proposal"], spec["slot"], choice, spec["evidenceDigest"])
    changed = {"choice": choice.value, "publicKey": encoded(key.public), "signature": encoded(key.sign(message))}
    return {**body, "spec": spec | changed}


async def cast(panel: Panel, body: dict[str, Any]) -> None:
    await panel.cluster.create(kinds.BALLOT, panel.namespace, body, manager="liar")
    await asyncio.sleep(40)


def told(panel: Panel, witness: str = WITNESS) -> dict[tuple[str, str], float]:
    (family,) = panel.living[witness].metrics.lies.collect()
    return {(one.labels["agent"], one.labels["why"]): one.value for one in family.samples}


async def test_votes_that_differ_prove_nothing() -> None:
    async with voted(LIAR, Saying(Choice.REJECT)) as (panel, body):
        await cast(panel, signed(panel, body, LIAR, Choice.APPROVE))
        assert {name: told(panel, name) for name in NAMES} == {name: {} for name in NAMES}


async def test_a_signature_of_something_else_proves_that_its_account_lies() -> None:
    async with voted(LIAR) as (panel, body):
        genuine = signed(panel, body, LIAR, Choice.APPROVE)
        await cast(panel, {**genuine, "spec": genuine["spec"] | {"choice": Choice.REJECT.value}})
        assert {name: told(panel, name) for name in NAMES} == {name: {(LIAR, "Forged"): 1.0} for name in NAMES}


async def test_who_casts_anothers_public_vote_lies_and_the_other_does_not() -> None:
    async with voted(LIAR) as (panel, body):
        assert decoded(body["spec"]["publicKey"]) != await panel.key(LIAR)
        await cast(panel, body)
        assert told(panel) == {(LIAR, "Borrowed"): 1.0}


async def test_a_key_that_signs_two_things_in_a_slot_lies_under_whatever_name() -> None:
    async with voted(LIAR) as (panel, body):
        await cast(panel, signed(panel, body, VICTIM, Choice.REJECT))
        assert told(panel) == {(LIAR, "Borrowed"): 1.0, (VICTIM, "Twice"): 1.0}


async def test_a_proof_ends_with_the_ballot_that_it_is_also_if_nobody_saw_it_go() -> None:
    async with voted(LIAR) as (panel, body):
        assert isinstance(panel.cluster, Memory)
        await cast(panel, body)
        witness = panel.living[WITNESS].agent._cluster
        assert isinstance(witness, Memory)
        witness.cut = True
        panel.cluster.server.delete(kinds.BALLOT, body["metadata"]["name"])
        await asyncio.sleep(1)
        await asyncio.sleep(300)
        before = told(panel)
        witness.cut = False
        await asyncio.sleep(150)
        assert (before, told(panel)) == ({(LIAR, "Borrowed"): 1.0}, {(LIAR, "Borrowed"): 0.0})
