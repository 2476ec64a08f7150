"""The panel's whole protocol as a small world of the pure core: an API server, operators, agents, gateways, a clock.

What is trusted is the API server: ballots are created once, under the name of who creates them, and a status is written
by compare-and-set. All else may lie: `liars` sign whatever they are asked for, and `usurp` writes into the index's
status what it likes, with any certificate that can be put together. `check` holds after every step, whoever lies:

* a gateway accepts no raise that fewer honest agents approved than a quorum has beside all liars;
* no two gateways accept different raises of one epoch;
* no gateway's epoch goes back, and none raises by a vote that was older than a lowering it knew of;
* nothing is served to the candidate beyond what was accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache

from reembed.core.model import Arm, Routing
from reembed.core.quorum.certificates import LONGEST_OPEN, Certificate, Certified, Choice, Vote, ballot_message
from reembed.core.quorum.counting import Cast, Standing, count, too_late
from reembed.core.quorum.membership import Member, Membership, Role
from reembed.core.quorum.proposals import OF_ROUTING, Kind, Proposal, Split, Subject, ballot_name
from reembed.core.quorum.raising import Trust, only_lowered, raises, split, uncertified
from tests import panels

INDEX = "uid-index"
UIDS = {"old": "uid-old", "new": "uid-new"}
OLD = Arm(panels.OLD.pool, panels.OLD.collection, panels.OLD.fingerprint)
NEW = Arm(panels.NEW.pool, panels.NEW.collection, panels.NEW.fingerprint)
STEPS = (0, 10, 50, 100)
OPEN_FOR = timedelta(minutes=5)


@cache
def public_key(name: str, generation: int) -> bytes:
    return hashlib.sha256(f"{name}/{generation}".encode()).digest()


# Who signed what. As good as Ed25519 for rules that only ask, and cheap.
_SIGNED: dict[tuple[bytes, bytes], bytes] = {}


def sign(key: bytes, message: bytes) -> bytes:
    signature = hashlib.sha512(key + message).digest()
    _SIGNED[key, message] = signature
    return signature


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return _SIGNED.get((key, message)) == signature


@cache
def vote_of(key: bytes, proposal: Proposal, choice: Choice) -> Vote:
    evidence = hashlib.sha256(key).hexdigest()
    return Vote(key, evidence, sign(key, ballot_message(proposal.digest, proposal.slot, choice, evidence)))


def members(generations: dict[str, int], version: int, faulty: int) -> Membership:
    people = (Member(name, Role.MEMORY_ANALYST, public_key(name, at)) for name, at in sorted(generations.items()))
    return Membership(version, faulty, tuple(people))


@dataclass
class Api:
    """What is trusted: one order of all writes."""

    index: Routing
    chain: tuple[Certified, ...]
    wish: Membership
    decisions: dict[str, tuple[Proposal, str]] = field(default_factory=dict)
    ballots: dict[str, Cast] = field(default_factory=dict)
    history: list[Routing] = field(default_factory=list)  # earlier statuses, for stale copies and backups

    @property
    def office(self) -> Membership:
        return self.chain[-1].membership

    def propose(self, proposal: Proposal, proposer: str) -> None:
        self.decisions.setdefault(proposal.name, (proposal, proposer))

    def cast(self, agent: str, slot: str, ballot: Cast) -> bool:
        """Return whether it was the agent's first in the slot; the agent's account cannot use another name."""
        return self.ballots.setdefault(ballot_name(slot, agent), ballot) is ballot

    def write(self, told: Routing, seen: Routing) -> bool:
        """Write the index's status if it is still what the writer saw."""
        if self.index != seen:
            return False
        self.history.append(self.index)
        self.index = told
        return True

    def of_slot(self, slot: str) -> list[Cast]:
        return [ballot for name, ballot in self.ballots.items() if name.startswith(f"{slot}.")]


@dataclass
class Agent:
    """One honest agent: looks, judges, and casts what it judged, perhaps much later."""

    name: str
    generation: int = 0
    skew: timedelta = timedelta()
    alive: bool = True
    waiting: list[tuple[Proposal, Choice]] = field(default_factory=list)

    @property
    def key(self) -> bytes:
        return public_key(self.name, self.generation)

    def judge(self, world: World) -> None:
        """Judge every proposal in whose slot there is nothing of this agent's yet."""
        taken = {proposal.slot for proposal, _ in self.waiting}
        for proposal, proposer in world.api.decisions.values():
            if proposal.slot in taken or ballot_name(proposal.slot, self.name) in world.api.ballots:
                continue
            if world.api.office.holder(self.key) is None or not self._answered(proposal, proposer, world.now):
                continue
            self.waiting.append((proposal, Choice.APPROVE if self._sees_good(proposal, world) else Choice.REJECT))
            taken.add(proposal.slot)

    def _answered(self, proposal: Proposal, proposer: str, now: datetime) -> bool:
        """Return whether a proposal is one to vote on: else a liar could use up the slots of the operator's."""
        mine = now + self.skew
        in_time = mine <= proposal.expires <= mine + LONGEST_OPEN + timedelta(seconds=30)
        return in_time and (proposer == "operator" or proposal.kind not in OF_ROUTING)

    def _sees_good(self, proposal: Proposal, world: World) -> bool:
        if proposal.kind is Kind.MEMBERSHIP:
            return dict(proposal.change) == {"before": world.api.office.digest, "after": world.api.wish.digest}
        now = split(world.api.index, UIDS)
        step = proposal.after == replace(now, epoch=proposal.epoch, weight=proposal.after.weight)
        return world.good and proposal.before == now and proposal.epoch > now.epoch and step

    def cast(self, world: World) -> None:
        """Create the ballots of what was judged; the first of a slot is the only one, whatever came since."""
        for proposal, choice in self.waiting:
            vote = vote_of(self.key, proposal, choice)
            if world.api.cast(self.name, proposal.slot, Cast(proposal.digest, choice, vote)):
                world.note(self.name, proposal, choice)
        self.waiting.clear()

    def crash(self) -> None:
        self.alive = False
        self.waiting.clear()


@dataclass
class Gateway:
    """What one gateway accepted and serves, by the rules of `raising` alone."""

    accepted: Routing
    anchor: str
    version: int = 1
    skew: timedelta = timedelta()
    weight: int = 0
    lowered: int = 0  # the highest epoch by which it was told to give less

    def read(self, told: Routing, world: World) -> None:
        held = self.accepted
        trust = Trust(INDEX, self.anchor, self.version)
        refusal = uncertified(held, told, trust, world.now + self.skew, verify)
        if told.epoch < held.epoch:
            # A copy that lags: obeyed as long as it is the last word, and no more than that.
            self.weight = only_lowered(held, told).weight
            return
        self.accepted = told if refusal is None else only_lowered(held, told)
        self.weight = self.accepted.weight
        if refusal is None and raises(held, told):
            assert told.certificate is not None
            world.accepted(self, held, told)
            self.version = told.certificate.chain[-1].membership.version
        elif self.accepted.weight < held.weight:
            self.lowered = max(self.lowered, self.accepted.epoch)


@dataclass
class Operator:
    """The queen: proposes, counts, executes. What it knows beyond the API server is lost when it crashes."""

    certificate: Certificate | None = None

    def propose(self, world: World, weight: int) -> None:
        """Put the next step to the panel, unless a proposal from the present state is still open."""
        api = world.api
        of_operator = [one for one, proposer in api.decisions.values() if proposer == "operator"]
        epochs = [one.epoch for one in of_operator if one.kind in OF_ROUTING]
        if any(one.before == split(api.index, UIDS) and self._open(one, world) for one in of_operator):
            return
        world.api.propose(world.proposal(max([*epochs, api.index.epoch]) + 1, weight), "operator")

    def _open(self, proposal: Proposal, world: World) -> bool:
        found = count(proposal, world.api.of_slot(proposal.slot), world.api.chain, world.now, verify)
        return found.standing in (Standing.OPEN, Standing.CERTIFIED) and not too_late(proposal, world.now)

    def count(self, world: World) -> None:
        for proposal, _ in world.api.decisions.values():
            found = count(proposal, world.api.of_slot(proposal.slot), world.api.chain, world.now, verify).certificate
            if found is None or too_late(proposal, world.now):
                continue
            if proposal.kind is Kind.MEMBERSHIP:
                world.take_office(found)
            elif proposal.before == split(world.api.index, UIDS):
                self.certificate = found

    def execute(self, world: World) -> None:
        """Write the raise, if the state is still the one that was voted on."""
        seen, found = world.api.index, self.certificate
        if found is None or found.proposal.before != split(seen, UIDS):
            return
        told = replace(seen, epoch=found.proposal.epoch, weight=found.proposal.after.weight, certificate=found)
        world.api.write(told, seen)

    def lower(self, world: World) -> None:
        seen = world.api.index
        world.api.write(replace(seen, epoch=seen.epoch + 1, weight=0, certificate=None), seen)

    def crash(self) -> None:
        self.certificate = None


class World:
    """Everything, and what must hold of it."""

    def __init__(
        self, *, count: int = 8, faulty: int = 2, liars: int = 0, gateways: int = 2, operators: int = 1
    ) -> None:
        names = [f"agent-{at}" for at in range(count)]
        self.faulty = faulty
        self.now = panels.NOON
        self.good = True
        self.generations = dict.fromkeys(names, 0)
        self.liars = set(names[:liars])
        self.agents = {name: Agent(name) for name in names if name not in self.liars}
        genesis = members(self.generations, 1, faulty)
        start = Routing(4, OLD, NEW, 0)
        self.api = Api(start, (Certified(genesis),), genesis)
        self.gateways = [Gateway(start, genesis.digest) for _ in range(gateways)]
        self.operators = [Operator() for _ in range(operators)]
        self.approved: dict[str, set[str]] = {}  # digests to the honest who approved
        self.raised: dict[int, Split] = {}

    # What is kept of what happened, and what must hold.

    def note(self, name: str, proposal: Proposal, choice: Choice) -> None:
        if choice is Choice.APPROVE:
            self.approved.setdefault(proposal.digest, set()).add(name)

    def accepted(self, gateway: Gateway, held: Routing, told: Routing) -> None:
        """Judge a raise that a gateway has just accepted."""
        certificate = told.certificate
        assert certificate is not None
        honest = self.approved.get(certificate.digest, set())
        membership = certificate.chain[-1].membership
        assert len(honest) >= membership.quorum - self.faulty, f"{len(honest)} honest approved {told}"
        what = split(told, UIDS)
        assert certificate.proposal.after == what, "something else was certified"
        assert membership.version >= gateway.version, "its members were replaced"
        assert told.epoch > held.epoch, "an epoch was used twice"
        assert certificate.proposal.before.epoch >= gateway.lowered, "older than a lowering that the gateway knew of"
        assert self.raised.setdefault(told.epoch, what) == what, "two raises in one epoch"

    def check(self) -> None:
        for gateway in self.gateways:
            assert gateway.weight <= gateway.accepted.weight
            most = max((one.weight for one in self.raised.values()), default=0)
            assert gateway.weight <= most

    # What the world can do.

    def proposal(self, epoch: int, weight: int) -> Proposal:
        before = split(self.api.index, UIDS)
        after = replace(before, epoch=epoch, weight=weight)
        subject = Subject("shop", "articles", INDEX, "to-new", "uid-migration")
        return Proposal(Kind.TRAFFIC, subject, epoch, before, after, "0" * 64, self.now + OPEN_FOR)

    def wish(self, generations: dict[str, int]) -> None:
        """Let a user wish for other keys or members; agents get their keys at once."""
        self.generations = generations
        tried = [one.epoch for one, _ in self.api.decisions.values() if one.kind is Kind.MEMBERSHIP]
        self.api.wish = members(generations, max([self.api.office.version, *tried]) + 1, self.faulty)
        change = (("after", self.api.wish.digest), ("before", self.api.office.digest))
        subject = Subject("reembed-panel", "panel", "uid-panel")
        expires, nothing = self.now + OPEN_FOR, Split()
        version = self.api.wish.version
        proposal = Proposal(Kind.MEMBERSHIP, subject, version, nothing, nothing, "0" * 64, expires, change)
        self.api.propose(proposal, min(generations))

    def take_office(self, found: Certificate) -> None:
        """Write the newest membership; an agent has its new key from then on."""
        after = self.api.wish
        if dict(found.proposal.change) != {"before": self.api.office.digest, "after": after.digest}:
            return
        self.api.chain = (*self.api.chain, Certified(after, found.proposal, found.votes))
        for member in after.members:
            if member.name not in self.liars:
                agent = self.agents.setdefault(member.name, Agent(member.name))
                agent.generation = self.generations[member.name]

    def lie(self, name: str, proposal: Proposal, choice: Choice) -> None:
        """Cast a liar's ballot; whatever it says, it also signs the rest for whoever asks (`usurp`)."""
        vote = vote_of(public_key(name, self.generations.get(name, 0)), proposal, choice)
        self.api.cast(name, proposal.slot, Cast(proposal.digest, choice, vote))

    def any_certificate(self, proposal: Proposal) -> Certificate:
        """Return what a liar can put together: all ballots ever cast, and whatever liars sign, with every old key."""
        cast = [ballot.vote for ballot in self.api.ballots.values()]
        lies = [
            vote_of(public_key(name, at), proposal, Choice.APPROVE)
            for name in self.liars
            for at in range(self.generations.get(name, 0) + 1)
        ]
        return Certificate(proposal, (*cast, *lies, *cast, *lies), self.api.chain)

    def usurp(self, told: Routing) -> None:
        """Write whatever status an operator that lies, or somebody with a backup, would write."""
        self.api.history.append(self.api.index)
        self.api.index = told

    def round(self, *, weight: int | None = None) -> None:
        """Let everybody who is alive do what is due once, and time go on by a minute."""
        steps = [step for step in STEPS if step > self.api.index.weight]
        for operator in self.operators:
            if steps or weight is not None:
                operator.propose(self, steps[0] if weight is None else weight)
        for agent in [one for one in self.agents.values() if one.alive]:
            agent.judge(self)
            agent.cast(self)
        for operator in self.operators:
            operator.count(self)
            operator.execute(self)
        self.read(self.gateways)
        self.now += timedelta(minutes=1)

    def read(self, gateways: Iterable[Gateway], told: Routing | None = None) -> None:
        for gateway in gateways:
            gateway.read(self.api.index if told is None else told, self)
        self.check()

    @property
    def weights(self) -> list[int]:
        return [gateway.weight for gateway in self.gateways]
