"""`kubectl reembed panel`: names the first members, shows who is in office and what they vote on, changes keys.

Members are a wish in the Panel's spec; agents in office certify it, and nobody else can. So nothing here has power over
a vote: `init` is believed because a person copies its digest into an index, and all later members because those before
them voted for them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from reembed.api.panel import membership_json
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.core import names
from reembed.core.quorum.membership import Membership, unsound
from reembed.plugin import exits
from reembed.plugin.agents import ANNOTATION_ROTATE, PREFIX, ROLES, Agent, member, read_agents
from reembed.plugin.arguments import Arguments
from reembed.plugin.chamber import chamber, document, short
from reembed.plugin.council import Council, differing, read_council
from reembed.plugin.lookup import Place
from reembed.plugin.output import Output
from reembed.plugin.problems import Problem, explained, passing
from reembed.plugin.wording import Row, columns, spell

NAMESPACE = "reembed-panel"
_MANAGER = "kubectl-reembed"
_INTERVAL_SECONDS = 1.0
_READS = "get and list of panels, decisions, ballots and leases"
_WRITES = "create and patch of panels, and list of leases"
_ROTATES = "patch of panels and of the agent's Secret, and list of leases"
_SECRET = Kind("", "v1", "secrets", "Secret")


async def run(cluster: Cluster, arguments: Arguments, output: Output) -> int:
    """Do what is asked and return the exit code.

    Raises:
        Problem: it could not be done.

    """
    place = Place(cluster, arguments.target.namespace or NAMESPACE, arguments.panel)
    return await _DOES[arguments.does](place, arguments, output)


async def _init(place: Place, arguments: Arguments, output: Output) -> int:
    """Make the Panel of the agents that there are."""
    if (found := await _panel(place)) is not None:
        known = read_council(found, {})
        doubt = f" ({known.doubt})" if known.doubt else ""
        raise Problem(
            f"there is Panel {place.name!r} in namespace {place.namespace!r} already, and its digest is "
            f"{known.anchor}{doubt}; `kubectl reembed panel wish` asks for other keys"
        )
    agents = await _published(place, arguments, output, frozenset(ROLES))
    members = Membership(1, arguments.faulty, tuple(member(agents[name]) for name in ROLES))
    if (wrong := unsound(members)) is not None:
        raise Problem(f"these would be no panel: {wrong}; give another --faulty")
    # What agents say of themselves later is believed by who compares it with this; they cannot write it.
    meta = {"namespace": place.namespace, "name": place.name, "annotations": {names.ANNOTATION_FIRST: members.digest}}
    body = {"metadata": meta, "spec": membership_json(members)}
    with explained(f"create panel {place.name!r}", place.namespace, _WRITES):
        await place.cluster.create(kinds.PANEL, place.namespace, body, manager=_MANAGER)
    if arguments.json:
        output.json({"digest": members.digest, "quorum": members.quorum, "members": _members(members)})
        return exits.OK
    listed: list[Row] = [[one.name, short(one.key)] for one in members.members]
    output.lines(columns([["AGENT", "KEY"], *listed]))
    text = f"{len(members.members)} members of which {members.faulty} may be faulty: {members.quorum} votes decide."
    output.lines([Text(), Text(text), Text("Of each index whose steps they shall certify, write:"), Text()])
    reference = f"namespace: {place.namespace}\n    name: {place.name}\n    digest: {members.digest}"
    output.lines([Text(f"spec:\n  panelRef:\n    {reference}")])
    return exits.OK


async def _status(place: Place, arguments: Arguments, output: Output) -> int:
    """Show the panel; the exit code says whether enough agents are reachable to decide."""
    council, now = await _council(place), _now()
    if arguments.json:
        output.json(document(council, now))
    else:
        output.view(chamber(council, now))
    alive = sum(council.reachable(one, now) for one in council.members.members)
    return exits.OK if alive >= council.members.quorum else exits.NOT_OK


async def _rotate(place: Place, arguments: Arguments, output: Output) -> int:
    """Have one agent make another key, and wish for it."""
    wished = read_council(await _panel_or_problem(place), {}).panel.wished
    held = wished.member(arguments.name)
    if held is None:
        there = ", ".join(one.name for one in wished.members)
        raise Problem(f"{arguments.name!r} is no member of panel {place.name!r}; there are {there}")
    agents = await _agents(place)
    if arguments.name not in agents:
        raise Problem(f"agent {arguments.name} has no heartbeat; `kubectl get pods -n {place.namespace}` shows its pod")
    if agents[arguments.name].key == held.key:
        change = {"metadata": {"annotations": {ANNOTATION_ROTATE: secrets.token_hex(8)}}}
        with explained(f"ask agent {arguments.name} for a key", place.namespace, _ROTATES):
            secret = f"{PREFIX}{arguments.name}"
            await place.cluster.patch(_SECRET, place.namespace, secret, change, manager=_MANAGER)
        output.aside(f"agent {arguments.name} is asked for another key; it looks once a minute")
        if not await _soon(arguments, lambda: _has_other_key(place, arguments.name, held.key)):
            output.aside(f"no other key after {_waited(arguments)}; the same command goes on where this one ended")
            return exits.UNDECIDED
    return await _wish_for(place, frozenset({arguments.name}), arguments, output)


async def _wish(place: Place, arguments: Arguments, output: Output) -> int:
    """Wish for the keys that the agents have published."""
    return await _wish_for(place, frozenset(ROLES), arguments, output)


async def _wish_for(place: Place, names: frozenset[str], arguments: Arguments, output: Output) -> int:
    raw, agents = await _panel_or_problem(place), await _agents(place)
    panel = read_council(raw, {}).panel
    wished, office = panel.wished, panel.active
    members = tuple(
        replace(one, key=_key(agents.get(one.name), one.key)) if one.name in names else one for one in wished.members
    )
    after = replace(wished, members=members)
    if len(changed := differing(office or after, after)) > wished.faulty:
        raise Problem(
            f"{len(changed)} members would change at once ({', '.join(changed)}), and those in office agree to "
            f"{wished.faulty} at most: rotate one after another; docs/panel.md says what to do if their keys are lost"
        )
    if after != wished:
        change = {
            "metadata": {"resourceVersion": raw["metadata"]["resourceVersion"]},
            "spec": membership_json(after),
        }
        with explained(f"change panel {place.name!r}", place.namespace, _ROTATES):
            await place.cluster.patch(kinds.PANEL, place.namespace, place.name, change, manager=_MANAGER)
    certified = await _soon(arguments, lambda: _in_office(place, after))
    council = await _council(place)
    if arguments.json:
        told = {"certified": certified, "version": council.members.version, "wished": list(council.changed())}
        output.json({**told, "members": _members(council.members)})
    else:
        output.lines([Text(_told(council, differing(wished, after), arguments, certified=certified))])
    return exits.OK if certified else exits.UNDECIDED


def _told(council: Council, changed: tuple[str, ...], arguments: Arguments, *, certified: bool) -> str:
    members = council.members
    if certified:
        known = (f"{one.name} is known by {short(one.key)}" for one in members.members if one.name in changed)
        return f"membership {members.version} is in office: {', '.join(known) or 'all are known by their keys already'}"
    return (
        f"wished for and not certified after {_waited(arguments)}: {', '.join(council.changed())}; {members.quorum} "
        "votes of those in office are needed. `kubectl reembed panel status` shows who says what"
    )


def _key(agent: Agent | None, held: bytes) -> bytes:
    return agent.key if agent is not None and agent.key is not None else held


async def _published(place: Place, arguments: Arguments, output: Output, wanted: frozenset[str]) -> Mapping[str, Agent]:
    """Return the agents once each has published a key.

    Raises:
        Problem: some have not in time.

    """
    found: dict[str, Agent] = {}
    told: list[str] = []

    async def look() -> bool:
        found.update({name: one for name, one in (await _agents(place)).items() if one.key is not None})
        missing = sorted(wanted - found.keys())
        if missing and missing != told:
            output.aside(f"{len(found)} of {len(wanted)} agents have published a key; waits for {', '.join(missing)}")
        told[:] = missing
        return not missing

    if not await _soon(arguments, look):
        raise Problem(
            f"no key of {', '.join(told)} after {_waited(arguments)}: are their pods running? "
            f"`kubectl get pods -n {place.namespace}`; the chart makes them with panel.enabled"
        )
    return found


async def _soon(arguments: Arguments, look: Callable[[], Awaitable[bool]]) -> bool:
    """Return whether `look` comes true within --timeout."""
    seconds = arguments.wait.total_seconds() if arguments.wait is not None else None
    try:
        async with asyncio.timeout(seconds):
            while True:
                if await _true(look):
                    return True
                await asyncio.sleep(_INTERVAL_SECONDS)
    except TimeoutError:
        return False


async def _true(look: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await look()
    except Problem as problem:
        if passing(problem):
            return False
        raise


def _waited(arguments: Arguments) -> str:
    return spell(arguments.wait) if arguments.wait is not None else "this"


async def _has_other_key(place: Place, name: str, held: bytes) -> bool:
    agent = (await _agents(place)).get(name)
    return agent is not None and agent.key is not None and agent.key != held


async def _in_office(place: Place, wished: Membership) -> bool:
    active = read_council(await _panel_or_problem(place), {}).panel.active
    return active is not None and set(active.members) == set(wished.members) and active.faulty == wished.faulty


async def _council(place: Place) -> Council:
    with explained(f"look at panel {place.name!r}", place.namespace, _READS):
        panel = await _panel_or_problem(place)
        decisions = await place.cluster.list(kinds.DECISION, place.namespace)
        ballots = await place.cluster.list(kinds.BALLOT, place.namespace)
        return read_council(panel, await _agents(place), decisions, ballots)


async def _panel(place: Place) -> dict[str, Any] | None:
    with explained(f"get panel {place.name!r}", place.namespace, _READS):
        return await place.cluster.get(kinds.PANEL, place.namespace, place.name)


async def _panel_or_problem(place: Place) -> dict[str, Any]:
    if (found := await _panel(place)) is None:
        raise Problem(
            f"there is no panel {place.name!r} in namespace {place.namespace!r}; `kubectl reembed panel init` makes "
            "it, `kubectl get panels -A` lists all"
        )
    return found


async def _agents(place: Place) -> dict[str, Agent]:
    with explained("list the agents' leases", place.namespace, _READS):
        return read_agents(await place.cluster.list(kinds.LEASE, place.namespace))


def _members(members: Membership) -> list[dict[str, str]]:
    return [{"name": one.name, "role": one.role.value, "key": short(one.key)} for one in members.members]


def _now() -> datetime:
    return datetime.now(UTC)


_DOES: Mapping[str, Callable[[Place, Arguments, Output], Awaitable[int]]] = {
    "panel init": _init,
    "panel status": _status,
    "panel rotate": _rotate,
    "panel wish": _wish,
}
