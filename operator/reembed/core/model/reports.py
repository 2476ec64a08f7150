"""What others say of themselves: pods of every kind, Jobs and the panel. A report is of now; nothing is kept in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from reembed.core.model.inspections import InspectionReport, Kept
from reembed.core.model.plans import Arm, PointerPlan
from reembed.core.quorum.certificates import Certificate, Certified
from reembed.core.quorum.counting import Count
from reembed.core.sequences import Sample


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something cannot be done: a reason for programs, a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class BuildReport:
    """How far the building of a vector index is."""

    phase: str  # as PostgreSQL names it
    done: int  # vectors
    total: int


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """What the store holds of one collection."""

    name: str
    fingerprint: str
    dimensions: int
    state: str  # Filling, Filled, Indexed or Withdrawn
    shards: int
    shards_done: int
    written: int
    rejected: int
    total: int
    documents_per_second: float
    bottleneck: str | None = None  # read, embed, validate or write
    problem: Problem | None = None
    owed: int | None = None  # live writes that it lacks; None if nobody follows them
    lag: timedelta | None = None  # for how long it has lacked the first of them
    verified: bool | None = None  # compared with the source since live writes are captured without a break
    size: int | None = None  # bytes on disk, with its indexes; None before they are measured
    building: BuildReport | None = None  # its vector index
    recall: float | None = None  # share of the 10 nearest vectors that its index finds; None if nobody measured
    requests: float | None = None  # that pods which fill it may have under way, each; None if none said so lately
    yields_to: str | None = None  # what most of these pods ask for less for: `store`, `queries` or nobody
    kept: Kept | None = None  # by its application, an adopted column; None if Reembed keeps it, or nobody has looked


@dataclass(frozen=True, slots=True)
class TextSizes:
    """Documents of the source, in a sample, whose texts are about equally long, and their bytes together."""

    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class LeftReport:
    """A collection of an index of the same name that was deleted: nobody plans it, and it answers nobody."""

    name: str
    state: str
    size: int | None


@dataclass(frozen=True, slots=True)
class MetricReport:
    """One metric of both sides, its mean over all queries, and bounds of the difference candidate - serving."""

    name: str  # such as MRR@10
    serving: float | None
    candidate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What the queries of one slice say. `verdict` is one of core.slices.SliceVerdict's values."""

    name: str
    verdict: str
    queries: int
    serving: float  # MRR@k
    candidate: float
    low: float | None  # bounds of the difference; None if the slice was not judged
    high: float | None
    message: str


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The outcome of an EvaluationPlan. `verdict` is one of core.gates.Verdict's values."""

    id: str
    verdict: str
    queries: int
    k: int
    mrr_serving: float | None
    mrr_candidate: float
    low: float | None  # bounds of the difference candidate - serving
    high: float | None
    message: str
    metrics: tuple[MetricReport, ...] = ()
    slices: tuple[SliceReport, ...] = ()  # the worst first


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What the store worker says at GET /status.

    `dropped` are collections that it was told to drop, that are not there, and that it is not about to make: one that
    is only missing may be made this moment. None from a worker that does not say so.
    """

    problem: Problem | None
    pointer: PointerPlan | None
    documents: int | None
    collections: tuple[CollectionReport, ...] = ()
    dropped: frozenset[str] | None = None
    evaluation: EvaluationReport | None = None
    lag: timedelta | None = None  # of the collection that is furthest behind live writes; None if nobody follows them
    retrieval: Sample | None = None  # losses of reciprocal rank, serving - candidate, by live plans
    database: int | None = None  # bytes of the whole database; None before they are measured
    left: tuple[LeftReport, ...] | None = None  # by indexes of this name that were deleted; None if nobody looked
    inspections: tuple[InspectionReport, ...] | None = None  # the newest first; None where nothing inspects the store
    texts: tuple[TextSizes, ...] | None = None  # of the source, in classes of length; None before they are measured


@dataclass(frozen=True, slots=True)
class RefusedRaise:
    """A routing that a gateway does not follow for want of the panel's certificate, and why not."""

    epoch: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What one gateway pod says at GET /v1/index: what it serves right now, whatever it was told."""

    pod: str
    epoch: int
    weight: int
    serving: Arm | None
    candidate: Arm | None
    refused: RefusedRaise | None = None  # what it was told last, if it does not follow that


@dataclass(frozen=True, slots=True)
class ArmMeasure:
    """One arm's traffic over the last window, before any fall-back."""

    requests: int
    errors: int
    p95: timedelta | None  # None without enough answers
    lately: ArmMeasure | None = None  # of the last part of the window alone


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What is known of a pool's pods. `memory` is the largest share of the limit that cannot be reclaimed."""

    fingerprint: str
    ready_replicas: int
    desired_replicas: int
    memory: float | None = None
    problem: Problem | None = None
    permanent: bool = False  # waiting cannot heal the problem


@dataclass(frozen=True, slots=True)
class JobReport:
    """What is known of a backfill Job."""

    name: str
    active: int
    failed: int
    complete: bool
    exhausted: bool  # it gave up; done-ness itself is read from the store
    message: str = ""
    problem: Problem | None = None  # what keeps a pod from starting


@dataclass(frozen=True, slots=True)
class PanelReport:
    """What is known of the agents that vote: how many there are, may be faulty and are gone, and whether one is due.

    `chain` leads from the members that the index names to those in office, and is empty where it does not. `count` is
    what the proposal that the migration's status names has come to. `newest` is the highest epoch that anybody ever
    proposed for the index, by sequence. `agreed` are certificates of what agents themselves proposed for the migration.
    """

    members: int
    faulty: int  # that are tolerated
    gone: int
    vote_due: bool  # a proposal for traffic or completion waits
    quorum: bool  # enough agents answered the proposal that is due, or none is
    rolling: bool = False  # the panel itself is being rolled out
    chain: tuple[Certified, ...] = ()
    count: Count | None = None
    newest: Mapping[str, int] = field(default_factory=dict)
    agreed: tuple[Certificate, ...] = ()
