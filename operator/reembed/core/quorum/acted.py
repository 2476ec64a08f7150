"""What the operator was told by a quorum of agents, and what it made of it; kept in the migration's status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from reembed.core.quorum.proposals import Kind


@dataclass(frozen=True, slots=True)
class Act:
    """One certified proposal of an agent, met once and never again.

    It is carried out from here on, by whoever owns what it is about: the certificate is over after minutes. `problem`
    says why it is not; the epoch is used up all the same.
    """

    kind: Kind
    epoch: int
    decision: str
    at: datetime
    attempt: int
    terms: str
    change: tuple[tuple[str, str], ...] = ()
    problem: str = ""

    @property
    def says(self) -> Mapping[str, str]:
        return dict(self.change)
