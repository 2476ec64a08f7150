"""What was found in a collection by looking at it: counts of a survey, and the report that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """How many there are of something, and the ids of a few."""

    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Norms:
    """The lengths of the vectors that have one: neither zero nor beyond what a float32 holds."""

    least: float
    median: float
    most: float
    outside: int  # of 1 ± 0.01
    counted: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a store counted of one collection and its source. Shares are of `read` documents or of `vectors`.

    Both are samples where there are more than are looked at; `documents` is what there is then, about.
    """

    collection: str
    fingerprint: str
    metric: str
    documents: int
    read: int
    vectors: int
    dimensions: Mapping[int, int] = field(default_factory=dict)  # vectors by their number of dimensions
    other_dimensions: tuple[str, ...] = ()  # ids of a few that have not what most have
    norms: Norms | None = None
    zero: Counted = Counted()
    not_finite: Counted = Counted()
    not_unit: Counted = Counted()
    shared: Counted = Counted()  # documents whose vector is also that of another text
    most_texts: int = 0  # that share one vector
    repeated: Counted = Counted()  # documents whose vector very many have, whatever their texts
    without_text: Counted = Counted()
    without_vector: Counted = Counted()
    without_document: Counted = Counted()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be in a collection."""

    reason: str
    count: int
    share: float
    examples: tuple[str, ...]  # ids of a few documents
    message: str


@dataclass(frozen=True, slots=True)
class Reproduced:
    """How near the stored vectors are to those that a pool makes of the same documents now."""

    sample: int
    median: float  # cosine
    low: float  # cosine, of the twentieth part that is farthest
    share: float  # of the sample that is near enough


@dataclass(frozen=True, slots=True)
class InspectionReport:
    """The outcome of one inspection. `id` says who asked for it, `fingerprint` is the collection's."""

    id: str
    at: datetime
    collection: str
    fingerprint: str
    documents: int
    inspected: int
    findings: tuple[Finding, ...] = ()
    reproduced: Reproduced | None = None  # None: there was no document to embed again, or no pool to do it
    norms: Norms | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What a look at a few documents says of a column that its application is to keep fresh.

    `looked` have a text; of those `missing` have no vector, and of `compared` ones, which were embedded again, `far`
    have a vector that is not their text's.
    """

    changed: bool  # the documents' texts changed lately; else they were taken by chance
    looked: int
    missing: int
    compared: int
    far: int
    examples: tuple[str, ...] = ()  # ids of a few that are missing or far
    problem: str = ""  # why the column cannot be read


@dataclass(frozen=True, slots=True)
class AskedInspection:
    """What somebody asks for by annotation, once; None is the collection that answers."""

    uid: str
    nonce: str
    collection: str | None = None
    problem: str = ""  # why it cannot be read
