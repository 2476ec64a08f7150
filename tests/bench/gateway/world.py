"""A real PostgreSQL with an indexed collection, and queries whose nearest document is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from hack.console import say
from reembed.core.model import CollectionPlan, Desired, VectorIndex
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Page, Written
from tests.bench.gateway.arm import ARM
from tests.fixtures import stores
from tests.fixtures.postgres import Database

DIMENSIONS = 384
QUERIES = 1000
_PAGE = 2000
# Vectors of texts lie near a surface of few dimensions; random ones have no neighbours, which no index is made for.
_LATENT = 32

Vectors = npt.NDArray[np.float32]


def documents(count: int) -> Vectors:
    """Return unit vectors of as many documents; the same ones each time."""
    random = np.random.default_rng(7)
    surface = random.standard_normal((_LATENT, DIMENSIONS), np.float32)
    return _unit(random.standard_normal((count, _LATENT), np.float32) @ surface)


def queries(of: Vectors, file: Path) -> list[str]:
    """Write vectors of queries to `file`, and return the id of the document that each must find first."""
    random = np.random.default_rng(8)
    near = random.choice(len(of), QUERIES, replace=False)
    np.save(file, _unit(of[near] + 0.01 * random.standard_normal((QUERIES, DIMENSIONS), np.float32)))
    return [str(row + 1) for row in near]


async def fill(database: Database, vectors: Vectors) -> None:
    """Make table, schema and collection as a migration does, and build the index."""
    stores.Documents(database).create(len(vectors))
    plan = CollectionPlan(ARM.collection, ARM.pool, ARM.fingerprint, DIMENSIONS, 1, Desired.INDEXED)
    async with Keeper(database.owner_dsn, stores.KEY, stores.UID) as keeper, ShardStore(database.owner_dsn) as shards:
        await keeper.prepare(stores.SPEC)
        await keeper.create(stores.SPEC, plan)
        lease = await shards.claim(ARM.collection, 0)
        after = None
        while found := await shards.read(lease, after, _PAGE):
            written = tuple(Written(one.id, b"0" * 16, vectors[int(one.id) - 1].tobytes()) for one in found)
            await shards.commit(lease, Page(after, found[-1].id, written, ()), {})
            after = found[-1].id
        await shards.finish(lease)
        say("building the index")
        # Of random vectors, which no index finds as well as those of a model; what it finds is not the question here.
        await keeper.build_index(ARM.collection, VectorIndex(min_recall=0))


def _unit(rows: Vectors) -> Vectors:
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")
    return unit
