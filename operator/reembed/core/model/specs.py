"""What users write of pools and indexes, as they are wished for; `migration_specs` has migrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum


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
