"""Naming a panel, changing its keys and what is shown of it, in virtual time."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reembed.api.panel import render_memberships
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.core.quorum.certificates import Certified, Choice
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.plugin import panel
from reembed.plugin.agents import read_agents
from reembed.plugin.arguments import Arguments, parse
from reembed.plugin.chamber import chamber, document, short
from reembed.plugin.connection import Target
from reembed.plugin.council import Council, read_council
from reembed.plugin.output import Output, plain
from reembed.plugin.problems import Problem
from tests.panels import NOON, key, raising
from tests.unit.plugin.golden import expected
from tests.unit.plugin.panels import NAMES, PanelCluster, ballot, council, decision, later, lease
from tests.unit.plugin.panels import panel as panel_object

pytestmark = pytest.mark.looptime

AGENTS = council()
LEASES = [lease(name, key(name).public) for name in NAMES]
IN_OFFICE = panel_object(AGENTS.membership, (Certified(AGENTS.membership),))


async def run(cluster: PanelCluster, line: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = await panel.run(cluster, parse(f"panel {line}".split()), Output(out, err))
    return code, out.getvalue(), err.getvalue()


def made(cluster: PanelCluster) -> dict[str, Any]:
    (found,) = (one for one in cluster.objects if one["kind"] == kinds.PANEL.name)
    spec: dict[str, Any] = found["spec"]
    return spec


async def test_the_first_members_are_those_that_published_a_key_and_their_digest_is_told() -> None:
    cluster = PanelCluster(*LEASES)
    code, shown, _ = await run(cluster, "init")
    assert (code, made(cluster)["faulty"]) == (0, 2)
    assert [one["name"] for one in made(cluster)["members"]] == sorted(NAMES)
    assert shown.splitlines()[1].split() == ["embedding-specialist", short(key("embedding-specialist").public)]
    assert "8 members of which 2 may be faulty: 6 votes decide." in shown
    reference = (
        f"spec:\n  panelRef:\n    namespace: reembed-panel\n    name: panel\n    digest: {AGENTS.membership.digest}\n"
    )
    assert shown.endswith(reference)


async def test_init_waits_for_the_keys_and_says_of_whom() -> None:
    cluster = PanelCluster(*LEASES[:7], lease(NAMES[7], None), looks=4)
    cluster.hidden = [LEASES[7]]
    code, _, aside = await run(cluster, "init")
    assert (code, aside) == (0, f"7 of 8 agents have published a key; waits for {NAMES[7]}\n")


async def test_init_makes_no_panel_of_fewer(looptime: Any) -> None:
    cluster = PanelCluster(*LEASES[:7])
    with pytest.raises(Problem, match=f"no key of {NAMES[7]} after 2m: are their pods running"):
        await run(cluster, "init")
    assert (looptime, [one["kind"] for one in cluster.objects]) == (120, ["Lease"] * 7)


async def test_a_server_that_is_busy_for_a_moment_is_asked_again() -> None:
    code, _, _ = await run(PanelCluster(*LEASES, fault=ClusterError(503, "busy")), "init")
    assert code == 0


async def test_a_panel_is_not_made_twice_and_its_digest_is_told() -> None:
    with pytest.raises(Problem, match=f"already, and its digest is {AGENTS.membership.digest}"):
        await run(PanelCluster(*LEASES, IN_OFFICE), "init")


async def test_the_digest_is_that_of_whom_a_person_named_whatever_an_agent_writes() -> None:
    """Whoever copies the digest of an agent that lies into an index has its gateways believe that agent alone."""
    cluster = PanelCluster(*LEASES)
    await run(cluster, "init")
    (found,) = (one for one in cluster.objects if one["kind"] == "Panel")
    evil = council(dict.fromkeys(NAMES, 5)).membership
    found["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1"}
    found["status"] = {"memberships": render_memberships((Certified(evil),))}
    told = read_council(found, {})
    assert (told.anchor, "an agent that lies wrote it" in told.doubt) == (AGENTS.membership.digest, True)
    assert f"digest {AGENTS.membership.digest}" in plain(chamber(told, NOON), 120)
    with pytest.raises(Problem, match=f"its digest is {AGENTS.membership.digest}"):
        await run(cluster, "init")
    # Of a Panel that another way was found to, nobody can tell.
    del found["metadata"]["annotations"]
    assert "compare it with what `panel init` told" in read_council(found, {}).doubt


async def test_eight_agents_do_not_tolerate_three() -> None:
    with pytest.raises(Problem, match="8 members tolerate 2 faulty ones at most, not 3; give another --faulty"):
        await run(PanelCluster(*LEASES), "init --faulty 3")


async def test_the_digest_is_told_to_programs() -> None:
    code, shown, _ = await run(PanelCluster(*LEASES), "init -o json")
    found = json.loads(shown)
    assert (code, found["digest"], found["quorum"], len(found["members"])) == (0, AGENTS.membership.digest, 6, 8)


async def test_a_rotation_asks_the_agent_and_waits_until_the_others_certified_its_key() -> None:
    cluster = PanelCluster(*LEASES, IN_OFFICE, looks=5)
    code, shown, aside = await run(cluster, "rotate memory-analyst")
    new = short(key("memory-analyst", 1).public)
    assert (code, shown) == (0, f"membership 2 is in office: memory-analyst is known by {new}\n")
    assert aside == "agent memory-analyst is asked for another key; it looks once a minute\n"


async def test_a_rotation_goes_on_where_it_ended_without_asking_for_a_third_key() -> None:
    leases = [lease(name, key(name, 1 if name == "memory-analyst" else 0).public) for name in NAMES]
    code, shown, aside = await run(PanelCluster(*leases, IN_OFFICE), "rotate memory-analyst")
    assert (code, "memory-analyst is known by" in shown, aside) == (0, True, "")


async def test_a_key_that_nobody_certifies_stays_a_wish(looptime: Any) -> None:
    cluster = PanelCluster(*LEASES, IN_OFFICE, certifies=False)
    code, shown, _ = await run(cluster, "rotate memory-analyst --timeout 30s")
    assert code == 2
    assert shown == (
        "wished for and not certified after 30s: memory-analyst; 6 votes of those in office are needed. "
        "`kubectl reembed panel status` shows who says what\n"
    )


async def test_a_rotation_is_told_to_programs() -> None:
    code, shown, _ = await run(PanelCluster(*LEASES, IN_OFFICE), "rotate memory-analyst -o json")
    found = json.loads(shown)
    assert (code, found["certified"], found["version"], found["wished"]) == (0, True, 2, [])
    keys = {one["name"]: one["key"] for one in found["members"]}
    assert keys["memory-analyst"] == short(key("memory-analyst", 1).public)


@pytest.mark.parametrize(
    ("agent", "why"),
    [("queen", "'queen' is no member of panel 'panel'; there are"), (NAMES[0], "has no heartbeat")],
)
async def test_only_a_living_member_can_be_asked(agent: str, why: str) -> None:
    with pytest.raises(Problem, match=why):
        await run(PanelCluster(*LEASES[1:], IN_OFFICE), f"rotate {agent}")


async def test_a_wish_is_for_all_keys_that_were_published() -> None:
    generations = {"memory-analyst": 1, "pattern-learner": 1}
    leases = [lease(name, key(name, generations.get(name, 0)).public) for name in NAMES]
    cluster = PanelCluster(*leases, IN_OFFICE)
    code, shown, _ = await run(cluster, "wish")
    assert (code, shown.count("is known by")) == (0, 2)
    after = council(generations, version=2).membership
    assert read_council(cluster.objects[-1], {}).panel.active == replace(
        after, members=tuple(sorted(after.members, key=lambda one: one.name))
    )


async def test_no_more_change_at_once_than_may_be_faulty() -> None:
    leases = [lease(name, key(name, 1).public) for name in NAMES[:3]] + LEASES[3:]
    told = "3 members would change at once .*, and those in office agree to 2 at most: rotate one after another"
    with pytest.raises(Problem, match=told):
        await run(PanelCluster(*leases, IN_OFFICE), "wish")


async def test_a_wish_for_what_is_there_changes_nothing() -> None:
    code, shown, _ = await run(PanelCluster(*LEASES, IN_OFFICE), "wish")
    assert (code, shown) == (0, "membership 1 is in office: all are known by their keys already\n")


async def test_a_panel_that_is_not_there_is_told() -> None:
    with pytest.raises(
        Problem, match="there is no panel 'panel' in namespace 'reembed-panel'; `kubectl reembed panel init`"
    ):
        await run(PanelCluster(*LEASES), "status")


# What `status` shows.

OPEN = replace(raising(10, 50, minutes=3), subject=Subject("shop", "articles", "uid-index", "to-new", "uid-migration"))
REFUSED = replace(
    OPEN, kind=Kind.COMPLETE, epoch=4, before=OPEN.after, after=replace(OPEN.after, weight=100), expires=later(-600)
)
ROTATED = council({"memory-analyst": 1}, version=2)


def change() -> Proposal:
    return Proposal(
        Kind.MEMBERSHIP,
        Subject("reembed-panel", "panel", "uid-panel"),
        3,
        Split(),
        Split(),
        "",
        later(10_000_000),
        (("after", "a"), ("before", "b")),
    )


def busy(**status: Any) -> PanelCluster:
    chain = AGENTS.followed_by(ROTATED)
    wished = replace(council({"memory-analyst": 1, "pattern-learner": 1}).membership)
    told = {"members": 8, "reachable": 7, "quorum": 6, "unreachable": ["streaming-loader"], **status}
    lags = {"streaming-loader": later(-95)}
    generations = {"memory-analyst": 1, "pattern-learner": 1}
    leases = [lease(one, key(one, generations.get(one, 0)).public, lags.get(one, later(-4))) for one in NAMES]
    refusals = {
        "memory-analyst": "MemoryHigh: 96 % of the candidate's memory is in use, above 85 %; give it more",
        "pattern-learner": "ForecastBad: p95 would be 900 ms",
        "parallelism-optimizer": "QueuesGrow: 40 requests wait",
    }
    return PanelCluster(
        panel_object(wished, chain, **told),
        *leases,
        decision(OPEN),
        decision(REFUSED),
        decision(change(), "byzantine-coordinator"),
        *(ballot(ROTATED, one, OPEN, Choice.APPROVE, "Fine: it holds") for one in NAMES[:1] + NAMES[5:7]),
        ballot(ROTATED, "memory-analyst", OPEN, Choice.REJECT, refusals["memory-analyst"]),
        *(ballot(ROTATED, one, REFUSED, Choice.REJECT, why) for one, why in refusals.items()),
        certifies=False,
    )


def seen(cluster: PanelCluster) -> Council:
    of = {one: [found for found in cluster.objects if found["kind"] == one] for one in _KINDS}
    return read_council(of["Panel"][0], read_agents(of["Lease"]), of["Decision"], of["Ballot"])


def drawn(cluster: PanelCluster) -> str:
    return plain(chamber(seen(cluster), NOON), 120)


_KINDS = ("Panel", "Decision", "Ballot", "Lease")


def test_status_shows_who_lives_and_who_said_what() -> None:
    text = drawn(busy())
    assert text == expected("panel-busy.txt", text)


def test_status_says_that_nothing_can_be_decided() -> None:
    away = ["embedding-specialist", "memory-analyst", "streaming-loader"]
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "QuorumMissing",
        "message": "5 of 8 agents are reachable, 6 votes decide; nothing is decided until enough of them are back",
        "lastTransitionTime": "2026-01-01T11:58:00Z",
    }
    text = drawn(busy(reachable=5, unreachable=away, conditions=[condition]))
    assert text == expected("panel-without-quorum.txt", text)


def test_status_of_a_panel_that_nobody_put_into_office_yet() -> None:
    text = drawn(PanelCluster(panel_object(AGENTS.membership), *LEASES[:6]))
    assert text == expected("panel-new.txt", text)


def test_what_agents_propose_says_what_it_is_about() -> None:
    pod = (("pod", "new-1"), ("pool", "new"), ("poolUid", "uid-new"))
    sick = replace(raising(10, 10), kind=Kind.RECOVER, change=pod)
    sick = replace(sick, after=sick.before)
    status = drawn(PanelCluster(IN_OFFICE, *LEASES, decision(sick, "byzantine-coordinator")))
    assert "Open: Recover of shop/articles, pod new-1, pool new, epoch 5, by byzantine-coordinator" in status


def test_what_an_agent_proposes_that_is_no_proposal_is_left_out() -> None:
    odd = decision(OPEN)
    odd["metadata"]["name"] = "d" + "0" * 40
    found = read_council(IN_OFFICE, {}, [odd])
    assert found.decisions == ()


@pytest.mark.parametrize(("reachable", "code"), [(6, 0), (5, 1)])
async def test_the_exit_code_says_whether_enough_can_vote(reachable: int, code: int) -> None:
    found, _, _ = await run(busy(reachable=reachable, unreachable=list(NAMES[reachable:])), "status")
    assert found == code


def test_status_is_told_to_programs() -> None:
    found = document(seen(busy()), NOON)
    (opened,) = (one for one in found["decisions"] if one["standing"] == "Open" and one["kind"] == "Traffic")
    assert (found["version"], found["quorum"], found["wished"]) == (2, 6, ["pattern-learner"])
    assert (len(opened["approved"]), opened["refused"][0]["agent"]) == (3, "memory-analyst")
    away = [one["name"] for one in found["members"] if not one["reachable"]]
    assert (away, json.loads(json.dumps(found))) == (["streaming-loader"], found)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("panel init", Arguments("panel init", Target(), panel="panel", wait=timedelta(minutes=2))),
        (
            "panel init --faulty 1 --panel p -n x --timeout 5m",
            Arguments("panel init", Target(namespace="x"), panel="p", faulty=1, wait=timedelta(minutes=5)),
        ),
        ("panel status -o json", Arguments("panel status", Target(), panel="panel", json=True)),
        ("panel rotate a", Arguments("panel rotate", Target(), name="a", panel="panel", wait=timedelta(minutes=2))),
        ("-n x panel wish", Arguments("panel wish", Target(namespace="x"), panel="panel", wait=timedelta(minutes=2))),
    ],
)
def test_a_line_means(line: str, meant: Arguments) -> None:
    assert parse(line.split()) == meant


def test_panel_alone_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["panel"])
    assert (caught.value.code, "the following arguments are required: COMMAND" in capsys.readouterr().err) == (3, True)
