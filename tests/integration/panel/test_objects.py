"""An agent reads the API server by itself: what a proposal names has to be what is there, by UID."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reembed.api.panel import Decision, render_memberships
from reembed.api.routing import render_index_status
from reembed.api.specs import parse_terms
from reembed.api.status import render_migration_status
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Status
from reembed.core.model import Arm, Holder, IndexStatus, Meta, Routing
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import Certified
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.core.transitions import State
from reembed.panel.judge import Judge, Whose
from reembed.panel.objects import ObjectReader
from tests import panels
from tests.integration.controller.world import objects

EIGHT = panels.agents()


@pytest.fixture
async def cluster(apiserver_with_crds: Path) -> AsyncIterator[Cluster]:
    async with Cluster.connect(str(apiserver_with_crds)) as connected:
        yield connected


class World:
    """A user's objects at 10 %, with one pod for each pool and one gateway, that nobody answers for."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.panel = (namespace, "panel")
        self.made: dict[str, Any] = {}
        self.routing = Routing()
        self.status = Status()

    async def make(self) -> World:
        for (kind, name), raw in objects(self.namespace).items():
            if kind == kinds.INDEX:
                anchor = EIGHT.membership.digest
                raw["spec"]["store"]["gatewayRole"] = "reembed_gateway"
                raw["spec"]["panelRef"] = {"namespace": self.panel[0], "name": self.panel[1], "digest": anchor}
            if name != "fill":
                self.made[name] = await self.cluster.apply(kind, raw, manager="user")
        old, new = (self._arm(name) for name in ("old", "new"))
        self.status = Status(State.CANARY, serving=old, candidate=new)
        self.routing = Routing(3, old, new, 10)
        await self.write()
        for name, label in (("old-1", "old"), ("new-1", "new"), ("gateway-1", None)):
            await self._pod(name, label)
        return self

    async def write(self) -> None:
        holder = Holder("move", self.uid("move"))
        status = render_index_status(IndexStatus(holder, self.routing))
        await self._patch(kinds.INDEX, "docs", status)
        spec = ObjectReaderSpec.of(self.made["move"])
        await self._patch(kinds.MIGRATION, "move", render_migration_status(self.status, spec))

    def uid(self, name: str) -> str:
        return str(self.made[name]["metadata"]["uid"])

    def proposal(self) -> Proposal:
        uids = {name: self.uid(name) for name in ("old", "new")}
        return Proposal(
            Kind.TRAFFIC,
            Subject(self.namespace, "docs", self.uid("docs"), "move", self.uid("move")),
            4,
            raising.split(self.routing, uids),
            raising.split(replace(self.routing, epoch=4, weight=50), uids),
            parse_terms(self.made["move"]),
            datetime.now(UTC) + timedelta(seconds=20),
        )

    def _arm(self, name: str) -> Arm:
        collection = names.collection(self.uid("move"), 1) if name == "new" else "c_old"
        return Arm(name, collection, fingerprint(ObjectReaderSpec.pool(self.made[name])))

    async def _pod(self, name: str, pool: str | None) -> None:
        labels = {names.LABEL_COMPONENT: "gateway", names.LABEL_INDEX: "docs"}
        if pool is not None:
            labels = {names.LABEL_COMPONENT: "embedder", names.LABEL_POOL: pool}
        spec = {"containers": [{"name": "c", "image": "none"}]}
        metadata = {"namespace": self.namespace, "name": name, "labels": labels}
        await self.cluster.apply(kinds.POD, {"metadata": metadata, "spec": spec}, manager="user")
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [ready]}
        await self._patch(kinds.POD, name, status)

    async def _patch(self, kind: kinds.Kind, name: str, status: dict[str, Any]) -> None:
        change = {"status": status}
        await self.cluster.patch(kind, self.namespace, name, change, manager="user", subresource="status")


class ObjectReaderSpec:
    """What these tests need of raw objects as types."""

    @staticmethod
    def of(raw: dict[str, Any]) -> Any:
        from reembed.api.specs import parse_migration  # noqa: PLC0415

        return parse_migration(raw)[1]

    @staticmethod
    def pool(raw: dict[str, Any]) -> Any:
        from reembed.api.specs import parse_pool  # noqa: PLC0415

        return parse_pool(raw)[1].model


@pytest.fixture
async def world(cluster: Cluster, namespace: str) -> World:
    return await World(cluster, namespace).make()


def whose(world: World, tmp_path: Path) -> Whose:
    return Whose(world.panel, Role.MEMORY_ANALYST, b"s" * 32, tmp_path, (world.namespace,), port=1)


def decision(proposal: Proposal) -> Decision:
    return Decision(Meta("x", proposal.name, "u", 1, "1"), proposal, "operator")


async def test_everything_around_an_index_is_read(world: World) -> None:
    reader = ObjectReader(world.cluster, world.panel)
    assert (world.namespace, "docs") in await reader.indexes()
    found = await reader.look(world.namespace, "docs")
    assert found is not None
    assert found.active
    assert found.objects.terms == world.proposal().terms
    assert found.objects.index.status.routing == world.routing
    assert {name: one.ready for name, one in found.objects.pools.items()} == {"old": ("old-1",), "new": ("new-1",)}
    assert found.gateways == {"gateway-1": "127.0.0.1"}
    assert found.objects.certified_by is None


async def test_an_index_of_another_panel_is_nobodys_business(world: World) -> None:
    reader = ObjectReader(world.cluster, ("elsewhere", "panel"), (world.namespace,))
    assert await reader.indexes() == []
    assert await reader.look(world.namespace, "docs") is None


async def test_the_certificate_of_the_share_of_now_says_by_when_it_was_taken_over(world: World) -> None:
    proposal = replace(world.proposal(), epoch=3, after=replace(world.proposal().before, epoch=3))
    world.routing = replace(world.routing, certificate=EIGHT.certificate(proposal))
    await world.write()
    reader = ObjectReader(world.cluster, world.panel)
    found = await reader.objects(world.namespace, "docs")
    assert found is not None
    assert found.certified_by is not None
    assert timedelta(0) < found.certified_by - proposal.expires < timedelta(minutes=1)
    # Five signatures are no certificate.
    world.routing = replace(world.routing, certificate=EIGHT.certificate(proposal, 5))
    await world.write()
    again = await ObjectReader(world.cluster, world.panel).objects(world.namespace, "docs")
    assert again is not None
    assert again.certified_by is None


async def test_a_judge_reads_what_is_proposed_and_finds_pods_silent(world: World, tmp_path: Path) -> None:
    async with Judge.of(world.cluster, whose(world, tmp_path)) as judge:
        found = await judge.judge(decision(world.proposal()), datetime.now(UTC))
        assert found.reasons[0].startswith("GatewaysSilent: ")
        other = replace(world.proposal(), subject=replace(world.proposal().subject, uid="another"))
        assert (await judge.judge(decision(other), datetime.now(UTC))).reasons[0].startswith("IndexOther: ")


async def test_an_index_that_moved_a_moment_ago_is_read_anew(world: World, tmp_path: Path) -> None:
    async with Judge.of(world.cluster, whose(world, tmp_path)) as judge:
        await judge.judge(decision(world.proposal()), datetime.now(UTC))
        world.routing = replace(world.routing, epoch=9, weight=0)
        await world.write()
        wrong = replace(world.proposal(), epoch=5, before=replace(world.proposal().before, epoch=3))
        later = datetime.now(UTC) + timedelta(seconds=3)
        found = await judge.judge(decision(replace(wrong, expires=later)), datetime.now(UTC))
        assert not found.reasons[0].startswith("Measured")


async def test_a_migration_that_came_a_moment_ago_is_read(world: World, tmp_path: Path) -> None:
    """What was read of the one that holds the index says nothing of it."""
    filling = objects(world.namespace)[kinds.MIGRATION, "fill"]
    new = await world.cluster.apply(kinds.MIGRATION, filling, manager="user")
    async with Judge.of(world.cluster, whose(world, tmp_path)) as judge:
        asked = world.proposal()
        await judge.judge(decision(asked), datetime.now(UTC))
        subject = replace(asked.subject, migration="fill", migration_uid=str(new["metadata"]["uid"]))
        other = replace(asked, subject=subject, epoch=asked.epoch + 1)
        assert (await judge.judge(decision(other), datetime.now(UTC))).reasons[0].startswith("TermsOther: ")


async def test_the_second_proposal_of_a_slot_is_rejected(world: World, tmp_path: Path) -> None:
    async with Judge.of(world.cluster, whose(world, tmp_path)) as judge:
        first = world.proposal()
        await judge.judge(decision(first), datetime.now(UTC))
        second = replace(first, expires=first.expires + timedelta(seconds=1))
        assert second.slot == first.slot
        assert (await judge.judge(decision(second), datetime.now(UTC))).reasons[0].startswith("SlotTaken: ")


async def test_members_are_judged_by_the_panel_that_is_there(world: World, tmp_path: Path) -> None:
    spec = {
        "faulty": 2,
        "members": [
            {key: value for key, value in one.items() if value}
            for one in render_memberships((Certified(EIGHT.membership),))[0]["members"]
        ],
    }
    metadata = {"namespace": world.namespace, "name": "panel"}
    made = await world.cluster.apply(kinds.PANEL, {"metadata": metadata, "spec": spec}, manager="user")
    memberships = render_memberships((Certified(EIGHT.membership),))
    await world.cluster.patch(
        kinds.PANEL, world.namespace, "panel", {"status": {"memberships": memberships}}, manager="user",
        subresource="status",
    )  # fmt: skip
    same = replace(EIGHT.membership, version=2)
    proposal = replace(
        world.proposal(),
        kind=Kind.MEMBERSHIP,
        subject=Subject(world.namespace, "panel", made["metadata"]["uid"]),
        epoch=2,
        before=Split(),
        after=Split(),
        change=(("after", same.digest), ("before", EIGHT.membership.digest)),
    )
    async with Judge.of(world.cluster, whose(world, tmp_path)) as judge:
        found = await judge.judge(decision(proposal), datetime.now(UTC))
    assert found.reasons == ("Measured: every check holds",)
