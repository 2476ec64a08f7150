"""A proposal that the operator has put to the panel, and what it has come to; kept in the migration's status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from reembed.core.quorum.counting import Count, Standing
from reembed.core.quorum.proposals import Proposal

# After a refusal the same is asked again only after so long: what agents measure needs time to change.
PAUSE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Asked:
    """`closed_at` is when it was first seen to be refused, or over without a quorum."""

    proposal: Proposal
    opened_at: datetime
    standing: Standing = Standing.OPEN
    approved: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    closed_at: datetime | None = None

    @property
    def certified(self) -> bool:
        return self.standing is Standing.CERTIFIED

    @property
    def closed(self) -> bool:
        return self.standing in {Standing.REFUSED, Standing.EXPIRED}


def told(asked: Asked, count: Count, now: datetime) -> Asked:
    """Return what is known of a proposal after its ballots were counted."""
    closed = count.standing in {Standing.REFUSED, Standing.EXPIRED}
    return Asked(
        asked.proposal,
        asked.opened_at,
        count.standing,
        count.approved,
        count.refused,
        count.missing,
        count.reasons,
        closed_at=(asked.closed_at or now) if closed else None,
    )
