"""The panel of the index: eight agents with real keys, of whom some are silent, gone or lie, and their ballots.

An honest agent looks at the world for itself: it approves what starts from the routing that the index has and leads to
a model that answers. A liar does what its word says, as `minds` of a script have it. Agents read and write as fast as
their own connections allow; only the operator's way to the API server loses things. Heartbeats and ballots are objects
like any other, but nobody's event: invariants look at who signed what (`signed`), which nobody can write but agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from reembed import signing
from reembed.api.panel import Ballot, Decision, membership_json, parse_decision, render_ballot, render_memberships
from reembed.cluster import kinds
from reembed.core.names import AGENT_PREFIX
from reembed.core.quorum.certificates import Certified, Choice, Vote
from reembed.core.quorum.proposals import OF_ROUTING, Kind, Proposal, Side, ballot_name
from tests import panels
from tests.sim.api_server import NAMESPACE, Change, Object
from tests.sim.line import Weather
from tests.sim.virtual_time import WORLD

if TYPE_CHECKING:
    from tests.sim.world import World

AGENTS = panels.agents()
PANEL = "panel"
REF = {"namespace": NAMESPACE, "name": PANEL, "digest": AGENTS.membership.digest}
HONEST = "honest"
LIARS = ("approves", "rejects", "equivocates", "replays")

_BEAT = 10.0
# Agents measure all the time, and vote with the next look at what is new: in seconds. Few moments make few passes.
_JUDGES = (0.1, 0.1, 0.7)
_AGAIN = 2.0
_CHANGES_ITS_MIND = 1.0

# What was verified once need not be again: the same bytes, the same answer.
verify = lru_cache(maxsize=65_536)(signing.verify)


class Agent:
    """One agent's process."""

    def __init__(self, name: str, mind: str) -> None:
        self.name = name
        self.mind = mind
        self.gone = False  # it neither beats nor votes
        self.silent = False  # it beats, and does not vote
        self.voted: set[str] = set()  # slots
        self.last: Vote | None = None  # what it signed last

    @property
    def votes(self) -> bool:
        return not (self.gone or self.silent)


class Chamber:
    """All agents, and what they and others signed."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self._weather = weather
        self._decisions: dict[str, Decision] = {}
        self._beats = 0
        self.agents: dict[str, Agent] = {}
        self.signed: dict[str, set[bytes]] = {}  # by digest: the keys whose owners signed that they approve
        self.proposals: dict[str, Proposal] = {}  # by digest
        self.certified: list[Object] = []  # routings with their certificates, as the operator wrote them

    @property
    def sits(self) -> bool:
        return bool(self.agents)

    def sit(self, minds: Mapping[str, str]) -> None:
        """Come into office."""
        self.agents = {name: Agent(name, minds.get(name, HONEST)) for name in AGENTS.names}
        server, chain = self._world.server, (Certified(AGENTS.membership),)
        server.listeners.append(self._changed)
        server.put(kinds.PANEL, PANEL, {"spec": membership_json(AGENTS.membership)}, "user")
        server.put(kinds.PANEL, PANEL, {"status": {"memberships": render_memberships(chain)}}, "agent")
        self._beat()

    def quorum_of(self, proposal: Proposal) -> bool:
        """Return whether six different members signed that they approve exactly this."""
        members = {one.key for one in AGENTS.membership.members}
        return len(self.signed.get(proposal.digest, set()) & members) >= 6

    def sign(self, name: str, proposal: Proposal, choice: Choice = Choice.APPROVE) -> Vote:
        self.proposals[proposal.digest] = proposal
        vote = AGENTS.vote(name, proposal, choice)
        if choice is Choice.APPROVE:
            self.signed.setdefault(proposal.digest, set()).add(vote.key)
        return vote

    def change(self, names: str, **fields: bool) -> None:
        """Have agents, by the digits of their names, be otherwise from now on."""
        for digit in names:
            agent = self.agents[f"agent-{digit}"]
            for field, value in fields.items():
                setattr(agent, field, value)
            if agent.votes:
                self._later(agent, self._look)

    def _beat(self) -> None:
        self._beats += 1
        for agent in self.agents.values():
            if not (agent.gone or self._weather.down):
                lease = {"spec": {"renewTime": str(self._beats)}}
                self._world.server.put(kinds.LEASE, AGENT_PREFIX + agent.name, lease, "agent")
        asyncio.get_running_loop().call_later(_BEAT, self._beat, context=WORLD)

    def _changed(self, change: Change) -> None:
        if change.kind == kinds.DECISION and change.before is None and change.after is not None:
            decision = parse_decision(change.after)
            self._decisions[decision.meta.name] = decision
            self.proposals[decision.proposal.digest] = decision.proposal
            for agent in self.agents.values():
                self._later(agent, self._look)
        elif change.kind == kinds.INDEX and change.after is not None and change.by != FORGER:
            routing = (change.after.get("status") or {}).get("routing") or {}
            known = self.certified[-1]["epoch"] if self.certified else 0
            if routing.get("certificate") and routing["epoch"] > known:
                self.certified.append(routing)

    def _later(self, agent: Agent, do: Callable[[Agent], None]) -> None:
        seconds = self._world.chances.of("agent", agent.name).choice(_JUDGES)
        asyncio.get_running_loop().call_later(seconds, do, agent, context=WORLD)

    def _look(self, agent: Agent) -> None:
        """Vote on whatever is open."""
        if not agent.votes:
            return  # whoever comes back looks
        if self._weather.down:
            asyncio.get_running_loop().call_later(_AGAIN, self._look, agent, context=WORLD)
            return
        now = self._world.clock()
        for decision in self._decisions.values():
            slot = decision.proposal.slot
            if slot not in agent.voted and now <= decision.proposal.expires:
                agent.voted.add(slot)
                _MINDS[agent.mind](self, agent, decision)

    def _honest(self, agent: Agent, decision: Decision) -> None:
        why = self._against(decision.proposal)
        self._vote(agent, decision, Choice.REJECT if why else Choice.APPROVE, why)

    def _against(self, proposal: Proposal) -> str:
        """Return what an honest agent has against a proposal."""
        index, routing = self._world.index(), self._world.routing()
        if index is None or index["metadata"]["uid"] != proposal.subject.uid:
            return "IndexOther: it is about another index"
        if proposal.kind not in OF_ROUTING:
            return ""
        before = proposal.before
        has = (routing.get("epoch", 0), routing.get("weight", 0), routing.get("serving"), routing.get("candidate"))
        sides = _same(before.serving, has[2]) and _same(before.candidate, has[3])
        if has[:2] != (before.epoch, before.weight) or not sides:
            return f"IndexChanged: it is at epoch {has[0]} with {has[1]} %"
        apart = self._apart(proposal)
        if apart:
            return apart
        gains = proposal.after.candidate if proposal.after.weight else proposal.after.serving
        health = self._world.gateways.health(gains.pool) if gains is not None else None
        if health is None or health.errors >= 0.5 or health.memory > 0.9:
            return "ModelFails: it does not answer"
        return ""

    def _apart(self, proposal: Proposal) -> str:
        """Return where gateways, or the migration, are not what the index says: its status may be anybody's word."""
        now, before = self._world.now(), proposal.before
        for name, gateway in self._world.gateways.live.items():
            if not gateway.pod.ready:
                continue
            held = gateway.routing(now)
            if gateway.silent or (held.epoch, held.weight) != (before.epoch, before.weight):
                return f"GatewaysBehind: gateway {name} serves epoch {held.epoch} at {held.weight} %"
        migration = self._world.server.get(kinds.MIGRATION, proposal.subject.migration)
        status = (migration or {}).get("status") or {}
        alone = proposal.kind is Kind.COMPLETE
        sides = (status.get("candidate"), None) if alone else (status.get("serving"), status.get("candidate"))
        if _same(proposal.after.serving, sides[0]) and _same(proposal.after.candidate, sides[1]):
            return ""
        return "SidesOther: its sides are not those of the migration"

    def _approves(self, agent: Agent, decision: Decision) -> None:
        self._vote(agent, decision, Choice.APPROVE)

    def _rejects(self, agent: Agent, decision: Decision) -> None:
        self._vote(agent, decision, Choice.REJECT, "Lie: it is said to be bad")

    def _equivocates(self, agent: Agent, decision: Decision) -> None:
        """Sign both, and show now one and now the other for as long as anybody looks."""
        loop = asyncio.get_running_loop()
        for number, choice in enumerate((Choice.APPROVE, Choice.REJECT, Choice.APPROVE, Choice.REJECT)):
            seconds = _CHANGES_ITS_MIND * number
            loop.call_later(seconds, self._vote, agent, decision, choice, "Lie: or so", context=WORLD)

    def _replays(self, agent: Agent, decision: Decision) -> None:
        """Put what was signed for something else under this."""
        old, agent.last = agent.last, AGENTS.vote(agent.name, decision.proposal)
        if old is not None:
            self._cast(agent, decision, Choice.APPROVE, old)

    def _vote(self, agent: Agent, decision: Decision, choice: Choice, why: str = "Asked: it was measured") -> None:
        agent.last = self.sign(agent.name, decision.proposal, choice)
        self._cast(agent, decision, choice, agent.last, why or "Measured: it is well")

    def _cast(self, agent: Agent, decision: Decision, choice: Choice, vote: Vote, why: str = "Asked: to") -> None:
        proposal = decision.proposal
        ballot = Ballot(agent.name, proposal.slot, proposal.digest, choice, vote, (why,))
        found = render_ballot(ballot, NAMESPACE, decision.meta)
        fields = {"spec": found["spec"], "metadata": {"labels": found["metadata"]["labels"]}}
        self._world.server.put(kinds.BALLOT, ballot_name(proposal.slot, agent.name), fields, "agent")


_MINDS: Mapping[str, Callable[[Chamber, Agent, Decision], None]] = {
    HONEST: Chamber._honest,
    "approves": Chamber._approves,
    "rejects": Chamber._rejects,
    "equivocates": Chamber._equivocates,
    "replays": Chamber._replays,
}
# Whoever has got hold of the operator's account.
FORGER = "forger"


def is_quiet(change: Change) -> bool:
    """Return whether a write is one of the panel's own, of which there are many and nothing follows by itself."""
    beats = change.kind == kinds.LEASE and change.name.startswith(AGENT_PREFIX)
    return beats or change.kind == kinds.BALLOT


def _same(side: Side | None, arm: Object | None) -> bool:
    if side is None or arm is None:
        return side is None and arm is None
    return (side.pool, side.collection, side.fingerprint) == (arm["pool"], arm["collection"], arm["fingerprint"])
