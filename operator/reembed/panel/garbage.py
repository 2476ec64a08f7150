"""Deletes Decisions whose time is long over; their Ballots go with them. What was certified is noted first.

The coordinator's duty. The notes are in ConfigMap `reembed-panel-audit`, one line of JSON for each certificate, the
newest of them up to a number and a size. A Decision is deleted only after the notes were written, and a change of
members never while agents could vote on it: its votes are part of the chain that everybody checks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from reembed import signing
from reembed.api.fields import InvalidField
from reembed.api.panel import Decision, parse_decision
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict, Refused
from reembed.core import names
from reembed.core.quorum import certificates
from reembed.core.quorum.counting import count
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

_LOGGER = logging.getLogger("reembed.panel")


class Garbage:
    """The rounds of one agent; they do something while it has the duty."""

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
            if not self._heartbeats.mine(DUTY):
                continue
            try:
                await self.round()
            except Conflict:
                continue
            except (ClusterError, TimeoutError) as error:
                _LOGGER.warning("closed Decisions stay for now: %s", error)

    async def round(self) -> None:
        """Delete some of what is due.

        Raises:
            ClusterError: the API server did not take it; the rest is due again.

        """
        closed = await self._closed()
        if not closed:
            return
        lines = [line for one in closed if (line := await self._certified(one.proposal)) is not None]
        if lines:
            await self._note(lines)
        deleted = 0
        for one in closed:
            try:
                await self._cluster.delete(kinds.DECISION, one.meta.namespace, one.meta.name, uid=one.meta.uid)
            except Refused:
                continue  # a policy keeps what it takes for open; its clock may be behind this one
            deleted += 1
            self._metrics.garbage.inc()
        if deleted:
            _LOGGER.info("%d closed Decisions are deleted; %d had a certificate", deleted, len(lines))

    async def _closed(self) -> list[Decision]:
        found = []
        async for page in self._cluster.pages(kinds.DECISION, self._settings.namespace):
            for raw in page.objects:
                try:
                    decision = parse_decision(raw)
                except InvalidField:
                    continue  # not ours to judge: a person has to look at it
                if self._is_closed(decision.proposal):
                    found.append(decision)
        return sorted(found, key=lambda one: (one.proposal.expires, one.meta.name))[:_AT_ONCE]

    def _is_closed(self, proposal: Proposal) -> bool:
        if proposal.kind is Kind.MEMBERSHIP:
            active = self._office.active
            return active is not None and proposal.epoch < active.version
        return self._clock() > proposal.expires + KEEP

    async def _certified(self, proposal: Proposal) -> str | None:
        """Return the line to note, None if there is no certificate."""
        selector = f"{names.LABEL_SLOT}={proposal.slot}"
        ballots = casts(await self._cluster.list(kinds.BALLOT, self._settings.namespace, selector=selector))
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
