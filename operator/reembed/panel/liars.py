"""Which agents are proved to lie: by Ballots that are there for everybody to read, and by nothing else.

Every agent looks, and tells it as a metric; what three of them tell is true, as two may lie. A Ballot proves something
of whoever could have made it alone: under its name the agent with that account, and a signature whoever has the key.
That somebody refuses what others approve proves nothing. Nothing follows here but that people hear of it: a certificate
needs six votes whoever lies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from reembed import signing
from reembed.api.fields import InvalidField
from reembed.api.panel import Ballot, parse_ballot
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Object
from reembed.core.quorum.certificates import Choice, ballot_message
from reembed.panel.seat import Seat

_AGAIN = 30.0
_BETWEEN = 1.0

_LOGGER = logging.getLogger("reembed.panel")


class Lie(Enum):
    """What is proved."""

    FORGED = "Forged"  # the agent's account cast a vote with a signature that its key did not make
    BORROWED = "Borrowed"  # it cast another member's signature as its own vote
    TWICE = "Twice"  # its key signed two things in one slot


@dataclass(slots=True)
class _Told:
    """One Ballot that is there. `owner` is the member whose key signed it, None if nobody's did."""

    uid: str
    agent: str
    genuine: bool
    owner: str | None
    said: tuple[str, Choice]
    look: int  # the last that found it


class Liars:
    """One agent's sight of all Ballots."""

    def __init__(self, seat: Seat) -> None:
        self._cluster = seat.cluster
        self._settings = seat.settings
        self._office = seat.office
        self._metrics = seat.metrics
        self._slots: dict[str, dict[str, _Told]] = {}  # by slot and the Ballot's name
        self._proved: dict[str, frozenset[tuple[str, Lie]]] = {}  # by slot
        self._look = 0

    async def run(self) -> None:
        """Look until cancelled. A list now and then, since a watch of all votes would cost each vote its time."""
        await self._office.known.wait()
        while True:
            self._look += 1
            try:
                async for page in self._cluster.pages(kinds.BALLOT, self._settings.namespace):
                    for raw in page.objects:
                        self._see(raw)
                    await asyncio.sleep(_BETWEEN)  # votes come first, at the API server too
                self._forget()
            except (ClusterError, OSError, TimeoutError, ValueError, KeyError) as error:
                text = "the Ballots could not be read: %s; they are read again"
                _LOGGER.info(text, str(error) or type(error).__name__)
            await asyncio.sleep(_AGAIN)

    def _forget(self) -> None:
        """Drop what a whole look has not found."""
        for slot, told in list(self._slots.items()):
            for name in [name for name, one in told.items() if one.look < self._look]:
                self._drop(slot, name)

    def _see(self, raw: Object) -> None:
        meta = raw["metadata"]
        slot, _, _ = meta["name"].rpartition(".")
        known = self._slots.get(slot, {}).get(meta["name"])
        if known is not None and known.uid == meta["uid"]:
            known.look = self._look  # a Ballot does not change
            return
        try:
            ballot = parse_ballot(raw)
        except InvalidField:
            return  # nobody counts it, and it may be of another version
        self._slots.setdefault(slot, {})[meta["name"]] = self._told(meta["uid"], ballot)
        self._tell(slot)

    def _told(self, uid: str, ballot: Ballot) -> _Told:
        vote, said = ballot.vote, (ballot.digest, ballot.choice)
        message = ballot_message(ballot.digest, ballot.slot, ballot.choice, vote.evidence)
        genuine = signing.verify(vote.key, message, vote.signature)
        return _Told(uid, ballot.agent, genuine, self._owner(vote.key) if genuine else None, said, self._look)

    def _owner(self, key: bytes) -> str | None:
        """Return which member has or had the key; of others nothing is known, such as the next members."""
        found = (one.membership.holder(key) for one in reversed(self._office.chain))
        return next((member.name for member in found if member is not None), None)

    def _drop(self, slot: str, name: str) -> None:
        told = self._slots.get(slot, {})
        told.pop(name, None)
        if not told:
            self._slots.pop(slot, None)
        self._tell(slot)

    def _tell(self, slot: str) -> None:
        """Show what the Ballots of a slot prove now."""
        proved, before = _proved(self._slots.get(slot, {}).values()), self._proved.pop(slot, frozenset())
        if proved:
            self._proved[slot] = proved
        for agent, lie in sorted(proved - before, key=lambda one: (one[0], one[1].value)):
            _LOGGER.warning("agent %s is proved to lie: %s in slot %s", agent, lie.value, slot)
        for agent, lie in proved ^ before:
            count = sum((agent, lie) in found for found in self._proved.values())
            self._metrics.lies.labels(agent, lie.value).set(count)


def _proved(told: Iterable[_Told]) -> frozenset[tuple[str, Lie]]:
    found: set[tuple[str, Lie]] = set()
    said: dict[str, set[tuple[str, Choice]]] = {}
    for one in told:
        if not one.genuine:
            found.add((one.agent, Lie.FORGED))
        elif one.owner is not None:
            said.setdefault(one.owner, set()).add(one.said)
            if one.owner != one.agent:
                found.add((one.agent, Lie.BORROWED))
    return frozenset(found | {(owner, Lie.TWICE) for owner, things in said.items() if len(things) > 1})
