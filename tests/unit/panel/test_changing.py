"""What lets a change of members wait, whatever the Panel asks for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from hack.cache import ROOT
from reembed.api.panel import Panel, membership_json, render_memberships
from reembed.core.model import Meta
from reembed.core.quorum.certificates import Certified
from reembed.core.quorum.membership import MOST_MEMBERSHIPS, Member, Membership, Role
from reembed.panel.changing import LATELY, obstacle
from reembed.panel.coordinator import Coordinator
from reembed.panel.keys import Kept
from reembed.panel.office import Office
from reembed.panel.seat import Seat
from reembed.signing import verify
from tests import panels

pytestmark = pytest.mark.looptime
EIGHT = panels.agents()
META = Meta("agents", "panel", "u", 1, "1")


def duties(*memberships: Membership) -> Any:
    """Return heartbeats of everybody, with the keys that the last of these have."""
    published = {one.name: one.key for membership in memberships for one in membership.members}
    return SimpleNamespace(live=tuple(published), published=published)


def changed(before: Membership, version: int, *names: str) -> Membership:
    """Return members with others in the place of these."""
    left = [one for one in before.members if one.name not in names]
    new = [Member(f"new-{name}", Role.MEMORY_ANALYST, panels.key(f"new-{name}").public) for name in names]
    return Membership(version, before.faulty, (*left, *new))


def chained(before: panels.Agents, after: Membership, chain: tuple[Certified, ...]) -> tuple[Certified, ...]:
    return (*chain, before.followed_by(panels.Agents(after, {}))[1])


def seen(office: Office, wished: Membership, chain: tuple[Certified, ...]) -> None:
    meta = {"namespace": "agents", "name": "panel", "uid": "u", "resourceVersion": "1"}
    status = {"memberships": render_memberships(chain)}
    office.see({"metadata": meta, "spec": membership_json(wished), "status": status})


async def test_other_names_wait_until_nothing_counts_any_more_that_those_before_the_last_voted_on() -> None:
    """Six of then and six of now share two names then, both of which may lie: they could decide differently."""
    first = EIGHT.membership
    second = changed(first, 2, "agent-0")
    third = changed(second, 3, "agent-1")
    office = Office("agent-7", lambda: Kept(EIGHT.keys["agent-7"], anchor=first.digest), verify)
    one = (Certified(first),)
    seen(office, second, one)
    assert obstacle(office, duties(first, second)) is None
    seen(office, third, chained(EIGHT, second, one))
    assert "share 2 names or more" in (obstacle(office, duties(first, second, third)) or "")
    await asyncio.sleep(LATELY - 1)
    assert obstacle(office, duties(first, second, third)) is not None
    await asyncio.sleep(2)
    assert obstacle(office, duties(first, second, third)) is None


async def test_other_keys_of_the_same_names_need_not_wait() -> None:
    first, second = EIGHT.membership, replace(panels.agents(generation=1).membership, version=2)
    office = Office("agent-7", lambda: Kept(EIGHT.keys["agent-7"], anchor=first.digest), verify)
    two = (*first.members[:6], *second.members[6:])
    seen(office, replace(first, members=two), (Certified(first),))
    assert obstacle(office, duties(first, replace(first, members=two))) is None


async def test_a_chain_that_is_full_says_what_to_do() -> None:
    office = Office("agent-7", lambda: None, verify)
    office.chain = (Certified(EIGHT.membership),) * MOST_MEMBERSHIPS
    wished = replace(EIGHT.membership, members=EIGHT.membership.members[1:], faulty=1)
    office.panel = Panel(META, wished, office.chain)
    told = obstacle(office, duties(EIGHT.membership))
    assert told == "32 memberships follow each other, and there is room for no more: begin anew with another Panel"


@pytest.mark.parametrize(("count", "expected"), [(27, ""), (28, "; 28 of 32 memberships are used up, after which")])
async def test_a_chain_that_is_nearly_full_is_told_in_the_status(count: int, expected: str) -> None:
    office = Office("agent-7", lambda: None, verify)
    office.chain = (Certified(EIGHT.membership),) * count
    nobody = {"cluster": None, "settings": None, "duties": None, "metrics": None, "clock": None}
    waits, told = Coordinator(cast("Seat", SimpleNamespace(office=office, **nobody)))._notes()
    assert (waits, told[: len(expected)], bool(told)) == (None, expected, bool(expected))


def test_the_api_has_room_for_so_many_memberships() -> None:
    for name, path in (("panels", ("memberships",)), ("embeddingindexes", ("routing", "certificate", "memberships"))):
        found = yaml.safe_load((ROOT / "crds" / f"{name}.yaml").read_text())
        at = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
        for step in path:
            at = at["properties"][step]
        assert at["maxItems"] == MOST_MEMBERSHIPS
