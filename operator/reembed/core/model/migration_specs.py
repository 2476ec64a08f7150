"""What users write of migrations, as they are wished for: what moves where, by which steps, gates and limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from reembed.core.hooks import Hook
from reembed.core.model.specs import ConfigMapKey


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
