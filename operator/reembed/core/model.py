"""What the core sees of the API's objects: frozen values in the units of the design, parsed once by `reembed.api`.

Shares are 0 to 1, weights are whole percent of query traffic (0 to 100), times are aware datetimes, durations are
timedeltas. None means "not there", never "zero". Nothing here reads a raw API dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from reembed.core.hooks import Hook
from reembed.core.sequences import Sample


class Pooling(Enum):
    """How token vectors become one vector."""

    MEAN = "Mean"
    CLS = "Cls"
    LAST = "Last"


class Truncate(Enum):
    """What happens to a text longer than the model's limit."""

    END = "End"  # its end is cut off, and counted
    REFUSE = "Refuse"  # it is rejected


class InputType(Enum):
    """Which prefix a text gets."""

    QUERY = "Query"
    DOCUMENT = "Document"


class Metric(Enum):
    """How two vectors are compared."""

    COSINE = "Cosine"
    INNER_PRODUCT = "InnerProduct"
    EUCLIDEAN = "Euclidean"


class NoData(Enum):
    """What a missing measurement means. It never means that all is well."""

    HOLD = "Hold"  # progress stops, the time held stands still
    ROLL_BACK = "RollBack"  # counts as exceeded


class Approval(Enum):
    """Whether somebody has to say that a step may be left."""

    NONE = "None"
    REQUIRED = "Required"


class Operator(Enum):
    """On which side of its threshold a value exceeds it."""

    ABOVE = "Above"
    BELOW = "Below"


@dataclass(frozen=True, slots=True)
class Model:
    """One embedding model and everything that changes its vectors."""

    uri: str
    sha256: str
    pooling: Pooling
    dimensions: int
    max_tokens: int
    truncate: Truncate = Truncate.END
    query_prefix: str = ""
    document_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of pod that can run a pool's model."""

    name: str
    min_replicas: int = 1
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """An EmbedderPool as its user wrote it."""

    model: Model
    variants: tuple[Variant, ...]
    claim_name: str | None = None  # a PersistentVolumeClaim with the model file, for file:// URIs
    default_input_type: InputType | None = None


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A reference to one key of a Secret; the operator never reads what it holds."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An EmbeddingIndex as its user wrote it."""

    owner_secret: SecretKey  # connection string of the role that owns schema `reembed`
    gateway_secret: SecretKey  # connection string of the role that searches
    gateway_role: str | None  # the database role of gateway_secret; None if it is the owner's
    schema: str
    table: str
    id_column: str
    text_column: str
    metric: Metric = Metric.COSINE
    gateway_replicas: int = 2
    gateway_requests: Mapping[str, str] = field(default_factory=dict)
    gateway_limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One canary step: this share of query traffic, for at least this long, and left by somebody's word if so asked."""

    weight: int
    hold: timedelta
    approval: Approval = Approval.NONE


@dataclass(frozen=True, slots=True)
class Limit:
    """A rollback trigger's limit. At most one of `share`, `factor`, `absolute`, `number` is set, as the trigger needs.

    What was exceeded is over only once the value is back by `hysteresis`, a share of the limit: a value that swings
    around its limit neither resets the time held nor adds to it while it is below.
    """

    hold: timedelta
    share: float | None = None  # of memory or of requests
    factor: float | None = None  # of the recorded baseline
    absolute: timedelta | None = None
    number: float | None = None
    no_data: NoData = NoData.HOLD
    dry_run: bool = False  # told, and never acted upon
    hysteresis: float = 0.1


@dataclass(frozen=True, slots=True)
class PrometheusLimit:
    """A trigger of the user's own: a PromQL query with one value, and the side of `limit.number` where it belongs."""

    name: str
    query: str
    operator: Operator
    limit: Limit


@dataclass(frozen=True, slots=True)
class Limits:
    """`spec.rollback.triggers`: defaults are the mission's. None is the trigger's default, where it can be measured."""

    memory: Limit = Limit(hold=timedelta(minutes=5), share=0.90)
    error_rate: Limit = Limit(hold=timedelta(minutes=3), share=0.05)
    latency: Limit = Limit(hold=timedelta(minutes=2), factor=10.0)
    retrieval: Limit | None = None
    pointer: Limit = Limit(hold=timedelta(minutes=1))
    agents: Limit | None = None
    consensus: Limit | None = None
    follower_lag: Limit | None = None
    prometheus: tuple[PrometheusLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigMapKey:
    """A reference to one key of a ConfigMap."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """Labelled queries in the index's own database, one row a (query, relevant document), or in a ConfigMap.

    Each label may name the slice that its query belongs to. `config_map` stands in place of the table, whose fields
    then mean nothing.
    """

    schema: str
    table: str
    query_column: str
    id_column: str
    k: int = 10
    margin: float = 0.02  # of MRR@k: how much worse still counts as no worse
    min_queries: int = 100
    slice_column: str | None = None  # None: queries of the table belong to no slice
    config_map: ConfigMapKey | None = None
    slice_margin: float = 0.05  # of a slice's MRR@k
    slice_min_queries: int = 30  # with fewer, a slice is not judged


class GateKind(Enum):
    """What a canary gate looks at."""

    ERROR_RATE = "ErrorRate"  # share of the candidate's queries that fail
    LATENCY = "Latency"  # its p95
    SHADOW_OVERLAP = "ShadowOverlap"  # share of results that both sides give to the same query
    RETRIEVAL = "Retrieval"  # loss of MRR on labelled queries, answered as live ones are


@dataclass(frozen=True, slots=True)
class CanaryGate:
    """What must be shown of the candidate before a step is left, by the one threshold that its kind has."""

    name: str
    kind: GateKind
    share: float | None = None
    factor: float | None = None  # of the recorded baseline
    absolute: timedelta | None = None


@dataclass(frozen=True, slots=True)
class GateStanding:
    """Where a gate stands: Holds, Undecided or Fails, with the numbers."""

    name: str
    standing: str
    message: str


@dataclass(frozen=True, slots=True)
class MigrationSpec:
    """An EmbeddingMigration as its user wrote it."""

    index: str
    pool: str
    from_pool: str | None
    steps: tuple[Step, ...]
    shards: int = 8
    parallelism: int = 2
    rejected_share: float = 0.01
    evaluation: EvaluationSpec | None = None
    limits: Limits = Limits()
    retention: timedelta = timedelta(hours=1)
    drop: bool = False
    progress_deadline: timedelta = timedelta(hours=24)
    deadline: timedelta | None = None  # of everything up to retention
    paused: bool = False
    depends_on: tuple[str, ...] = ()
    shadow: float = 0.05  # share of the queries that are also put to the other side
    gates: tuple[CanaryGate, ...] = ()
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class Meta:
    """What every object carries."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    deleting: bool = False
    finalizers: tuple[str, ...] = ()


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
    the share of the queries that are put to both sides; it says nothing of who answers, and no epoch.
    """

    epoch: int = 0
    serving: Arm | None = None
    candidate: Arm | None = None
    weight: int = 0
    shadow: float = 0.0


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


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something cannot be done: a reason for programs, a message for people."""

    reason: str
    message: str


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
    """What the store worker says at GET /status."""

    problem: Problem | None
    pointer: PointerPlan | None
    documents: int | None
    collections: tuple[CollectionReport, ...] = ()
    evaluation: EvaluationReport | None = None
    lag: timedelta | None = None  # of the follower of live writes; None if none runs
    retrieval: Sample | None = None  # losses of reciprocal rank, serving - candidate, by live plans


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What one gateway pod says at GET /v1/index: what it serves right now, whatever it was told."""

    pod: str
    epoch: int
    weight: int
    serving: Arm | None
    candidate: Arm | None


@dataclass(frozen=True, slots=True)
class ArmMeasure:
    """One arm's traffic over the last window, before any fall-back."""

    requests: int
    errors: int
    p95: timedelta | None  # None without enough answers


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
class TriggerState:
    """How long a trigger has been exceeded, in observed time: gaps between looks do not count."""

    since: datetime
    held: timedelta
    last_seen: datetime
    hold: timedelta = timedelta(0)  # what `held` has to reach
    value: str = ""  # the last one seen, and its limit, for people
    threshold: str = ""
    dry_run: bool = False


class Verb(Enum):
    """What a person can command, each by an annotation of its own."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asks for, for one object at one point of its life, once."""

    verb: Verb
    uid: str
    at: str  # `Status.at` when it was given
    nonce: str
    problem: str = ""  # why it cannot be read


@dataclass(frozen=True, slots=True)
class Consumed:
    """A command that was answered."""

    verb: Verb
    nonce: str
    at: str
    time: datetime
    accepted: bool
    message: str


@dataclass(frozen=True, slots=True)
class Emergency:
    """Protection of pods that are short of memory or near a rollback: what can wait does, until it is clear again."""

    since: datetime
    reason: str
    message: str
    clear_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Excused:
    """Time that no deadline counts: altogether, in the present state, and since when it runs."""

    total: timedelta = timedelta(0)
    in_state: timedelta = timedelta(0)
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PanelReport:
    """What is known of the agents that vote: how many there are, may be faulty and are gone, and whether one is due."""

    members: int
    faulty: int  # that are tolerated
    gone: int
    vote_due: bool  # a proposal for traffic or completion waits
    quorum: bool  # enough agents answered the proposal that is due, or none is
    rolling: bool = False  # the panel itself is being rolled out
