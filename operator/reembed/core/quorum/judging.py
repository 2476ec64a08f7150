"""What an agent thinks of a proposal: ordered checks over its own evidence, of which the first that fails decides.

`judge` is called once per slot, with what the agent measured by itself. Whatever was not measured is a rejection with
its reason, never an approval. Every agent has the same checks (`CHECKS`); its role may bring one more (`roles`), which
comes last. docs/design/20261129-what-agents-judge.md has the rules with their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reembed.core.quorum import asking, filling, measured, others
from reembed.core.quorum.asking import Check
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.evidence import Evidence
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.core.quorum.telling import told
from reembed.core.triggers import Finding


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an agent votes: reasons as "Reason: message", the deciding one first, and what it measured as small JSON."""

    choice: Choice
    reasons: tuple[str, ...]
    evidence: dict[str, Any]


def judge(proposal: Proposal, evidence: Evidence, now: datetime, deep: tuple[Check, ...] = ()) -> Judgement:
    """Return the judgement by the checks of the proposal's kind, and by `deep`, those of the agent's role."""
    found = first((*CHECKS[proposal.kind], *deep), proposal, evidence, now)
    measurements = told(proposal, evidence, now)
    if found is None:
        return Judgement(Choice.APPROVE, ("Measured: every check holds",), measurements)
    return Judgement(Choice.REJECT, (f"{found.reason}: {found.message}",), measurements)


def first(checks: tuple[Check, ...], proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Return what the first check finds that finds anything."""
    return next((found for check in checks if (found := check(proposal, evidence, now)) is not None), None)


# Cheap ones first, and what anybody can see before what only the agent measured.
_ANY = (asking.in_time, asking.alone)
_ABOUT = (*_ANY, asking.seen, asking.same_subject, asking.same_terms)
_STANDS = (*_ABOUT, asking.counted, asking.from_here, others.moves_nothing)
_ROUTING = (
    *_ABOUT,
    asking.holds_index,
    asking.from_here,
    asking.newer_epoch,
    asking.nobody_stops_it,
    asking.own_sides,
    asking.next_step,
    asking.approved,
    measured.followed,
    asking.held,
    measured.answered("candidate"),
)
_QUALITY = (measured.quick, measured.light, measured.complete, measured.proven, measured.reproduced)
CHECKS: Mapping[Kind, tuple[Check, ...]] = {
    Kind.TRAFFIC: (*_ROUTING, measured.answered("serving"), *_QUALITY),
    # The old side need not live any more: a candidate that alone is left stands on its own.
    Kind.COMPLETE: (*_ROUTING, *_QUALITY),
    Kind.LOAD_MODEL: (*_STANDS, asking.nobody_stops_it, others.loads_target),
    Kind.MEMORY: (*_STANDS, others.needs_memory),
    Kind.TUNING: (*_STANDS, asking.holds_index, asking.nobody_stops_it, filling.tunes),
    Kind.RECOVER: (*_STANDS, asking.holds_index, asking.nobody_stops_it, others.unwell),
    Kind.ROLLBACK: (*_STANDS, asking.holds_index, others.worse),
    Kind.CORRECT: (*_STANDS, asking.holds_index, asking.nobody_stops_it, others.drifted),
    Kind.MEMBERSHIP: (*_ANY, others.panel_seen, others.members_wished, others.few_change),
}
