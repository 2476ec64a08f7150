"""What Reembed asks of a vector store, in a few verbs for each of its three users.

`Searching` is the gateway's side, `Filling` a backfill pod's, `Keeping` the store worker's. Document ids are their text
form everywhere: the store alone knows their type and their order. Vectors are little-endian float32 bytes.

An implementation keeps three promises. A search whose fingerprint is not its collection's raises and never answers. A
page is stored whole together with its shard's position, or not at all, and only for the pod that holds the shard. All
verbs may be repeated: whoever died after any of them does the same again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from reembed.core.chunking import Span
from reembed.core.model import (
    BuildReport,
    CollectionPlan,
    EvaluationReport,
    EvaluationSpec,
    IndexSpec,
    InspectionReport,
    LeftReport,
    PointerPlan,
    Problem,
    Survey,
    TextSizes,
    VectorIndex,
)

# What documents must be: a value, a list of values or {operator: value} by the name of a metadata column.
Filter = Mapping[str, Any]


class StoreError(Exception):
    """The store did not do what was asked. Its text never holds a connection string."""


class StoreUnavailable(StoreError):
    """The store does not answer, or not in time; asking again later may help."""


class StoreBusy(StoreUnavailable):
    """Somebody holds a lock that is needed; it is not waited for, so that nobody queues up behind the wait."""


class CollectionMismatch(StoreError):
    """The collection is not of this fingerprint, is not indexed, is withdrawn or gone: its answer would be wrong."""


class Unfit(StoreError):
    """What was asked for cannot be done until its owner changes something; `problem` says what."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class FilterRefused(StoreError):
    """A caller's filter names what the index does not list, or a value that its column cannot have."""


class Fenced(StoreError):
    """Another pod took the shard over; this one must stop and must not count as having finished it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found; a higher score is nearer, whatever the metric.

    Where the source groups its rows, `id` names the group, or a row that is of none.
    """

    id: str
    score: float
    span: Span | None = None  # the part of its text that was nearest; None: it is not cut
    metadata: Mapping[str, Any] | None = None  # of its columns that the source lists
    row: str | None = None  # of a group the nearest row, whose metadata it has; None: rows are not grouped


@dataclass(frozen=True, slots=True)
class Document:
    """A row of the source; `text` is None where it is NULL, or where its expression `failed` for this row."""

    id: str
    text: str | None
    failed: str | None = None  # with which error, as a code and its name: never a word of the row


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document's text with its vector."""

    span: Span
    vector: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """A document that gets its vector; of one that is cut, `vector` is of its first part, and `others` are the rest.

    All of them are stored, in place of all that there were, or none is.
    """

    id: str
    text_hash: bytes
    vector: bytes
    span: Span | None = None  # of the first part, in a collection that is cut
    others: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document that cannot have a vector, and why."""

    id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Debt:
    """A collection lacks a change of this document; `rev` orders a document's changes."""

    id: str
    rev: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a debt's document is now; None where the source, or the collection with a vector, does not have it."""

    debt: Debt
    document: Document | None
    text_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Paid:
    """What pays a debt: a vector, a rejection, None for a document that is gone, or the text hash that is kept."""

    debt: Debt
    outcome: Written | Rejected | bytes | None


@dataclass(frozen=True, slots=True)
class Differences:
    """What a comparison of source and collection found, of changes that nobody owes."""

    missing: int = 0
    stale: int = 0
    orphaned: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Documents stored in one transaction: those behind `after` up to `last`, in the order of their ids."""

    after: str | None  # None: the shard's first page
    last: str
    written: tuple[Written, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The table of the documents, the column that names one, and its text: a column or an expression."""

    schema: str
    table: str
    id_column: str
    text_column: str | None
    text_sql: str | None = None  # over the row's own columns
    filter: str | None = None  # over them too; None: every row is a document
    metadata: tuple[str, ...] = ()  # columns that a search returns and may filter by
    group_column: str | None = None  # names the document that a row is a part of; None: a row is a document

    @property
    def plain(self) -> bool:
        """Whether every row is a document whose text is a column: nothing is evaluated that could fail."""
        return self.text_sql is None and self.filter is None


@dataclass(frozen=True, slots=True)
class Lease:
    """A shard in the hands of one pod, valid while nobody else took it; `token` proves it."""

    collection: str
    shard: int
    token: int
    source: Source
    id_type: str  # as the store writes it
    lower: str | None  # the shard holds lower < id <= upper; None is no bound
    upper: str | None
    position: str | None  # the last id stored; None: nothing yet
    done: bool
    fingerprint: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds of one collection. `state` is Filling, Indexed or Withdrawn."""

    name: str
    fingerprint: str
    dimensions: int
    state: str
    shards: int
    shards_done: int
    written: int
    rejected: int
    total: int
    stages: tuple[Mapping[str, float], ...]  # busy shares by stage, one of each shard that moved lately
    verified: bool = True  # compared with the source since capture was last broken, and nothing was missing
    recall: float | None = None  # of its vector index; None: not measured
    shape: tuple[int, int] | None = None  # its index's m and efConstruction; None: not recorded
    followed: bool = True  # by Reembed; an adopted column may be the application's to keep fresh


@dataclass(frozen=True, slots=True)
class Space:
    """What is on disk, in bytes: the whole database, each of the index's collections, and what others left.

    `left` are collections of an index of the same name that was deleted.
    """

    database: int
    collections: Mapping[str, int]
    left: tuple[LeftReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled queries: the documents that answer each, without those that left the source, and its slices."""

    relevant: Mapping[str, frozenset[str]]
    vanished: int
    slices: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document of the source as it is now, with the vector that is stored of it."""

    id: str
    text: str
    vector: bytes


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """What a document is from now on, or that it is gone; for stores in which applications write through Reembed."""

    id: str
    text: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A document's revision, which only grows."""

    id: str
    rev: int


@runtime_checkable
class Writing(Protocol):
    """What a gateway needs where documents are written through it, since no trigger could see other writes."""

    async def write(self, writes: Sequence[DocumentWrite]) -> list[Stored]:
        """Store documents, each once; durable, and marked to be followed, when it returns."""
        ...

    async def written(self, document: str) -> tuple[Stored, DocumentWrite] | None:
        """Return a document as it was written last, None if there is none."""
        ...


class Searching(Protocol):
    """What a gateway and the evaluation need."""

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        """Return the `k` nearest documents, of the rows within the filter, or raise FilterRefused."""
        ...


class Filling(Protocol):
    """What a backfill pod needs."""

    async def claim(self, collection: str, shard: int) -> Lease:
        """Take the shard over from whoever held it."""
        ...

    async def read(self, lease: Lease, after: str | None, limit: int) -> list[Document]:
        """Return the shard's next documents behind `after`, in the order of their ids; none if nothing is left.

        They are fewer than `limit` where texts are large.
        """
        ...

    async def commit(self, lease: Lease, page: Page, stages: Mapping[str, float]) -> None:
        """Store the page and move the shard's position, or raise Fenced; a repetition changes nothing."""
        ...

    async def finish(self, lease: Lease) -> None:
        """Mark the shard as done, or raise Fenced."""
        ...


class Following(Protocol):
    """What the follower of live writes needs."""

    async def spread(self, after: int) -> tuple[int, int]:
        """Turn marks above a revision into debts of all live collections; return their number and the highest."""
        ...

    async def owed(self, collection: str, limit: int, but: Sequence[str] = ()) -> list[Debt]: ...

    async def read(self, collection: str, debts: Sequence[Debt]) -> list[Change]: ...

    async def pay(self, collection: str, paid: Sequence[Paid]) -> int:
        """Store what pays the debts and clear those that did not grow meanwhile; return how many were cleared."""
        ...

    async def lag(self) -> dict[str, tuple[int, float]]:
        """Return of each live collection its debts and the age of the oldest, in seconds."""
        ...

    async def compare(self, collection: str, after: str | None, limit: int) -> tuple[Differences, str | None]:
        """Compare the next documents with the collection and owe what differs; None is behind the last of them."""
        ...

    async def compared(self, collection: str, epoch: int, found: Differences) -> None:
        """Record that the whole source was compared, in this epoch of capture."""
        ...

    async def epoch(self) -> int:
        """Return the unbroken stretch of capture, 0 if there is none."""
        ...


class Inspecting(Protocol):
    """What a Job that inspects a collection needs; nothing is changed by it but what `record` keeps."""

    async def survey(self, collection: str) -> Survey:
        """Count what the collection and its source hold, in samples of what is too much."""
        ...

    async def sample(self, collection: str, count: int) -> list[Sampled]:
        """Return up to so many documents by chance, of those whose text is what their vector was made of."""
        ...

    async def record(self, report: InspectionReport) -> None:
        """Keep an outcome; the first one of its id holds."""
        ...


class Keeping(Searching, Protocol):
    """What the store worker of one index needs; the store is opened for that index and its UID."""

    async def preflight(self, spec: IndexSpec) -> Problem | None:
        """Return why the store cannot be used, None if it can."""
        ...

    async def prepare(self, spec: IndexSpec) -> None:
        """Make the store's own tables and let the gateways search."""
        ...

    async def capture(self, spec: IndexSpec) -> Problem | None:
        """See that live writes are captured, or return why they are not; repairs what was taken away."""
        ...

    async def claim(self) -> None:
        """Say that the store's rows of this index are this UID's; preflight finds out if they are not."""
        ...

    async def documents(self, spec: IndexSpec) -> int: ...

    async def texts(self, spec: IndexSpec, documents: int) -> tuple[TextSizes, ...] | None:
        """Return how long texts are, by a sample of so many documents; None where nothing is ever cut."""
        ...

    async def held(self) -> tuple[Held, ...]: ...

    async def space(self) -> Space:
        """Measure what is on disk; a table that somebody works on makes it StoreBusy."""
        ...

    async def create(self, spec: IndexSpec, plan: CollectionPlan) -> None:
        """Make an empty collection with its shards; nothing happens if it is there."""
        ...

    async def build_index(self, collection: str, shape: VectorIndex) -> None:
        """Build the collection's vector index, measure what it finds and let it answer, or raise StoreBusy.

        What was withdrawn stays so: nobody kept it fresh since.
        """
        ...

    async def discard_index(self, collection: str) -> None:
        """Drop the vector index of a collection that answers nobody, so that it is built again."""
        ...

    async def building(self, vectors: Mapping[str, int]) -> dict[str, BuildReport]:
        """Return how far the vector indexes are that are being built, of collections with so many vectors."""
        ...

    async def withdraw(self, collection: str) -> None: ...

    async def drop(self, collection: str) -> None: ...

    async def release(self) -> None:
        """Give the index's claim back; its collections stay, withdrawn."""
        ...

    async def pointer(self) -> PointerPlan | None: ...

    async def move_pointer(self, plan: PointerPlan) -> None:
        """Move the pointer unless it is of this generation or a later one, or the collection does not answer."""
        ...

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        """Return the labelled queries of the table that `spec` names."""
        ...

    async def present(self, index: IndexSpec, ids: Collection[str]) -> frozenset[str]:
        """Return those of `ids` that are in the source."""
        ...

    async def evaluation(self, evaluation_id: str) -> EvaluationReport | None: ...

    async def record(self, report: EvaluationReport) -> None: ...

    async def inspections(self) -> tuple[InspectionReport, ...] | None:
        """Return the last outcomes of each collection, the newest first; None where nothing inspects this store."""
        ...
