"""The byzantine-coordinator's duty: the panel's own membership and status, and the pods of dead agents.

Every agent runs it, and does what is left undone: the one whose duty it is at once, each next in line after another
`TURN`, since an agent that beats may still do nothing. All of it is compare-and-set or safe to do twice. Nothing here
has power over a vote: what a liar writes into the Panel's status counts for nobody, and is written anew.

A status is written only where it says something else than before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from reembed import signing
from reembed.api.fields import InvalidField
from reembed.api.panel import Panel, parse_ballot, render_decision, render_memberships
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict, Object
from reembed.core import names
from reembed.core.quorum import watch
from reembed.core.quorum.certificates import Certified, Vote
from reembed.core.quorum.counting import Cast, count, elsewhere
from reembed.core.quorum.membership import MANY_MEMBERSHIPS, MOST_MEMBERSHIPS, Membership, Role
from reembed.core.quorum.proposals import Proposal
from reembed.panel.changing import obstacle
from reembed.panel.keys import MANAGER
from reembed.panel.seat import Seat
from reembed.panel.settings import account

DUTY = Role.BYZANTINE_COORDINATOR
LABEL_AGENT = f"{names.GROUP}/agent"

_LOGGER = logging.getLogger("reembed.panel")


class Turns:
    """Since when each piece of work has been seen undone, and whether this agent's turn to do it has come."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def come(self, work: str, place: int | None, now: float) -> bool:
        since = self._since.setdefault(work, now)
        return place is not None and now - since >= place * watch.TURN

    def done(self, work: str) -> None:
        """Forget it: if it comes back it is new."""
        self._since.pop(work, None)


class Coordinator:
    """The chores of one agent. `clock` gives wall time, for what people read."""

    def __init__(self, seat: Seat) -> None:
        self._cluster = seat.cluster
        self._settings = seat.settings
        self._office = seat.office
        self._heartbeats = seat.duties
        self._metrics = seat.metrics
        self._clock = seat.clock
        self._turns = Turns()
        self._due: dict[str, dict[str, float]] = {}  # by dead agent: from when on each of its pods may be deleted

    async def run(self) -> None:
        """Do what is due until cancelled."""
        while True:
            await self.round()
            await asyncio.sleep(watch.LOOK)

    async def round(self) -> None:
        """Do once what is due; what fails is due again."""
        for chore in (self._genesis, self._change, self._report, self._restart):
            try:
                await chore()
            except Conflict:
                continue  # somebody was faster: the next round sees what is left
            except (ClusterError, TimeoutError, InvalidField) as error:
                _LOGGER.warning("%s failed: %s; tried again", chore.__name__.lstrip("_"), error)

    async def _genesis(self) -> None:
        """Put the first members into office, if nobody ever was and this agent is one of them."""
        office, kept = self._office, self._heartbeats.kept()
        wished = office.wished
        empty = office.panel is not None and not office.chain and self._is_free(office.panel)
        ours = wished is not None and kept is not None and kept.signing(wished, self._settings.agent) is not None
        known = {"", *((wished.digest,) if wished is not None else ())}
        again = kept is not None and {kept.anchor, office.first} <= known
        if not (empty and ours and again and wished is not None):
            self._turns.done("genesis")
            return
        await self._in_turn("genesis", lambda: self._write({"memberships": render_memberships((Certified(wished),))}))

    def _is_free(self, panel: Panel) -> bool:
        """Return whether nobody is in office by the status, or only whom nobody named: one that lies wrote that."""
        if not _memberships(self._office.raw):
            return True
        first = self._office.first
        return bool(first) and not (panel.chain and panel.chain[0].membership.digest == first)

    async def _change(self) -> None:
        """Propose the members that the user wishes for, and put them into office once a quorum agreed.

        A slot in which somebody voted for other members may be split for ever, so the next one is used too. What else
        is proposed in it means nothing: anybody may, and nobody honest votes for it.
        """
        active, proposals = self._office.active, self._office.proposals()
        if active is None or not proposals:
            self._turns.done("propose")
            return
        for proposal in proposals:
            found = await self._cluster.get(kinds.DECISION, self._settings.namespace, proposal.name)
            ballots = await self._ballots(proposal)
            others = elsewhere(proposal, ballots, active, signing.verify)
            if found is None and others <= len(active.members) - active.quorum:
                await self._in_turn("propose", partial(self._propose, proposal))
                return
            if found is None:
                continue
            counted = count(proposal, ballots, self._office.chain, self._clock(), signing.verify)
            if counted.certificate is not None:
                append = partial(self._append, proposal, counted.certificate.votes)
                await self._in_turn(f"append {proposal.epoch}", append)
                return
            if not others and not counted.refused:
                return

    async def _append(self, proposal: Proposal, votes: tuple[Vote, ...]) -> None:
        active = self._office.wish(proposal.epoch)
        if active is None:
            return
        chain = (*self._office.chain, Certified(active, proposal, votes))
        await self._write({"memberships": render_memberships(chain)})
        _LOGGER.info("membership %d has its votes and is in office: %s", active.version, _names(active))

    async def _propose(self, proposal: Proposal) -> None:
        body = render_decision(proposal, self._settings.namespace, self._settings.agent)
        await self._cluster.create(kinds.DECISION, self._settings.namespace, body, manager=MANAGER)
        _LOGGER.info("a change of members is put to the vote: %s", proposal.name)

    async def _ballots(self, proposal: Proposal) -> list[Cast]:
        selector = f"{names.LABEL_SLOT}={proposal.slot}"
        return casts(await self._cluster.list(kinds.BALLOT, self._settings.namespace, selector=selector))

    async def _report(self) -> None:
        """Have the Panel's status say who is in office, who is reachable, and whether that is enough."""
        office = self._office
        if office.raw is None or office.active is None or not watch.settled(self._heartbeats.watch):
            return
        told = office.raw.get("status") or {}
        wanted = self._status(office.active, told)
        # As certified memberships are appended by whoever has the duty, only one that says less is written anew.
        if office.panel is not None and office.panel.chain != office.chain:
            wanted["memberships"] = render_memberships(office.chain)
        different = {name: value for name, value in wanted.items() if told.get(name) != value}
        if not different:
            self._turns.done("report")
            return
        await self._in_turn("report", lambda: self._write(different))

    def _status(self, active: Membership, told: Object) -> dict[str, Any]:
        alive = set(self._heartbeats.live)
        away = sorted(member.name for member in active.members if member.name not in alive)
        return {
            "members": len(active.members),
            "reachable": len(active.members) - len(away),
            "quorum": active.quorum,
            "unreachable": away,
            "digest": self._office.anchor,
            "conditions": _conditions(active, away, self._notes(), told, self._clock()),
        }

    def _notes(self) -> tuple[str | None, str]:
        """Return why a change of members waits, and what people should know in time."""
        count = len(self._office.chain)
        many = f"; {count} of {MOST_MEMBERSHIPS} memberships are used up, after which another Panel has to follow"
        return obstacle(self._office, self._heartbeats), many if count >= MANY_MEMBERSHIPS else ""

    async def _restart(self) -> None:
        """Delete the pod of each dead agent, so that its Deployment makes another one."""
        members = self._office.members
        known = {member.name for member in members.members} if members is not None else set()
        gone = known & set(watch.dead(self._heartbeats.watch)) - {self._settings.agent}
        self._due = {name: due for name, due in self._due.items() if name in gone}
        for name in sorted(gone):
            try:
                await self._look_after(name)
            except ClusterError as error:
                # A policy gives each pod its first minute. What is refused for one agent is no other's matter.
                _LOGGER.warning("the pod of dead agent %s was not deleted: %s; tried again", name, error)

    async def _look_after(self, name: str) -> None:
        """Delete a dead agent's pod once that is due; everybody looks, so as to know who else did it already."""
        here, now = self._settings.namespace, asyncio.get_running_loop().time()
        pods = await self._cluster.list(kinds.POD, here, selector=f"{LABEL_AGENT}={name}")
        self._due[name] = watch.due(self._due.get(name), (pod["metadata"]["uid"] for pod in pods), now)
        place = self._heartbeats.place(DUTY)
        if place is None:
            return
        for pod in pods:
            if stuck(pod) and now >= self._due[name][pod["metadata"]["uid"]] + place * watch.TURN:
                await self._delete(name, pod)

    async def _delete(self, name: str, pod: Object) -> None:
        here = self._settings.namespace
        deployment = await self._cluster.get(kinds.DEPLOYMENT, here, account(name))
        if deployment is not None and rolls(deployment):
            _LOGGER.info("agent %s is dead, and its Deployment rolls out: its pod is left to that", name)
            return
        await self._cluster.delete(kinds.POD, here, pod["metadata"]["name"], uid=pod["metadata"]["uid"])
        self._metrics.restarts.labels(name).inc()
        _LOGGER.warning("pod %s of dead agent %s is deleted, to be made anew", pod["metadata"]["name"], name)

    async def _in_turn(self, work: str, do: Callable[[], Awaitable[None]]) -> None:
        if self._turns.come(work, self._heartbeats.place(DUTY), asyncio.get_running_loop().time()):
            await do()
            self._turns.done(work)

    async def _write(self, status: dict[str, Any]) -> None:
        """Change the Panel's status, unless it has changed since it was seen."""
        raw = self._office.raw
        if raw is None:
            return
        change = {"metadata": {"resourceVersion": raw["metadata"]["resourceVersion"]}, "status": status}
        here, name = self._settings.namespace, self._settings.panel
        written = await self._cluster.patch(kinds.PANEL, here, name, change, manager=MANAGER, subresource="status")
        self._office.see(written)


def casts(ballots: Sequence[Object]) -> list[Cast]:
    """Return the Ballots that are any; whose they are is for `counting` to say."""
    found = []
    for raw in ballots:
        try:
            ballot = parse_ballot(raw)
        except InvalidField:
            continue
        found.append(Cast(ballot.digest, ballot.choice, ballot.vote, ballot.reasons))
    return found


def rolls(deployment: Object) -> bool:
    """Return whether a Deployment is replacing its pods."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return True
    return int(status.get("updatedReplicas", 0)) < int(spec.get("replicas", 1))


def stuck(pod: Object) -> bool:
    """Return whether a dead agent's pod is worth deleting: one that is on its way in or out is left alone."""
    return pod["metadata"].get("deletionTimestamp") is None and (pod.get("status") or {}).get("phase") != "Pending"


def _memberships(raw: Object | None) -> list[Any]:
    return ((raw or {}).get("status") or {}).get("memberships") or []


def _names(membership: Membership) -> str:
    return ", ".join(sorted(member.name for member in membership.members))


def _conditions(
    active: Membership, away: list[str], notes: tuple[str | None, str], told: Object, now: datetime
) -> list[dict[str, Any]]:
    """Return Ready and Degraded; a time is that of the last change, so that what stays says the same."""
    here, needed = len(active.members) - len(away), active.quorum
    missing = f"without a heartbeat: {', '.join(away)}" if away else "all agents are reachable"
    ready = here >= needed
    enough = f"{here} of {len(active.members)} agents are reachable, {needed} votes decide"
    stops = f"{enough}; nothing is decided until enough of them are back; {missing}"
    wanted = (
        ("Ready", ready, "QuorumReachable" if ready else "QuorumMissing", enough if ready else stops),
        ("Degraded", *_degraded(away, notes[0], f"{missing}{notes[1]}")),
    )
    before = {one.get("type"): one for one in told.get("conditions") or []}
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    found = []
    for kind, holds, reason, message in wanted:
        status, old = str(holds), before.get(kind) or {}
        since = old.get("lastTransitionTime", stamp) if old.get("status") == status else stamp
        found.append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
        )
    return found


def _degraded(away: list[str], waits: str | None, missing: str) -> tuple[bool, str, str]:
    if away:
        return True, "AgentsUnreachable", missing
    if waits is not None:
        return True, "MembersWait", f"spec.members asks for others, who do not come into office: {waits}"
    return False, "AllReachable", missing
