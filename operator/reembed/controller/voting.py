"""What the operator knows of the panel: who is in office, whose heartbeat is recent, and every ballot.

All of it is in one namespace, in which the operator may create Decisions and read, and no more. It watches there by
itself, beside the watches of the objects that it serves: a ballot wakes the migration whose proposal it is about, and
nothing else. Whatever it reads here it only counts; those who execute look at every signature again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from reembed import signing
from reembed.api import InvalidField
from reembed.api.panel import Ballot, Decision, Panel, parse_ballot, parse_decision, parse_panel, render_decision
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Conflict, Object
from reembed.cluster.kinds import Kind
from reembed.controller.shell import Clock, wall_clock
from reembed.core import names
from reembed.core.migration import Migration
from reembed.core.model import PanelRef, PanelReport
from reembed.core.quorum.allowance import Allowance
from reembed.core.quorum.certificates import Certificate, Certified, broken_chain
from reembed.core.quorum.counting import Cast, Count, Standing, count
from reembed.core.quorum.membership import Membership
from reembed.core.quorum.proposals import OF_ROUTING, Proposal, sequence
from reembed.core.quorum.proposals import Kind as Asked
from reembed.core.quorum.watch import DEAD

OPERATOR = "operator"
_AGAIN = 2.0
# Of other first members than an index's own, a liar may write any number.
_MOST_CHAINS = 64
# Ballots of one agent that are kept; an honest one's of an hour are far fewer.
_MOST_BALLOTS = 10_000
_MANAGER = "reembed-operator"

_LOGGER = logging.getLogger("reembed.controller")

Monotonic = Callable[[], float]


class Voting:
    """The panel's objects of one namespace; `changed` hears of the slot of each ballot and Decision."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        changed: Callable[[str], None],
        clock: Monotonic,
        today: Clock = wall_clock,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._changed = changed
        self._clock = clock
        self._today = today
        self._panels: dict[str, Panel] = {}
        self._chains: dict[tuple[str, str], tuple[Certified, ...]] = {}  # by Panel and digest of its first members
        self._decisions: dict[str, Decision] = {}
        self._allowance = Allowance()
        self._ballots: dict[str, dict[str, Ballot]] = {}  # by slot and agent
        self._voted: dict[str, dict[str, None]] = {}  # by agent: slots, the oldest first
        self._beats: dict[str, tuple[str, float]] = {}  # by agent: the Lease's version, and when it was seen to change
        self._proposed: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled; without a namespace there is nothing to watch."""
        if not self._namespace:
            return
        async with asyncio.TaskGroup() as tasks:
            for kind, take in (
                (kinds.PANEL, self._panel),
                (kinds.DECISION, self._decision),
                (kinds.BALLOT, self._ballot),
                (kinds.LEASE, self._lease),
            ):
                tasks.create_task(self._watch(kind, take), name=f"watch of {kind.plural}")

    async def propose(self, panel: PanelRef, proposal: Proposal) -> None:
        """Put a proposal to the panel once; that it is there already is as good."""
        if proposal.name in self._proposed or proposal.name in self._decisions:
            return
        manifest = render_decision(proposal, panel.namespace, OPERATOR)
        try:
            await self._cluster.create(kinds.DECISION, panel.namespace, manifest, manager=_MANAGER)
        except Conflict:
            _LOGGER.debug("decision %s is there already", proposal.name)
        self._proposed.add(proposal.name)

    def report(self, migration: Migration, ref: PanelRef, uid: str, now: datetime) -> PanelReport | None:
        """Return what is known of the panel that an index (of this UID) names, None if there is none."""
        panel = self._panels.get(ref.name) if ref.namespace == self._namespace else None
        if panel is None:
            return None
        chain = self._chains.get((ref.name, ref.digest), ())
        members = chain[-1].membership if chain else panel.wished
        asked = migration.status.asked
        counted = self._count(asked.proposal, chain, now) if asked is not None and chain else None
        waits = asked is not None and asked.proposal.kind in OF_ROUTING and not asked.certified
        return PanelReport(
            members=len(members.members),
            faulty=members.faulty,
            gone=len(self._gone(members)),
            vote_due=waits,
            quorum=not waits or counted is None or counted.standing is not Standing.EXPIRED,
            chain=chain,
            count=counted,
            newest=self._newest(uid),
            agreed=tuple(self._agreed(migration, chain, uid, now)) if chain else (),
        )

    def _count(self, proposal: Proposal, chain: tuple[Certified, ...], now: datetime) -> Count:
        cast = [Cast(one.digest, one.choice, one.vote, one.reasons) for one in self._cast(proposal.slot)]
        return count(proposal, cast, chain, now, signing.verify)

    def _cast(self, slot: str) -> Iterator[Ballot]:
        yield from self._ballots.get(slot, {}).values()

    def _about(self, uid: str) -> Iterator[Decision]:
        yield from (one for one in self._decisions.values() if one.proposal.subject.uid == uid)

    def _newest(self, uid: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in self._about(uid):
            name = sequence(one.proposal.kind)
            found[name] = max(found.get(name, 0), one.proposal.epoch)
        return found

    def _agreed(
        self, migration: Migration, chain: tuple[Certified, ...], uid: str, now: datetime
    ) -> Iterator[Certificate]:
        """Yield certificates of what agents proposed for a migration, for as long as they hold."""
        for one in self._about(uid):
            proposal = one.proposal
            mine = proposal.subject.migration_uid == migration.meta.uid and one.proposer != OPERATOR
            if mine and now <= proposal.expires:
                found = self._count(proposal, chain, now).certificate
                if found is not None:
                    yield found

    def _gone(self, members: Membership) -> list[str]:
        now = self._clock()
        return [
            one.name for one in members.members if (beat := self._beats.get(one.name)) is None or now - beat[1] >= DEAD
        ]

    async def _watch(self, kind: Kind, take: Callable[[str, Object], None]) -> None:
        while True:
            try:
                async for event, found in self._cluster.watch(kind, self._namespace):
                    try:
                        take(event, found)
                    except InvalidField as error:
                        _LOGGER.warning("%s %s: %s", kind.name, found["metadata"]["name"], error)
            except (ClusterError, OSError, TimeoutError, ValueError) as error:
                text = "the watch of %s in %s ended: %s"
                _LOGGER.info(text, kind.plural, self._namespace, error or type(error).__name__)
            await asyncio.sleep(_AGAIN)

    def _panel(self, event: str, found: Object) -> None:
        name = found["metadata"]["name"]
        if event == "DELETED":
            self._panels.pop(name, None)
            self._chains = {key: chain for key, chain in self._chains.items() if key[0] != name}
            return
        self._panels[name] = parse_panel(found)
        self._believe(name, self._panels[name].chain)

    def _believe(self, name: str, told: tuple[Certified, ...]) -> None:
        """Keep the newest members that follow from each first ones; an index says which of these are its own.

        Any one agent may write there, from the operator's first look on: what leads nowhere, or begins elsewhere, must
        not keep the others' votes from being counted.
        """
        if not told:
            return
        key = name, told[0].membership.digest
        known = self._chains.get(key)
        if known is not None and told[-1].membership.version <= known[-1].membership.version:
            return
        if broken_chain(told, key[1], signing.verify) is None:
            self._chains[key] = told
        while len(self._chains) > _MOST_CHAINS:
            del self._chains[next(iter(self._chains))]

    def _decision(self, event: str, found: Object) -> None:
        name = found["metadata"]["name"]
        if event == "DELETED":
            self._decisions.pop(name, None)
            self._proposed.discard(name)
            return
        decision = parse_decision(found)
        if not self._counts(decision):
            return
        self._decisions[name] = decision
        self._changed(decision.proposal.slot)

    def _counts(self, decision: Decision) -> bool:
        """Return whether the operator has to do with a Decision; an agent that lies may make any number of them."""
        proposal, now = decision.proposal, self._today()
        if decision.proposer == OPERATOR:
            return True
        if proposal.kind is Asked.MEMBERSHIP or proposal.expires < now:
            return False
        return self._allowance.admits(decision.proposer, decision.meta.name, proposal.expires, now)

    def _ballot(self, event: str, found: Object) -> None:
        # What an agent measured may be half a megabyte, and nobody here asks for it.
        ballot = replace(parse_ballot(found), evidence=None)
        if event == "DELETED":
            self._forget(ballot.slot, ballot.agent)
        elif self._ballots.get(ballot.slot, {}).get(ballot.agent) != ballot:
            self._ballots.setdefault(ballot.slot, {})[ballot.agent] = ballot
            slots = self._voted.setdefault(ballot.agent, {})
            slots[ballot.slot] = None
            if len(slots) > _MOST_BALLOTS:
                self._forget(next(iter(slots)), ballot.agent)
            self._changed(ballot.slot)

    def _forget(self, slot: str, agent: str) -> None:
        self._voted.get(agent, {}).pop(slot, None)
        cast = self._ballots.get(slot, {})
        cast.pop(agent, None)
        if not cast:
            self._ballots.pop(slot, None)

    def _lease(self, event: str, found: Object) -> None:
        meta = found["metadata"]
        agent = meta["name"].removeprefix(names.AGENT_PREFIX)
        version = meta.get("resourceVersion", "")
        if event == "DELETED" or not meta["name"].startswith(names.AGENT_PREFIX):
            self._beats.pop(agent, None)
        elif self._beats.get(agent, ("", 0.0))[0] != version:
            self._beats[agent] = (version, self._clock())
