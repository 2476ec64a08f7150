"""Two models' collections of one table in a real PostgreSQL, and embedders whose vectors follow from text and model."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from reembed.core.model import Arm, CollectionPlan, Desired
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Page, Written
from tests.fixtures import fake_embedder, stores
from tests.fixtures.fake_embedder import EmbedderServer
from tests.fixtures.postgres import Database

DOCUMENTS = 60
OLD = Arm("old", "c_old", "fp-old")
NEW = Arm("new", "c_new", "fp-new")
DIMENSIONS = {OLD: 8, NEW: 12}


async def embedding(server: EmbedderServer, request: web.Request) -> web.StreamResponse:
    """Answer with a vector that depends on text and model, so that a document's own text finds it and nothing else."""
    (text,) = (await request.json())["input"]
    arm = OLD if server.fingerprint == OLD.fingerprint else NEW
    vector = base64.b64encode(vector_of(arm, text)).decode()
    return web.json_response({"fingerprint": server.fingerprint, "data": [{"index": 0, "embedding": vector}]})


def vector_of(arm: Arm, text: str) -> bytes:
    return stores.vector_of(text, DIMENSIONS[arm], salt=arm.fingerprint)


async def fill(database: Database, keeper: Keeper, arm: Arm) -> None:
    """Make the arm's collection, fill it in one page and build its index."""
    plan = CollectionPlan(arm.collection, arm.pool, arm.fingerprint, DIMENSIONS[arm], 1, Desired.INDEXED)
    await keeper.create(stores.SPEC, plan)
    async with ShardStore(database.owner_dsn) as shards:
        lease = await shards.claim(arm.collection, 0)
        found = await shards.read(lease, None, DOCUMENTS)
        written = tuple(Written(one.id, b"0" * 16, vector_of(arm, one.text or "")) for one in found)
        await shards.commit(lease, Page(None, found[-1].id, written, ()), {})
        await shards.finish(await shards.claim(arm.collection, 0))
    await keeper.build_index(arm.collection)


@asynccontextmanager
async def filled(database: Database, uid: str = stores.UID, key: str = stores.KEY) -> AsyncIterator[Keeper]:
    """Make the table and fill both collections, for the worker of an index with this UID and key."""
    stores.Documents(database).create(DOCUMENTS)
    async with Keeper(database.owner_dsn, key, uid) as keeper:
        await keeper.prepare(stores.SPEC)
        for arm in (OLD, NEW):
            await fill(database, keeper, arm)
        yield keeper


@asynccontextmanager
async def embedders() -> AsyncIterator[dict[str, str]]:
    """Serve both models; yield their addresses by pool."""
    async with (
        fake_embedder.listening(OLD.fingerprint) as old,
        fake_embedder.listening(NEW.fingerprint) as new,
    ):
        old.behaviour = new.behaviour = embedding
        yield {OLD.pool: old.url, NEW.pool: new.url}
