"""The store of one index as its worker sees it: `Keeping` of the protocol, over one small pool of connections.

Each verb is a few lines of SQL in a module of its own; this class holds what they share, the pool and whose index it
is. It decides nothing: what should be is the worker's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psycopg

from reembed.core.model import (
    BuildReport,
    CollectionPlan,
    EvaluationReport,
    EvaluationSpec,
    IndexSpec,
    InspectionReport,
    PointerPlan,
    Problem,
    TextSizes,
    VectorIndex,
)
from reembed.stores.pgvector import capture, collections, evaluations, indexes, inspections, pointers, schema, space
from reembed.stores.pgvector import search as searches
from reembed.stores.pgvector.connection import Pooled, conninfo, pool, transaction, using
from reembed.stores.pgvector.preflight import Asked, first_problem
from reembed.stores.pgvector.tables import identifier
from reembed.stores.protocol import Filter, Held, Hit, Labels, Space

_APPLICATION = "reembed-worker"
_USUAL = VectorIndex()
_CONNECTIONS = 4  # the pass, an index build, a count, an evaluation's searches
# What a server says, in whatever language, cannot be told apart by a code before a session exists.
_REFUSALS = ("password", "authentication", "pg_hba.conf", "role ", "permission")


class Keeper(Pooled):
    """`async with Keeper(dsn, index_key, uid) as store:`; it opens without waiting for the database."""

    def __init__(self, dsn: str, index_key: str, uid: str) -> None:
        self._conninfo = conninfo(dsn, _APPLICATION)
        self._owner = (index_key, uid)
        super().__init__(pool(dsn, _CONNECTIONS, _APPLICATION, timeout=5))

    async def preflight(self, spec: IndexSpec) -> Problem | None:
        try:
            # A connection of its own: the pool keeps to itself why it has none.
            async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True):
                pass
        except psycopg.Error as error:
            return _unreachable(error)
        async with transaction(self._pool, 30) as connection:
            return await first_problem(connection, Asked(spec, *self._owner))

    async def prepare(self, spec: IndexSpec) -> None:
        await schema.migrate(self._pool)
        if spec.gateway_role is not None:
            await schema.grant_search(self._pool, spec.gateway_role)
        if spec.agent_role is not None:
            await schema.grant_read(self._pool, spec.agent_role, [identifier(spec.schema, spec.table)])

    async def capture(self, spec: IndexSpec) -> Problem | None:
        return await capture.keep(self._pool, self._owner, spec)

    async def claim(self) -> None:
        await pointers.claim(self._pool, self._owner)

    async def documents(self, spec: IndexSpec) -> int:
        return await collections.documents(self._pool, spec)

    async def texts(self, spec: IndexSpec, documents: int) -> tuple[TextSizes, ...]:
        return await collections.texts(self._pool, spec, documents)

    async def held(self) -> tuple[Held, ...]:
        return await collections.held(self._pool, self._owner)

    async def space(self) -> Space:
        return await space.measure(self._pool, self._owner)

    async def create(self, spec: IndexSpec, plan: CollectionPlan) -> None:
        await collections.create(self._pool, self._owner, spec, plan)

    async def build_index(self, collection: str, shape: VectorIndex = _USUAL) -> None:
        await indexes.build(self._pool, collection, shape)

    async def discard_index(self, collection: str) -> None:
        await indexes.discard(self._pool, collection)

    async def building(self, vectors: Mapping[str, int]) -> dict[str, BuildReport]:
        return await indexes.building(self._pool, vectors)

    async def withdraw(self, collection: str) -> None:
        await collections.withdraw(self._pool, collection)

    async def drop(self, collection: str) -> None:
        await collections.drop(self._pool, collection)

    async def release(self) -> None:
        await pointers.release(self._pool, self._owner)

    async def pointer(self) -> PointerPlan | None:
        return await pointers.current(self._pool, self._owner[0])

    async def move_pointer(self, plan: PointerPlan) -> None:
        await pointers.move(self._pool, self._owner, plan)

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        return await evaluations.labels(self._pool, spec, index)

    async def present(self, index: IndexSpec, ids: Collection[str]) -> frozenset[str]:
        return await evaluations.present(self._pool, index, ids)

    async def evaluation(self, evaluation_id: str) -> EvaluationReport | None:
        return await evaluations.recorded(self._pool, evaluation_id)

    async def record(self, report: EvaluationReport) -> None:
        await evaluations.record(self._pool, self._owner[0], report)

    async def inspections(self) -> tuple[InspectionReport, ...]:
        return await inspections.recorded(self._pool, self._owner)

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        async with using(self._pool, 30) as connection:
            return await searches.search(connection, collection, fingerprint, vector, k, within)


def _unreachable(error: psycopg.Error) -> Problem:
    lines = [line for line in str(error).strip().splitlines() if "FATAL" in line] or str(error).strip().splitlines()
    found = lines[0] if lines else type(error).__name__
    if any(word in found for word in _REFUSALS):
        return Problem(
            "StoreAuthenticationFailed",
            f"PostgreSQL refuses the connection ({found}); nothing was changed. Correct the user or password in the "
            "index's Secret, or the server's pg_hba.conf",
        )
    return Problem(
        "StoreUnreachable",
        f"PostgreSQL does not answer ({found}); it is tried again. Check host, port and database in the index's "
        "Secret, and whether network policies let the store worker through",
    )
