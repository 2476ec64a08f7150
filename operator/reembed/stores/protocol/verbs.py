"""The verbs of a store, for each of its users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from reembed.core.acceptance import Accepted
from reembed.core.model import (
    BuildReport,
    CollectionPlan,
    EvaluationReport,
    EvaluationSpec,
    IndexSpec,
    InspectionReport,
    PointerPlan,
    Problem,
    Survey,
    TextSizes,
    VectorIndex,
)
from reembed.stores.protocol.values import (
    Change,
    Debt,
    Differences,
    Document,
    DocumentWrite,
    Filter,
    Held,
    Hit,
    Labels,
    Lease,
    Page,
    Paid,
    Sampled,
    Space,
    Stored,
    Watching,
)


@runtime_checkable
class Writing(Protocol):
    """What a gateway needs where documents are written through it, since no trigger could see other writes."""

    async def write(self, writes: Sequence[DocumentWrite]) -> list[Stored]:
        """Store documents, each once; durable, and marked to be followed, when it returns."""
        ...

    async def written(self, document: str) -> tuple[Stored, DocumentWrite] | None:
        """Return a document as it was written last, None if there is none."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """What a gateway needs of an index with a panel: which routing gateways accepted, for the life of its UID."""

    async def accepted(self, uid: str) -> tuple[Accepted | None, PointerPlan | None]:
        """Return what was accepted last, None if nothing was, and the index's pointer."""
        ...

    async def accept(self, uid: str, wanted: Accepted) -> Accepted:
        """Write what is accepted unless that has this epoch or a higher one already; return what is there now."""
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

    async def watched(self, collection: str, grace: float, count: int) -> Watching:
        """Return up to `count` documents of an adopted column that its application keeps.

        Their texts changed more than `grace` seconds ago, the newest first; where none did, they are any.
        """
        ...


class Inspecting(Protocol):
    """What a Job that inspects a collection needs; nothing is changed by it but what `record` keeps."""

    async def survey(self, collection: str, most: int) -> Survey:
        """Count what about `most` rows of the collection and of its source hold, or raise StoreSlow."""
        ...

    async def sample(self, collection: str, count: int, most: int) -> list[Sampled]:
        """Return up to `count` documents by chance, of those whose text is what their vector was made of.

        They are taken from about `most` rows; raises StoreSlow.
        """
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
