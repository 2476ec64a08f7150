"""Puts to the vote what an agent's roles would have done: memory, tuning, recovery, a soft way back, drift.

The judge says what is wished for; here it becomes a Decision, by whoever has the role's work. What was proposed once is
not proposed again for a while, whatever came of it: others may measure otherwise, and votes are not to be had by asking
often. An agent proposes and cannot execute: the operator counts the votes, and does what a quorum agreed on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from reembed.api.fields import InvalidField
from reembed.api.panel import parse_decision, render_decision
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict
from reembed.core.migration import Migration, SeenIndex
from reembed.core.quorum import raising
from reembed.core.quorum.allowance import Allowance
from reembed.core.quorum.certificates import LONGEST_OPEN
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind, Proposal, Subject
from reembed.panel.keys import MANAGER
from reembed.panel.seat import Seat

_ROUND_SECONDS = 10.0
# As long as the operator's own proposals are open by default.
_OPEN = timedelta(minutes=2)
# Before the same is proposed again.
_AGAIN = timedelta(minutes=10)

_LOGGER = logging.getLogger("reembed.panel")


class Wish(Protocol):
    """What a role would propose: a kind, what changes by name, and why."""

    @property
    def kind(self) -> Kind: ...

    @property
    def change(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def reason(self) -> str: ...


class HasMeta(Protocol):
    @property
    def meta(self) -> Any: ...


class Objects(Protocol):
    """What a wish is about, as the judge read it."""

    @property
    def index(self) -> SeenIndex: ...

    @property
    def migration(self) -> Migration | None: ...

    @property
    def terms(self) -> str: ...

    @property
    def pools(self) -> Mapping[str, HasMeta]: ...


class Around(Protocol):
    @property
    def objects(self) -> Objects: ...


class Wishes(Protocol):
    """A judge that has wishes of the roles whose work is its agent's."""

    def wishes(self, now: datetime, duties: Collection[Role]) -> Sequence[tuple[Around, Wish]]: ...


class Wisher:
    """The proposals of the roles whose work is an agent's: its own, and those of who is dead."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._allowance = Allowance()
        self._proposed: dict[tuple[str, Kind, tuple[tuple[str, str], ...]], datetime] = {}

    async def run(self, judge: Wishes) -> None:
        """Propose what is wished for until cancelled."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            duties = [role for role in Role if self._seat.duties.mine(role)]
            if self._seat.office.active is None or not duties:
                continue
            try:
                await self.round(judge, duties)
            except Conflict:
                continue  # another proposed in the slot: the next round takes the one after
            except (ClusterError, TimeoutError) as error:
                _LOGGER.warning("what the role wishes for could not be proposed: %s; tried again", error)

    async def round(self, judge: Wishes, duties: Collection[Role]) -> None:
        """Propose what these roles wish for now.

        Raises:
            ClusterError: the API server did not take it.

        """
        now = self._seat.clock()
        self._proposed = {key: at for key, at in self._proposed.items() if now - at < _AGAIN}
        for around, wish in judge.wishes(now, duties):
            objects = around.objects
            key = (objects.index.meta.uid, wish.kind, tuple(sorted(wish.change)))
            if key in self._proposed:
                continue
            if not await self._propose(objects, wish, now):
                return  # the others look at no more of one agent's at a time; it is wished for again
            self._proposed[key] = now

    async def _propose(self, objects: Objects, wish: Wish, now: datetime) -> bool:
        epoch = await self._next(objects.index.meta.uid, wish.kind)
        proposal = proposed(objects, wish, epoch, now)
        here, agent = self._seat.settings.namespace, self._seat.settings.agent
        if not self._allowance.admits(agent, proposal.name, proposal.expires, now):
            return False
        body = render_decision(proposal, here, agent)
        await self._seat.cluster.create(kinds.DECISION, here, body, manager=MANAGER)
        subject = f"{proposal.subject.namespace}/{proposal.subject.name}"
        _LOGGER.info("%s of %s is put to the vote: %s", wish.kind.value, subject, wish.reason)
        return True

    async def _next(self, uid: str, kind: Kind) -> int:
        """Return an epoch that nothing of this kind was proposed in."""
        newest, now = 0, int(self._seat.clock().timestamp())
        far = now + int(LONGEST_OPEN.total_seconds())
        async for page in self._seat.cluster.pages(kinds.DECISION, self._seat.settings.namespace):
            for raw in page.objects:
                try:
                    found = parse_decision(raw).proposal
                except InvalidField:
                    continue
                # On an epoch of the far future nobody agrees: a liar's.
                if found.subject.uid == uid and found.kind is kind and found.epoch < far:
                    newest = max(newest, found.epoch)
        # Decisions are cleared away: an epoch of long ago must not come again.
        return max(newest + 1, now)


def proposed(objects: Objects, wish: Wish, epoch: int, now: datetime) -> Proposal:
    """Return the proposal of a wish; it moves no queries."""
    index, migration = objects.index, objects.migration
    here = raising.split(index.status.routing, {name: pool.meta.uid for name, pool in objects.pools.items()})
    return Proposal(
        kind=wish.kind,
        subject=Subject(
            index.meta.namespace,
            index.meta.name,
            index.meta.uid,
            migration.meta.name if migration is not None else "",
            migration.meta.uid if migration is not None else "",
        ),
        epoch=epoch,
        before=here,
        after=here,
        terms=objects.terms,
        expires=(now + _OPEN).replace(microsecond=0),
        change=tuple(sorted(wish.change)),
    )
