"""The store of one index as its worker sees it: `Keeping` of the protocol.

What Chroma has no answer to is refused by name: it tells no sizes (`capacity`), has no tables (labels come from a
ConfigMap), and compares no vector with all others (`minRecall` must be 0). Its vector index grows with the rows, in the
shape that the collection was made with, so to build one is to let the collection answer.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace

from reembed.core.model import (
    BuildReport,
    CollectionPlan,
    EvaluationReport,
    EvaluationSpec,
    IndexSpec,
    InspectionReport,
    LeftReport,
    Metric,
    MetricReport,
    PointerPlan,
    Problem,
    SliceReport,
    Store,
    VectorIndex,
)
from reembed.stores.chroma import held, places, search
from reembed.stores.chroma.client import Address, Chroma, Connected, Missing, Refused, Row
from reembed.stores.chroma.documents import Source
from reembed.stores.chroma.filled import filled, no_table, present
from reembed.stores.chroma.held import Shape, Shapes
from reembed.stores.chroma.notes import Notes
from reembed.stores.protocol import Filter, Held, Hit, Labels, Space, StoreError, Unfit

_SPACES = {Metric.COSINE: "cosine", Metric.INNER_PRODUCT: "ip", Metric.EUCLIDEAN: "l2"}
_USUAL = VectorIndex()
_WINDOW = 4096  # buckets that are counted at once


class Keeper(Connected):
    """`async with Keeper(dsn, index_key, uid) as store:`; it opens without waiting for the server."""

    def __init__(self, dsn: str, index_key: str, uid: str) -> None:
        super().__init__(Chroma(Address.of(dsn), 8))
        self._key, self._uid = index_key, uid
        self._source = Source(self._chroma, places.documents(index_key))
        self._notes = Notes(self._chroma, index_key)
        self._shapes = Shapes(self._chroma)

    async def preflight(self, spec: IndexSpec) -> Problem | None:
        try:
            await self._chroma.heartbeat()
            await self._chroma.database()
        except Missing as error:
            return Problem("DatabaseMissing", f"{error}; nothing was changed. Create it, or correct the index's Secret")
        except Refused as error:
            return Problem(
                "StoreAuthenticationFailed",
                f"{error}; nothing was changed. Correct the user, password or token in the index's Secret",
            )
        except StoreError as error:
            return Problem("StoreUnreachable", f"{error}; it is tried again. Check the address in the index's Secret")
        return _refused(spec) or await self._claimed_by_another() or await self._lost()

    async def prepare(self, spec: IndexSpec) -> None:
        del spec  # nothing of it changes what is made
        await self._notes.make()

    async def capture(self, spec: IndexSpec) -> Problem | None:
        """Make the collection of the documents; a write through the gateway carries its own mark."""
        del spec
        place = places.documents(self._key)
        found = await self._chroma.create(place, {places.KIND: "documents", places.KEY: self._key})
        if await self._notes.documents() != found.id:
            # It was made, or somebody put another one in its place: what is there is compared with it.
            await self._notes.begin_epoch(found.id)
        return None

    async def claim(self) -> None:
        await self._notes.claim(self._uid)

    async def documents(self, spec: IndexSpec) -> int:
        del spec
        count, first = 0, 0
        while first < places.BUCKETS:
            newest, last = await self._source.window(first, min(first + _WINDOW, places.BUCKETS) - 1)
            count += sum(not one.gone for one in newest.values())
            first = last + 1
        return count

    async def texts(self, spec: IndexSpec, documents: int) -> None:
        """Return nothing: documents are not cut here."""
        del spec, documents

    async def held(self) -> tuple[Held, ...]:
        epoch = await self._notes.epoch()
        found = []
        for shape in await self._shapes.all(self._key):
            if shape.uid == self._uid:
                try:
                    found.append(await filled(self._chroma, shape, epoch))
                except Missing:  # it is being dropped
                    self._shapes.forget(shape.name)
        return tuple(found)

    async def space(self) -> Space:
        """Return no sizes, which Chroma does not tell, and what an index of the same name left."""
        left = [one for one in await self._shapes.all(self._key) if one.uid != self._uid]
        return Space(0, {}, tuple([LeftReport(one.name, "Withdrawn", None) for one in left]))

    async def create(self, spec: IndexSpec, plan: CollectionPlan) -> None:
        try:
            shape = await self._shapes.of(plan.name)
        except StoreError as error:
            if not isinstance(error, Missing) and type(error) is not StoreError:
                raise
            shape = await self._create(spec, plan)
        if shape.fingerprint != plan.fingerprint:
            raise StoreError(
                f"collection {plan.name} holds vectors of {shape.fingerprint} where the plan says {plan.fingerprint}; "
                "it was left alone: a collection is filled by one model only, so the migration needs a new attempt"
            )

    async def build_index(self, collection: str, shape: VectorIndex = _USUAL) -> None:
        del shape
        found = await self._shapes.of(collection)
        await self._fact(found, held.INDEXED)

    async def discard_index(self, collection: str) -> None:
        raise Unfit(
            Problem(
                "IndexFixed",
                f"the vector index of {collection} has the shape that Chroma made the collection with; a migration's "
                "new attempt makes another one",
            )
        )

    async def building(self, vectors: Mapping[str, int]) -> dict[str, BuildReport]:
        del vectors
        return {}

    async def withdraw(self, collection: str) -> None:
        shape = await self._shapes.of(collection)
        await self._fact(shape, held.WITHDRAWN)
        # Nobody keeps it fresh from here on, so that it can never answer again.
        rows = await self._chroma.get(shape.owed, include=())
        await self._chroma.delete(shape.owed, [row.id for row in rows])

    async def drop(self, collection: str) -> None:
        pointer = await self._notes.pointer()
        if pointer is not None and pointer.collection == collection:
            raise StoreError(f"collection {collection} was not dropped: the pointer names it; move the pointer first")
        # Without its facts it answers nobody; the vectors go last, since they say that there is something to drop.
        for place in (places.facts(collection), places.owed(collection), places.vectors(collection)):
            await self._chroma.delete_collection(place)
        self._shapes.forget(collection)

    async def release(self) -> None:
        claimed = await self._notes.claimed_by()
        if claimed is None or claimed[0] != self._uid:
            return
        for shape in await self._shapes.all(self._key):
            await self._fact(shape, held.WITHDRAWN)
        await self._notes.forget()

    async def pointer(self) -> PointerPlan | None:
        return await self._notes.pointer()

    async def move_pointer(self, plan: PointerPlan) -> None:
        try:
            shape = await self._shapes.of(plan.collection)
            facts = await self._shapes.facts(shape)
        except StoreError as error:
            if isinstance(error, Missing) or type(error) is StoreError:
                return
            raise
        answers = held.INDEXED in facts and held.WITHDRAWN not in facts
        if answers and (shape.fingerprint, shape.key, shape.uid) == (plan.fingerprint, self._key, self._uid):
            await self._notes.point(plan)

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        del spec, index
        raise no_table()

    async def present(self, index: IndexSpec, ids: Collection[str]) -> frozenset[str]:
        del index
        return await present(self._source, ids)

    async def evaluation(self, evaluation_id: str) -> EvaluationReport | None:
        found = await self._notes.evaluation(evaluation_id)
        if found is None:
            return None
        return replace(
            EvaluationReport(**found),
            metrics=tuple(MetricReport(**one) for one in found["metrics"]),
            slices=tuple(SliceReport(**one) for one in found["slices"]),
        )

    async def record(self, report: EvaluationReport) -> None:
        await self._notes.record(report.id, asdict(report))

    async def inspections(self) -> tuple[InspectionReport, ...] | None:
        """Return None: what Chroma holds is not inspected."""
        return None

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        search.unfiltered(within)
        return await search.search(self._chroma, self._shapes, self._source, (collection, fingerprint, vector, k))

    async def _create(self, spec: IndexSpec, plan: CollectionPlan) -> Shape:
        """Make the collection; its vectors come last, since it is there when they are."""
        total = await self.documents(spec)
        for place in (places.facts(plan.name), places.owed(plan.name)):
            await self._chroma.create(place, {places.KIND: "beside", places.KEY: self._key})
        values = {
            places.KIND: "vectors",
            places.KEY: self._key,
            "uid": self._uid,
            "fingerprint": plan.fingerprint,
            "dimensions": plan.dimensions,
            "metric": spec.metric.value,
            "shards": plan.shards,
            "total": total,
            "created": time.time(),
        }
        index = spec.vector_index
        hnsw = {"space": _SPACES[spec.metric], "max_neighbors": index.m, "ef_construction": index.ef_construction}
        await self._chroma.create(places.vectors(plan.name), values, hnsw)
        self._shapes.forget(plan.name)
        return await self._shapes.of(plan.name)

    async def _fact(self, shape: Shape, name: str) -> None:
        await self._chroma.add(shape.facts, [Row(name, {"at": time.time()}, vector=places.point(name))])

    async def _claimed_by_another(self) -> Problem | None:
        claimed = await self._notes_of_before()
        if claimed is None or claimed[0] == self._uid:
            return None
        return Problem(
            "IndexClaimed",
            f"this database already keeps index {self._key} for another EmbeddingIndex (UID {claimed[0]}), of another "
            f"cluster or deleted since; nothing was changed. If that one is gone, delete row {claimed[1]} of "
            f"collection {places.notes(self._key)}",
        )

    async def _notes_of_before(self) -> tuple[str, str] | None:
        try:
            return await self._notes.claimed_by()
        except Missing:
            return None

    async def _lost(self) -> Problem | None:
        """Return that documents which were there are not: to go on without them would delete every vector."""
        try:
            before = await self._notes.documents()
        except Missing:
            return None
        place = places.documents(self._key)
        if before is None or await self._chroma.find(place) is not None:
            return None
        return Problem(
            "SourceMissing",
            f"collection {place} with the documents of this index is gone, so nothing is changed and nothing answers; "
            "restore it from a backup. If the documents are meant to be gone, delete the EmbeddingIndex",
        )


def _refused(spec: IndexSpec) -> Problem | None:
    if spec.store is not Store.CHROMA:
        return Problem(
            "StoreMismatch",
            f"the index's Secret leads to Chroma where spec.store.type is {spec.store.value}; nothing was changed. "
            "Correct the Secret",
        )
    if spec.vector_index.min_recall > 0 or spec.capacity is not None:
        return Problem(
            "StoreCannot",
            "Chroma tells neither sizes nor the exact nearest vectors, so spec.store.capacity and "
            "spec.vectorIndex.minRecall cannot be kept; leave the first out and set the second to 0",
        )
    if spec.panel is not None:
        return Problem(
            "StoreCannot",
            "Chroma has no roles, so nothing that gateways note of the panel's certificates would be theirs alone, and "
            "spec.panelRef cannot be kept; leave it out, or keep the index in a pgvector store",
        )
    if spec.group_column is not None:
        return Problem(
            "StoreCannot",
            "a Chroma store has no table whose rows spec.source.groupColumn could group, and holds one vector of each "
            "document; leave it out",
        )
    return None
