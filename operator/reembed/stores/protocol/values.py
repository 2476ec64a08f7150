"""What goes to a store and comes from it: documents with their vectors, leases, and what is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reembed.core.chunking import Span
from reembed.core.model import LeftReport

# What documents must be: a value, a list of values or {operator: value} by the name of a metadata column.
Filter = Mapping[str, Any]


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
class Watched:
    """A document of the source as it is now, with what its application's own column holds of it, None for nothing."""

    id: str
    text: str
    vector: bytes | None


@dataclass(frozen=True, slots=True)
class Watching:
    """Documents by which it is judged whether an application keeps its column fresh."""

    documents: tuple[Watched, ...]
    changed: bool  # some time ago, as capture saw; else they were taken by chance


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
