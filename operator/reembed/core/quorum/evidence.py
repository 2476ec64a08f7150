"""What one agent measured by itself before it judged: plain values, None where nothing was measured.

Every look says when it was taken, by the agent's own clock. `panel` fills these; `judging` and `roles` read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reembed.core.load import Load
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import Arm, GatewayReport, Meta, PointerPlan, PoolSpec
from reembed.core.quorum.certificates import Certified
from reembed.core.quorum.membership import Membership

# Two intervals in which pods are asked: older measurements are of another time.
FRESH = timedelta(seconds=30)
# A half of the labelled queries is searched once and then renewed little by little; so is the sample of vectors.
FRESH_QUERIES = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class PoolObject:
    """A pool as the API server has it, with the names of its pods that are ready."""

    meta: Meta
    spec: PoolSpec
    fingerprint: str
    ready: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Objects:
    """What the agent read from the API server. `terms` is the digest of what the migration's user asked for.

    `certified_by` is when the share of now was taken over at the latest, by the panel's certificate for it; None where
    the index has no certificate that holds.
    """

    at: datetime
    index: SeenIndex
    migration: Migration | None = None
    terms: str = ""
    pools: Mapping[str, PoolObject] = field(default_factory=dict)
    forced: bool = False  # somebody took all queries back by annotation
    certified_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gateways:
    """What the index's gateway pods say that they serve. `followed_since` is by the agent's own looks.

    It is when the last look was before which not all of them served what the index says; None while they do not.
    """

    at: datetime
    running: tuple[str, ...]
    reports: tuple[GatewayReport, ...]
    followed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodAnswers:
    """How one ready pod answered the agent's probes."""

    texts: int = 0
    problem: str = ""  # what was wrong with an answer, or that there was none
    cosine: float | None = None  # smallest, with what the same text gave before; None: there is nothing before
    nearest: float | None = None  # share of texts that are nearest to what they gave before
    seconds: float | None = None  # median
    memory: float | None = None  # share of its limit that cannot be reclaimed


@dataclass(frozen=True, slots=True)
class Loading:
    """How a pod fetched its model: bytes, and what its source did meanwhile."""

    done: float = 0.0
    size: float = 0.0  # 0: it was at hand
    bytes_per_second: float | None = None  # between two looks at one that was being fetched
    breaker: str = "closed"
    transient: float | None = None  # most bytes that its process held while it was fetched, beside the mapped file
    accuracy: float | None = None  # share of the references that are met, where the pool has some
    class_cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Pods:
    """All ready pods of one pool."""

    at: datetime
    answers: Mapping[str, PodAnswers]
    load: Load = field(default_factory=Load)
    loading: Mapping[str, Loading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection as the store holds it; `valid` is whether its vector index is there and whole."""

    name: str
    fingerprint: str
    dimensions: int
    state: str
    shards: int
    shards_done: int
    written: int
    rejected: int
    total: int
    valid: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """The index's rows in the store."""

    at: datetime
    collections: tuple[Collection, ...]
    pointer: PointerPlan | None

    def collection(self, name: str) -> Collection | None:
        return next((one for one in self.collections if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The agent's own half of the labelled queries, in both sides. `at` is when the oldest of them was asked.

    `differences` are candidate - serving, of reciprocal ranks; those measured so far.
    """

    at: datetime
    arms: tuple[Arm | None, Arm]  # serving, candidate
    labelled: int  # queries in all
    asked: int  # in the half
    half: str  # its digest
    differences: tuple[float, ...]
    labels: str = ""  # digest of all labelled queries with their documents: who judges by others shows


@dataclass(frozen=True, slots=True)
class Sample:
    """Stored vectors of the candidate, drawn by the agent, against the same texts embedded again."""

    at: datetime
    collection: str
    cosines: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was expected of the share of now before it was given, and what came; p95 of texts in seconds, texts/s."""

    weight: int
    predicted_p95: float | None
    seen_p95: float | None
    predicted_rate: float | None
    seen_rate: float | None


@dataclass(frozen=True, slots=True)
class PanelObject:
    """The Panel: its members of now with the way that led to them, and those that its user wishes for."""

    at: datetime
    meta: Meta
    wished: Membership
    chain: tuple[Certified, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that one agent knows of what a proposal is about.

    `other` is the digest of another proposal that the agent saw in the same slot before, `failed` why what was to be
    measured last was not, by what it is.
    """

    objects: Objects | None = None
    gateways: Gateways | None = None
    pods: Mapping[str, Pods] = field(default_factory=dict)  # by pool
    stored: Stored | None = None
    retrieval: Retrieval | None = None
    sample: Sample | None = None
    prediction: Prediction | None = None
    panel: PanelObject | None = None
    other: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
