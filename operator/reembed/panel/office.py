"""Who is in office, as this agent believes, and what the Panel's user wishes for instead.

What stands in the Panel's status was written by agents, of which some may lie. So each agent checks the whole way from
the first members on, keeps the newest membership that it has seen, and never goes back: a status that was cut short,
or says something else, is written anew by those who know better (`coordinator`). Whom an agent believes at first is
noted in its own Secret; what counts in the end is the digest that each index names (`voting`).

A change of members is one proposal that follows from the Panel alone: whoever proposes it makes the same Decision, so
that agents never split their votes over who was faster. It has no time to run out, since an agent that does not agree
yet (a new member's key is not published, too few of them live) says nothing and looks again. Where the wish changes
while its vote is open, some have voted for other members in that slot; then the next version's slot is used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from reembed.api.fields import InvalidField
from reembed.api.panel import Panel, parse_panel
from reembed.cluster.client import Object
from reembed.core import names
from reembed.core.quorum.certificates import LONGEST_OPEN, SKEW, Certified, broken_chain
from reembed.core.quorum.membership import Membership, Verify, unsound
from reembed.core.quorum.proposals import Kind, Proposal, Split, Subject
from reembed.panel.keys import Kept

# So many wishes may follow each other before one of them finds its votes.
MOST_TRIES = 16
# When a change of members is too late: never. It becomes a link of a chain, which no gateway's clock judges.
NEVER = datetime(2999, 12, 31, tzinfo=UTC)

# What members were asked is over so many seconds after they left: a certificate is good for ten minutes, by any clock.
LATELY = (LONGEST_OPEN + 2 * SKEW).total_seconds()

_LOGGER = logging.getLogger("reembed.panel")


def believed(
    held: tuple[Certified, ...], told: tuple[Certified, ...], kept: Kept, agent: str, verify: Verify, first: str = ""
) -> tuple[Certified, ...]:
    """Return the memberships to believe after the Panel's status told of `told`.

    `first` is the digest of the first members by who named them, empty where nobody noted it.
    """
    if not told:
        return held
    newest = told[-1].membership
    if broken_chain(told, kept.anchor or first or told[0].membership.digest, verify) is not None:
        return held
    if not kept.anchor and kept.signing(newest, agent) is None:
        return held  # nobody has said yet which panel is ours; one that does not know us is not
    if newest.version < kept.version or (held and newest.version <= held[-1].membership.version):
        return held
    return told


def change(panel: Panel, active: Membership, wished: Membership) -> Proposal:
    """Return the only proposal that lets `wished` follow `active`."""
    return Proposal(
        kind=Kind.MEMBERSHIP,
        subject=Subject(panel.meta.namespace, panel.meta.name, panel.meta.uid),
        epoch=wished.version,
        before=Split(),
        after=Split(),
        terms="",
        expires=NEVER,
        change=(("after", wished.digest), ("before", active.digest)),
    )


class Office:
    """What is known of the Panel; `kept` gives the agent's own keys and beliefs, None before they are known."""

    def __init__(self, agent: str, kept: Callable[[], Kept | None], verify: Verify) -> None:
        self._agent = agent
        self._kept = kept
        self._verify = verify
        self.raw: Object | None = None
        self.panel: Panel | None = None
        self.first = ""  # digest of the first members, by who named them
        self.chain: tuple[Certified, ...] = ()
        self._left: list[tuple[float, Membership]] = []  # who was in office, and when that was seen to be over
        self.known = asyncio.Event()  # set once somebody is in office

    @property
    def active(self) -> Membership | None:
        return self.chain[-1].membership if self.chain else None

    @property
    def anchor(self) -> str:
        """Return the digest that indexes of this panel name, empty before anybody is in office."""
        return self.chain[0].membership.digest if self.chain else ""

    @property
    def wished(self) -> Membership | None:
        """Return the members that the user asks for, None if they are those in office or could not vote."""
        return self.wish(1 if self.active is None else self.active.version + 1)

    @property
    def members(self) -> Membership | None:
        """Return whose work it is to look after the panel: those in office, before the first ones those wished for."""
        return self.active or self.wished

    def wish(self, version: int) -> Membership | None:
        """Return the same as a membership of this version."""
        if self.panel is None:
            return None
        active, wished = self.active, replace(self.panel.wished, version=version)
        if unsound(wished) is not None:
            return None
        if active is not None and replace(wished, version=active.version) == _ordered(active, wished):
            return None
        return wished

    def proposal(self, version: int) -> Proposal | None:
        """Return the change of members that is due, in the slot of a version; None if there is none."""
        active, wished = self.active, self.wish(version)
        if self.panel is None or active is None or wished is None:
            return None
        return change(self.panel, active, wished) if 0 < version - active.version <= MOST_TRIES else None

    def lately(self) -> tuple[Membership, ...]:
        """Return those before the ones in office on whose votes something may be done still."""
        now = asyncio.get_running_loop().time()
        self._left = [(at, one) for at, one in self._left if now - at < LATELY]
        return tuple(one for _, one in self._left)

    def proposals(self) -> tuple[Proposal, ...]:
        """Return the change of members that is due in each slot that it may come to; none if there is none."""
        active = self.active
        if active is None or self.wished is None:
            return ()
        tries = range(active.version + 1, active.version + 1 + MOST_TRIES)
        return tuple(one for version in tries if (one := self.proposal(version)) is not None)

    def see(self, raw: Object | None) -> None:
        """Take the Panel as it is now, None if there is none."""
        kept = self._kept()
        if raw is None or kept is None:
            self.raw, self.panel = None, None
            return
        try:
            panel = parse_panel(raw)
        except InvalidField as error:
            _LOGGER.warning("the Panel's status can't be understood (%s); it is written anew", error)
            panel = parse_panel({**raw, "status": {}})
        before, known = self.active, {one.membership.digest for one in self.chain[:-1]}
        self.first = str((raw["metadata"].get("annotations") or {}).get(names.ANNOTATION_FIRST, ""))
        self.chain = believed(self.chain, panel.chain, kept, self._agent, self._verify, self.first)
        now = asyncio.get_running_loop().time()
        # One that has just started does not know when; it takes that for a moment ago.
        gone = [one.membership for one in self.chain[:-1] if one.membership.digest not in known]
        self._left += [(now, one) for one in gone]
        self.raw, self.panel = raw, panel
        active = self.active
        if active is not None and active != before:
            self.known.set()
            text = "membership %d is in office: %d members, %d votes decide"
            _LOGGER.info(text, active.version, len(active.members), active.quorum)


def _ordered(active: Membership, wished: Membership) -> Membership:
    """Return `active` in the order of `wished`, where both have the same members: their order means nothing."""
    same = set(active.members) == set(wished.members) and len(active.members) == len(wished.members)
    return replace(active, members=wished.members) if same else active
