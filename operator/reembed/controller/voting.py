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
from reembed.core import names
from reembed.core.migration import Migration
from reembed.core.model import PanelRef, PanelReport
from reembed.core.quorum.certificates import Certificate, broken_chain
from reembed.core.quorum.counting import Cast, Count, Standing, count
from reembed.core.quorum.membership import Membership
from reembed.core.quorum.proposals import OF_ROUTING, Proposal, sequence
from reembed.core.quorum.watch import DEAD

OPERATOR = "operator"
_AGAIN = 2.0
_MANAGER = "reembed-operator"

_LOGGER = logging.getLogger("reembed.controller")

Monotonic = Callable[[], float]


class Voting:
    """The panel's objects of one namespace; `changed` hears of the slot of each ballot and Decision."""

    def __init__(self, cluster: Cluster, namespace: str, changed: Callable[[str], None], clock: Monotonic) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._changed = changed
        self._clock = clock
        self._panels: dict[str, Panel] = {}
        self._decisions: dict[str, Decision] = {}
        self._ballots: dict[str, dict[str, Ballot]] = {}  # by slot and agent
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
        ours = bool(panel.chain) and panel.chain[0].membership.digest == ref.digest
        chain = panel.chain if ours else ()
        members = panel.active or panel.wished
        asked = migration.status.asked
        counted = self._count(asked.proposal, panel, now) if asked is not None and chain else None
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
            agreed=tuple(self._agreed(migration, panel, uid, now)) if chain else (),
        )

    def _count(self, proposal: Proposal, panel: Panel, now: datetime) -> Count:
        cast = [Cast(one.digest, one.choice, one.vote, one.reasons) for one in self._cast(proposal.slot)]
        return count(proposal, cast, panel.chain, now, signing.verify)

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

    def _agreed(self, migration: Migration, panel: Panel, uid: str, now: datetime) -> Iterator[Certificate]:
        """Yield certificates of what agents proposed for a migration, for as long as they hold."""
        for one in self._about(uid):
            proposal = one.proposal
            mine = proposal.subject.migration_uid == migration.meta.uid and one.proposer != OPERATOR
            if mine and now <= proposal.expires:
                found = self._count(proposal, panel, now).certificate
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
            return
        told, known = parse_panel(found), self._panels.get(name)
        if known is not None and not _goes_on(told, known):
            # Any one agent may write there: what leads nowhere must not keep the others' votes from being counted.
            told = replace(told, chain=known.chain)
        self._panels[name] = told

    def _decision(self, event: str, found: Object) -> None:
        name = found["metadata"]["name"]
        if event == "DELETED":
            self._decisions.pop(name, None)
            self._proposed.discard(name)
            return
        self._decisions[name] = parse_decision(found)
        self._changed(self._decisions[name].proposal.slot)

    def _ballot(self, event: str, found: Object) -> None:
        ballot = parse_ballot(found)
        cast = self._ballots.setdefault(ballot.slot, {})
        if event == "DELETED":
            cast.pop(ballot.agent, None)
            if not cast:
                del self._ballots[ballot.slot]
        elif cast.get(ballot.agent) != ballot:
            cast[ballot.agent] = ballot
            self._changed(ballot.slot)

    def _lease(self, event: str, found: Object) -> None:
        meta = found["metadata"]
        agent = meta["name"].removeprefix(names.AGENT_PREFIX)
        version = meta.get("resourceVersion", "")
        if event == "DELETED" or not meta["name"].startswith(names.AGENT_PREFIX):
            self._beats.pop(agent, None)
        elif self._beats.get(agent, ("", 0.0))[0] != version:
            self._beats[agent] = (version, self._clock())


def _goes_on(told: Panel, known: Panel) -> bool:
    """Return whether the memberships of a Panel are at least those that were known, each certified."""
    if not known.chain:
        return True
    if len(told.chain) < len(known.chain):
        return False
    return broken_chain(told.chain, known.chain[0].membership.digest, signing.verify) is None
