"""What `kubectl reembed panel status` shows of a panel: read from its objects, and nothing else.

Tolerant like `plugin.reading`. Signatures are not checked here: that a Ballot is its agent's is the word of the API
server and the chart's policies, and who acts on a vote checks it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw
from reembed.api.panel import Decision, Panel, parse_decision, parse_panel
from reembed.core import names
from reembed.core.quorum.membership import Member, Membership
from reembed.core.quorum.proposals import Proposal
from reembed.plugin.agents import Agent
from reembed.plugin.reading import clean


@dataclass(frozen=True, slots=True)
class Said:
    """One agent's ballot: what it chose, and why."""

    agent: str
    approves: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """A decision and what was said to it."""

    decision: Decision
    said: tuple[Said, ...] = ()

    @property
    def proposal(self) -> Proposal:
        return self.decision.proposal

    def of(self, *, approving: bool) -> tuple[Said, ...]:
        return tuple(one for one in self.said if one.approves is approving)

    def standing(self, membership: Membership, now: datetime) -> str:
        """Return Certified, Refused, Expired or Open, if every ballot is what it says."""
        if len(self.of(approving=True)) >= membership.quorum:
            return "Certified"
        if len(self.of(approving=False)) >= membership.blocking:
            return "Refused"
        return "Expired" if now > self.proposal.expires else "Open"


@dataclass(frozen=True, slots=True)
class Council:
    """A panel with its agents and what they vote on."""

    panel: Panel
    agents: Mapping[str, Agent]
    first: str = ""  # digest of the first members, by who named them; empty where nobody noted it
    away: frozenset[str] | None = None  # without a heartbeat, by the agents' own word; None if none was given
    decisions: tuple[Open, ...] = ()
    conditions: tuple[tuple[str, str], ...] = field(default=())  # reason and message of those that are false or bad

    @property
    def members(self) -> Membership:
        """Return who is in office; before anybody is, who shall be."""
        return self.panel.active or self.panel.wished

    @property
    def anchor(self) -> str:
        """Return the digest that indexes name, by people's word if there is one."""
        if self.first or not self.panel.chain:
            return self.first or self.panel.wished.digest
        return self.panel.chain[0].membership.digest

    @property
    def doubt(self) -> str:
        """Return why the digest, or what the status says, is not to be believed; empty if there is no reason."""
        if not self.panel.chain:
            return ""
        if not self.first:
            return "the digest is the word of one agent: compare it with what `panel init` told"
        if self.panel.chain[0].membership.digest == self.first:
            return ""
        return "the status begins with other members than the digest's: an agent that lies wrote it"

    def reachable(self, member: Member, now: datetime) -> bool:
        if self.away is not None:
            return member.name not in self.away
        agent = self.agents.get(member.name)
        return agent is not None and agent.lives(now)

    def changed(self) -> tuple[str, ...]:
        """Return the agents whose membership the user wishes otherwise than it is in office."""
        if self.panel.active is None:
            return ()
        return differing(self.panel.active, self.panel.wished)


def read_council(
    panel: Raw, agents: Mapping[str, Agent], decisions: Iterable[Raw] = (), ballots: Sequence[Raw] = ()
) -> Council:
    """Return a panel with what surrounds it.

    Raises:
        InvalidField: the Panel is not one of this version.

    """
    status = Fields(panel.get("status") or {}, "status")
    told = "reachable" in (panel.get("status") or {})
    found = (_decision(one) for one in decisions)
    return Council(
        panel=parse_panel(panel),
        agents=agents,
        first=str((panel["metadata"].get("annotations") or {}).get(names.ANNOTATION_FIRST, "")),
        away=frozenset(status.texts("unreachable")) if told else None,
        decisions=tuple(
            sorted(
                (Open(one, _said(one, ballots)) for one in found if one is not None),
                key=lambda one: (one.proposal.expires, one.decision.meta.name),
                reverse=True,
            )
        ),
        conditions=tuple(
            (one.text("reason", ""), clean(one.text("message", "")))
            for one in status.each("conditions")
            if (one.text("type"), one.text("status")) in {("Ready", "False"), ("Degraded", "True")}
        ),
    )


def differing(before: Membership, after: Membership) -> tuple[str, ...]:
    """Return the names of members that are in one of both alone, or have another key or role."""
    one, other = ({member.name: member for member in found.members} for found in (before, after))
    return tuple(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


def _decision(raw: Raw) -> Decision | None:
    try:
        return parse_decision(raw)
    except InvalidField:
        return None  # an agent that lies may propose anything


def _said(decision: Decision, ballots: Sequence[Raw]) -> tuple[Said, ...]:
    digest = decision.proposal.digest
    specs: list[Mapping[str, Any]] = [one["spec"] for one in ballots if one["spec"].get("proposal") == digest]
    found = (
        Said(str(one["agent"]), one["choice"] == "Approve", clean(str(next(iter(one.get("reasons") or ()), ""))))
        for one in specs
    )
    return tuple(sorted(found, key=lambda one: one.agent))
