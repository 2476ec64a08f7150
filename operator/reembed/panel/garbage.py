"""Deletes Decisions whose time is long over; their Ballots go with them. What was certified is noted first.

The coordinator's duty, and the others' where it is not done. The notes are in ConfigMap `reembed-panel-audit`, one line
of JSON for each certificate, the newest of them up to a number and a size. A Decision is deleted only after the notes
were written, and a change of members never while agents could vote on it, or have: its votes are part of the chain that
everybody checks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reembed import signing
from reembed.api.fields import InvalidField
from reembed.api.panel import parse_decision
from reembed.api.values import parse_time
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict, Object, Refused
from reembed.core import names
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import LONGEST_OPEN
from reembed.core.quorum.counting import Cast, count
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.panel.coordinator import DUTY, casts
from reembed.panel.keys import MANAGER
from reembed.panel.seat import Seat

AUDIT = "reembed-panel-audit"
_FILE = "certificates.jsonl"
# Long after nobody takes a certificate of it any more, and long enough for people to look at the Ballots.
KEEP = timedelta(hours=1)
# The ConfigMap must stay below a megabyte, with room for what another agent's clock makes of it.
MOST_LINES = 200
MOST_BYTES = 512 * 1024
_ROUND_SECONDS = 60.0
_AT_ONCE = 50
_TURN = timedelta(minutes=5)

_LOGGER = logging.getLogger("reembed.panel")


@dataclass(frozen=True, slots=True)
class _Old:
    """A Decision, until when it was open, and its proposal if it has one."""

    name: str
    uid: str
    until: datetime
    proposal: Proposal | None


class Garbage:
    """The rounds of one agent: it does what those before it in line left undone."""

    def __init__(self, seat: Seat) -> None:
        self._cluster = seat.cluster
        self._settings = seat.settings
        self._office = seat.office
        self._heartbeats = seat.duties
        self._metrics = seat.metrics
        self._clock = seat.clock

    async def run(self) -> None:
        """Delete what is due until cancelled."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            try:
                while await self.round() == _AT_ONCE:
                    pass  # one that lies may make as many as it likes: there are more
            except Conflict:
                continue
            except (ClusterError, TimeoutError) as error:
                _LOGGER.warning("closed Decisions stay for now: %s", error)

    async def round(self) -> int:
        """Delete some of what is due, and return how many were.

        Raises:
            ClusterError: the API server did not take it; the rest is due again.

        """
        closed = await self._closed()
        if not closed:
            return 0
        proposals = [one.proposal for one in closed if one.proposal is not None]
        lines = [line for one in proposals if (line := await self._certified(one)) is not None]
        if lines:
            await self._note(lines)
        deleted = 0
        for one in closed:
            try:
                await self._cluster.delete(kinds.DECISION, self._settings.namespace, one.name, uid=one.uid)
            except Refused:
                continue  # a policy keeps what it takes for open; its clock may be behind this one
            deleted += 1
            self._metrics.garbage.inc()
        if deleted:
            _LOGGER.info("%d closed Decisions are deleted; %d had a certificate", deleted, len(lines))
        return deleted

    async def _closed(self) -> list[_Old]:
        place = self._heartbeats.place(DUTY)
        if place is None:
            return []
        found: list[_Old] = []
        async for page in self._cluster.pages(kinds.DECISION, self._settings.namespace):
            for raw in page.objects:
                one = _old(raw)
                # What the one on duty leaves lying the next one in line clears away.
                if self._clock() > one.until + KEEP + place * _TURN and await self._is_closed(one.proposal):
                    found.append(one)
                if len(found) == _AT_ONCE:
                    return found
        return found

    async def _is_closed(self, proposal: Proposal | None) -> bool:
        if proposal is None or proposal.kind is not Kind.MEMBERSHIP:
            return True
        active = self._office.active
        if active is None or proposal in self._office.proposals():
            return False
        if proposal.epoch < active.version:
            return True
        # Of members that more have signed for than may lie, the votes count for ever. Nobody else's mean anything.
        ballots = [one for one in await self._ballots(proposal) if one.digest == proposal.digest]
        counted = count(proposal, ballots, self._office.chain, self._clock(), signing.verify)
        return len(counted.approved) <= active.faulty

    async def _ballots(self, proposal: Proposal) -> list[Cast]:
        selector = f"{names.LABEL_SLOT}={proposal.slot}"
        return casts(await self._cluster.list(kinds.BALLOT, self._settings.namespace, selector=selector))

    async def _certified(self, proposal: Proposal) -> str | None:
        """Return the line to note, None if there is no certificate."""
        ballots = await self._ballots(proposal)
        # The newest members first: they have voted on most of what there is.
        for end in range(len(self._office.chain), 0, -1):
            chain = self._office.chain[:end]
            counted = count(proposal, ballots, chain, self._clock(), signing.verify)
            if counted.certificate is not None:
                whole = certificates.to_json(counted.certificate)
                members = chain[-1].membership
                said = {"membership": members.version, "members": members.digest, "approved": list(counted.approved)}
                return _line(
                    {"decision": proposal.name, **said, "proposal": whole["proposal"], "votes": whole["votes"]}
                )
        return None

    async def _note(self, lines: Sequence[str]) -> None:
        here = self._settings.namespace
        found = await self._cluster.get(kinds.CONFIG_MAP, here, AUDIT)
        before = ((found or {}).get("data") or {}).get(_FILE, "").splitlines()
        text = "".join(f"{line}\n" for line in bounded([*before, *(one for one in lines if one not in before)]))
        if found is None:
            meta = {"namespace": here, "name": AUDIT, "labels": {names.LABEL_PART_OF: names.PART_OF}}
            body = {"metadata": meta, "data": {_FILE: text}}
            await self._cluster.create(kinds.CONFIG_MAP, here, body, manager=MANAGER)
            return
        change = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "data": {_FILE: text}}
        await self._cluster.patch(kinds.CONFIG_MAP, here, AUDIT, change, manager=MANAGER)


def _old(raw: Object) -> _Old:
    """Return until when there was anything to do with a Decision; what nobody can read goes like all else."""
    meta = raw["metadata"]
    made = parse_time(meta["creationTimestamp"])
    try:
        proposal = parse_decision(raw).proposal
    except InvalidField:
        return _Old(meta["name"], meta["uid"], made, None)
    if proposal.kind is Kind.MEMBERSHIP:
        return _Old(meta["name"], meta["uid"], made, proposal)
    # Nobody votes for what asks for more time than this.
    return _Old(meta["name"], meta["uid"], min(proposal.expires, made + LONGEST_OPEN), proposal)


def bounded(lines: Sequence[str]) -> list[str]:
    """Return the newest lines that there is room for."""
    kept: list[str] = []
    size = 0
    for line in reversed(lines[-MOST_LINES:]):
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            break
        kept.append(line)
    return kept[::-1]


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
