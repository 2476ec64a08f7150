"""A judge approves what it measured to be good, waits for what is late, and knows at once what it looked at before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from reembed.api.panel import Decision
from reembed.core.model import Meta
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.evidence import Objects
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Proposal
from reembed.panel.judge import Judge, Whose
from reembed.panel.objects import Around
from tests.fixtures.embedders import Start
from tests.fixtures.postgres import Database
from tests.integration.panel.world import World, standing


class Reader:
    """The API server's word on the world, whose share of now a certificate names that is an hour old."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.looks = 0
        self.looked_twice = asyncio.Event()

    async def indexes(self) -> list[tuple[str, str]]:
        return [("rag", "docs")]

    async def look(self, *_: object) -> Around:
        self.looks += 1
        if self.looks == 2:
            self.looked_twice.set()
        around = self.world.around()
        return replace(around, objects=self._held(around.objects))

    async def objects(self, *_: object) -> Objects:
        return self._held(self.world.around().objects)

    @staticmethod
    def _held(objects: Objects) -> Objects:
        return replace(objects, certified_by=datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
async def world(database: Database, embedder: Start, tmp_path: Path) -> AsyncIterator[World]:
    async with standing(database, embedder(), tmp_path) as made:
        yield made


@pytest.fixture
async def judge(world: World, tmp_path: Path) -> AsyncIterator[Judge]:
    whose = Whose(("rag", "panel"), Role.EMBEDDINGS_VALIDATOR, b"s" * 32, tmp_path)
    async with aiohttp.ClientSession() as session:
        one = Judge(None, whose, session)  # type: ignore[arg-type]
        one._objects = Reader(world)  # type: ignore[assignment]
        yield one
        await one.close()


def decision(proposal: Proposal) -> Decision:
    return Decision(Meta("rag", proposal.name, "u", 1, "1"), proposal, "operator")


async def test_a_good_raise_is_approved_and_what_was_measured_is_not_measured_again(world: World, judge: Judge) -> None:
    first = await judge.judge(decision(world.proposal()), datetime.now(UTC))
    assert first.reasons == ("Measured: every check holds",)
    assert first.evidence["retrieval"]["measured"] == first.evidence["retrieval"]["asked"]
    again = replace(world.proposal(), epoch=9)
    again = replace(again, after=replace(again.after, epoch=9))
    assert (await judge.judge(decision(again), datetime.now(UTC))).choice is Choice.APPROVE
    assert judge._objects.looks == 1  # type: ignore[attr-defined]


async def test_a_gateway_that_is_late_is_waited_for(world: World, judge: Judge) -> None:
    told, world.serves = world.weight, 0
    asked = asyncio.create_task(judge.judge(decision(world.proposal()), datetime.now(UTC)))
    await asyncio.wait_for(judge._objects.looked_twice.wait(), 60)  # type: ignore[attr-defined]
    world.serves = told
    assert (await asyncio.wait_for(asked, 60)).choice is Choice.APPROVE


async def test_a_round_keeps_evidence_warm(world: World, judge: Judge) -> None:
    assert not await judge._round()
    assert (await judge.judge(decision(world.proposal()), datetime.now(UTC))).choice is Choice.APPROVE
    assert judge.wishes(datetime.now(UTC), list(Role)) == []
