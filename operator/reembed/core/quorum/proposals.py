"""What the panel votes on. A proposal is named by the digest of everything that it says, so it cannot change later.

Each proposal has a slot: the subject, a sequence and an epoch. An agent votes once in a slot, whatever is proposed
there, so at most one proposal of a slot finds a quorum. Traffic moves in the sequence of the index's routing epochs;
what moves none has sequences of its own, so that it never stands in a canary's way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any

from reembed.core.quorum import canonical


class Kind(Enum):
    """What a certified proposal lets somebody do."""

    LOAD_MODEL = "LoadModel"  # the migration begins: pods embed with the model that it names
    TRAFFIC = "Traffic"  # the candidate gets more of the queries
    COMPLETE = "Complete"  # the candidate becomes what serves, and the way back ends
    MEMORY = "Memory"  # pods of a pool work with careful limits for a while
    TUNING = "Tuning"  # another number of pods fills the collection side by side, within what its user allows
    RECOVER = "Recover"  # a pod that seems ready and answers wrongly is replaced
    ROLLBACK = "Rollback"  # queries return, although no trigger fires
    CORRECT = "Correct"  # what drifted from its specification is made as specified
    MEMBERSHIP = "Membership"  # other members, or other keys


# What changes who answers queries; the slot's epoch is that of the index's routing.
OF_ROUTING = frozenset({Kind.TRAFFIC, Kind.COMPLETE})
ROUTING = "Routing"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the traffic, with the UID of its pool: another pool of the same name is another side."""

    pool: str
    pool_uid: str
    collection: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Split:
    """Who answers: the candidate's share of the queries in percent, and both sides; None where there is none."""

    epoch: int = 0
    weight: int = 0
    serving: Side | None = None
    candidate: Side | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a proposal is about. Its UIDs count; names help to find the objects.

    A proposal of kind Membership is about the Panel: its name and UID stand for the index's, and no migration is named.
    """

    namespace: str
    name: str
    uid: str
    migration: str = ""
    migration_uid: str = ""


@dataclass(frozen=True)
class Proposal:
    """One step that needs a quorum.

    `before` is what the proposer saw, and what must still hold when it is executed; `after` is what will be, and equal
    to it where no traffic moves. `terms` is the digest of what the migration's user asked for (`terms` below), `change`
    what kinds other than those of routing change, by name.
    """

    kind: Kind
    subject: Subject
    epoch: int
    before: Split
    after: Split
    terms: str
    expires: datetime
    change: tuple[tuple[str, str], ...] = field(default=())

    @cached_property
    def digest(self) -> str:
        return canonical.digest(canonical.PROPOSAL, to_json(self))

    @cached_property
    def slot(self) -> str:
        """Return what an agent votes in once; short enough to be part of an object's name."""
        text = f"{self.subject.uid}/{sequence(self.kind)}/{self.epoch}"
        return f"s{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    @property
    def name(self) -> str:
        """Return the name of the proposal's Decision."""
        return f"d{self.digest[:40]}"


def sequence(kind: Kind) -> str:
    """Return the name of the sequence in which proposals of a kind are counted."""
    return ROUTING if kind in OF_ROUTING else kind.value


def ballot_name(slot: str, agent: str) -> str:
    """Return the name of the only Ballot that `agent` can cast in a slot."""
    return f"{slot}.{agent}"


def terms(spec: Any) -> str:
    """Return the digest of what a user asked of a migration: target, steps, gates, triggers as the API has them."""
    return canonical.digest("terms", spec)


def to_json(proposal: Proposal) -> dict[str, Any]:
    """Return the value that is hashed and stands in the API."""
    return {
        "kind": proposal.kind.value,
        "subject": {
            "namespace": proposal.subject.namespace,
            "name": proposal.subject.name,
            "uid": proposal.subject.uid,
            "migration": proposal.subject.migration,
            "migrationUid": proposal.subject.migration_uid,
        },
        "epoch": proposal.epoch,
        "before": _split(proposal.before),
        "after": _split(proposal.after),
        "terms": proposal.terms,
        "expires": proposal.expires.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "change": dict(proposal.change),
    }


def _split(split: Split) -> dict[str, Any]:
    sides = {"serving": split.serving, "candidate": split.candidate}
    return {"epoch": split.epoch, "weight": split.weight} | {
        name: {
            "pool": side.pool,
            "poolUid": side.pool_uid,
            "collection": side.collection,
            "fingerprint": side.fingerprint,
        }
        for name, side in sides.items()
        if side is not None
    }
