"""What an agent of the panel reads of an index's store: it writes nothing, and its role could not.

Counts, pointer, labels, searches in a collection by its name, and a few stored vectors with their texts. Nothing here
imports numpy, so that an agent stays small.
"""

from __future__ import annotations

from collections.abc import Collection as Several

from reembed.core.model import EvaluationSpec, IndexSpec, PointerPlan
from reembed.core.quorum.evidence import Collection
from reembed.stores.pgvector import evaluations
from reembed.stores.pgvector.connection import Pooled, pool, using
from reembed.stores.pgvector.counts import counting
from reembed.stores.pgvector.inspection import InspectionStore
from reembed.stores.pgvector.search import search
from reembed.stores.protocol import Labels, Sampled

_SECONDS = 15.0
_APPLICATION = "reembed-panel"
_CONNECTIONS = 2  # a search, and whatever else is looked at
_SAMPLED_ROWS = 20_000  # that a sample is drawn from; of a larger table, so many of it

# Of an adopted column the application may have an index of its own, or none; search finds without.
_HELD = counting("""
       to_jsonb(c) ->> 'adopted' IS NOT NULL OR EXISTS (
           SELECT FROM pg_index i JOIN pg_class r ON r.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
           JOIN pg_am a ON a.oid = x.relam
           WHERE r.relnamespace = 'reembed'::regnamespace AND r.relname = c.name AND a.amname = 'hnsw'
             AND i.indisvalid AND i.indisready)""")
_POINTER = "SELECT collection, fingerprint, generation FROM reembed.pointer WHERE index_key = %s"


class AgentReader(Pooled):
    """`async with AgentReader(dsn, index_key, uid) as store:`; it opens without waiting for the database."""

    def __init__(self, dsn: str, index_key: str, uid: str) -> None:
        super().__init__(pool(dsn, _CONNECTIONS, _APPLICATION, timeout=5))
        self._owner = (index_key, uid)
        self._sampling = InspectionStore(dsn)

    async def open(self) -> None:
        await super().open()
        await self._sampling.open()

    async def close(self) -> None:
        await self._sampling.close()
        await super().close()

    async def held(self) -> tuple[Collection, ...]:
        """Return the index's collections, the oldest first."""
        async with using(self._pool, _SECONDS) as connection:
            cursor = await connection.execute(_HELD, list(self._owner))
            return tuple([Collection(*row) for row in await cursor.fetchall()])

    async def pointer(self) -> PointerPlan | None:
        async with using(self._pool, _SECONDS) as connection:
            row = await (await connection.execute(_POINTER, [self._owner[0]])).fetchone()
            return PointerPlan(*row) if row else None

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        """Return the labelled queries of the index's database.

        Raises:
            Unfit: the table, one of its columns or the right to read it is missing.

        """
        return await evaluations.labels(self._pool, spec, index)

    async def present(self, index: IndexSpec, ids: Several[str]) -> frozenset[str]:
        return await evaluations.present(self._pool, index, ids)

    async def search(self, collection: str, fingerprint: str, vector: bytes, k: int) -> list[str]:
        """Return the ids of the `k` documents nearest to `vector`, as a gateway would find them."""
        async with using(self._pool, _SECONDS) as connection:
            return [hit.id for hit in await search(connection, collection, fingerprint, vector, k)]

    async def sample(self, collection: str, count: int) -> list[Sampled]:
        """Return a few stored vectors with the texts that they are of, by the database's chance."""
        return await self._sampling.sample(collection, count, _SAMPLED_ROWS)
