"""What the operator tells others through an index's status: gateways their routing, the store worker its plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from reembed.core.model.migration_specs import EvaluationSpec
from reembed.core.quorum.certificates import Certificate


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of the traffic: a pool's model and the collection filled with its vectors, always together."""

    pool: str
    collection: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Routing:
    """Who answers queries; written by the migration's controller alone, read by the gateways.

    `epoch` grows with every change for the life of the index; `weight` is the candidate's share in percent. `shadow` is
    the share of the queries that are put to both sides; it says nothing of who answers, and no epoch. `certificate` is
    the panel's, for the last raise, where the index names a panel.
    """

    epoch: int = 0
    serving: Arm | None = None
    candidate: Arm | None = None
    weight: int = 0
    shadow: float = 0.0
    certificate: Certificate | None = None


class Desired(Enum):
    """What the store worker shall make of a collection."""

    PRESENT = "Present"  # table and shards exist, the backfill may fill them
    INDEXED = "Indexed"  # the vector index is built and valid
    WITHDRAWN = "Withdrawn"  # kept, but answers no query
    DROPPED = "Dropped"


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """One collection that the store worker keeps as desired."""

    name: str
    pool: str
    fingerprint: str
    dimensions: int
    shards: int
    desired: Desired

    @property
    def adopted(self) -> bool:
        """Whether its vectors are in a column of the application's own table."""
        return self.name.startswith("a_")


@dataclass(frozen=True, slots=True)
class PointerPlan:
    """The collection that answers whoever reads the store's pointer; moved by compare-and-set on `generation`."""

    collection: str
    fingerprint: str
    generation: int


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """A comparison on labelled queries that the store worker shall run, named by `id`."""

    id: str
    serving: Arm | None
    candidate: Arm
    spec: EvaluationSpec
    live: bool = False  # again and again, a few queries at a time, while the candidate answers


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Everything that the index asks of its store worker; the worker makes it true and reports."""

    collections: tuple[CollectionPlan, ...] = ()
    pointer: PointerPlan | None = None
    evaluation: EvaluationPlan | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The migration that holds an index."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The part of an EmbeddingIndex's status that decisions need."""

    active_migration: Holder | None = None
    routing: Routing = Routing()
    plan: StorePlan = StorePlan()
