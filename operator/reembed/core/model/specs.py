"""What users write: pools, indexes and migrations as they are wished for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from reembed.core.hooks import Hook


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


class WeightType(Enum):
    """In which type a model's weights are multiplied; the vectors of all are of one space."""

    AUTO = "Auto"  # what the pod's CPU multiplies fastest, measured when it starts
    AS_FILE = "AsFile"


class MaintainedBy(Enum):
    """Who writes the vectors of a column that was adopted."""

    APPLICATION = "Application"
    REEMBED = "Reembed"


class Device(Enum):
    """What computes in a pod."""

    CPU = "CPU"
    GPU = "GPU"


class Metric(Enum):
    """How two vectors are compared."""

    COSINE = "Cosine"
    INNER_PRODUCT = "InnerProduct"
    EUCLIDEAN = "Euclidean"


class Store(Enum):
    """What holds documents and vectors."""

    PGVECTOR = "pgvector"
    CHROMA = "Chroma"


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
class Hosted:
    """A model that somebody else runs behind OpenAI's API, as far as it changes vectors."""

    name: str  # as the endpoint calls it
    max_characters: int  # of a text; how it is cut into tokens is not known here
    generation: int = 1  # raised by whoever accepts that the endpoint has another model under the same name
    send_dimensions: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One embedding model and everything that changes its vectors.

    Of a hosted one `uri` is the endpoint, `sha256` is empty and `pooling` says nothing: its file is not known.
    """

    uri: str
    sha256: str
    pooling: Pooling
    dimensions: int
    max_tokens: int
    truncate: Truncate = Truncate.END
    query_prefix: str = ""
    document_prefix: str = ""
    hosted: Hosted | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of pod that can run a pool's model."""

    name: str
    min_replicas: int = 1
    max_replicas: int = 1
    device: Device = Device.CPU
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a pod should carry, and how long fewer pods must be enough before any goes."""

    memory_target: float = 0.7  # of the memory limit, less what is mapped
    latency_target: timedelta = timedelta(milliseconds=500)  # p95 of live requests
    queue_target: int = 16_384  # tokens that wait in a pod
    scale_down_window: timedelta = timedelta(minutes=5)
    paused: bool = False


@dataclass(frozen=True, slots=True)
class DownloadSpec:
    """How a file is asked for at hf:// and s3://."""

    secret_name: str | None = None
    endpoint: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A reference to one key of a Secret; the operator never reads what it holds."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class ConfigMapKey:
    """A reference to one key of a ConfigMap."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Validation:
    """Texts with the vectors that a pool's pods must give them, in a ConfigMap, and how near is near enough."""

    config_map: ConfigMapKey
    min_cosine: float = 0.999


@dataclass(frozen=True, slots=True)
class External:
    """How much may be asked of a hosted model, and by whom. None is no bound but what the endpoint itself says."""

    secret: SecretKey | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_tokens: int | None = None  # of background texts, for as long as the pool exists


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """An EmbedderPool as its user wrote it; its variants are in order of preference."""

    model: Model
    variants: tuple[Variant, ...]
    claim_name: str | None = None  # a PersistentVolumeClaim with the model file, for file:// URIs
    download: DownloadSpec = DownloadSpec()
    cache_claim: str | None = None  # a PersistentVolumeClaim in which pods share model files
    default_input_type: InputType | None = None
    weight_type: WeightType = WeightType.AUTO
    text_cache: int = 32 << 20  # bytes of each pod for vectors of live texts that repeat
    scaling: Scaling = Scaling()
    validation: Validation | None = None
    external: External | None = None  # of a hosted model, whose only variant asks for its vectors


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """How vector indexes are built (HNSW, with pgvector's defaults), and how much one must find to answer."""

    m: int = 16
    ef_construction: int = 64
    min_recall: float = 0.9  # of the 10 nearest vectors; 0 is not to measure


@dataclass(frozen=True, slots=True)
class Adopted:
    """Vectors that the application's table has already, of the model of `pool`; they answer until a migration."""

    column: str
    pool: str
    maintained_by: MaintainedBy = MaintainedBy.APPLICATION


@dataclass(frozen=True, slots=True)
class PanelRef:
    """Whose votes an index needs before queries move: a Panel, and the digest of its first members.

    The digest is what is believed; the object is where the members of now are found.
    """

    namespace: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An EmbeddingIndex as its user wrote it."""

    owner_secret: SecretKey  # connection string of the role that owns schema `reembed`
    gateway_secret: SecretKey  # connection string of the role that searches
    gateway_role: str | None  # the database role of gateway_secret; None if it is the owner's
    schema: str
    table: str
    id_column: str
    text_column: str | None  # None: `text_sql` says what is embedded
    metric: Metric = Metric.COSINE
    gateway_replicas: int = 2
    gateway_requests: Mapping[str, str] = field(default_factory=dict)
    gateway_limits: Mapping[str, str] = field(default_factory=dict)
    capacity: int | None = None  # bytes that the database may become, by its owner's word
    vector_index: VectorIndex = VectorIndex()
    text_sql: str | None = None  # an expression over the columns of a row
    filter: str | None = None  # a condition over them; a row that does not satisfy it is no document
    metadata: tuple[str, ...] = ()  # columns that a search returns and may filter by
    group_column: str | None = None  # names the document that a row is a part of; None: a row is a document
    adopted: Adopted | None = None
    store: Store = Store.PGVECTOR
    panel: PanelRef | None = None  # None: the operator decides alone
    agent_role: str | None = None  # the database role of the panel's agents, which only reads


class CutAt(Enum):
    """Where a part of a document ends."""

    SENTENCE = "Sentence"
    LINE = "Line"
    TOKEN = "Token"  # noqa: S105 no secret


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut into parts that are embedded each by itself; queries never are."""

    max_tokens: int  # of a part, without prefix and special tokens
    overlap_tokens: int = 0  # of a part's end that the next one repeats
    at: CutAt = CutAt.SENTENCE


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


class Decides(Enum):
    """Who decides over the traffic of a migration."""

    PANEL = "Panel"
    OPERATOR = "Operator"


@dataclass(frozen=True, slots=True)
class Consensus:
    """Who the user expects to decide, None for whoever the index names; how long a proposal waits for its votes."""

    mode: Decides | None = None
    deadline: timedelta = timedelta(minutes=2)


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
    chunking: Chunking | None = None  # None: every document is one text
    acknowledge: tuple[str, ...] = ()  # reasons that preflight shall not refuse for
    consensus: Consensus = Consensus()
