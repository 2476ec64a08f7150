"""With a real PostgreSQL: two models' collections of one table, queried through the gateway while traffic moves."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from reembed.core.model import Arm, CollectionPlan, Desired, Routing
from reembed.gateway.app import Settings
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Page, Written
from tests.fixtures import fake_embedder, gateways, stores
from tests.fixtures.fake_embedder import EmbedderServer
from tests.fixtures.gateways import Listening
from tests.fixtures.postgres import Database
from tests.fixtures.routing import FakeSource

DOCUMENTS = 60
OLD = Arm("old", "c_old", "fp-old")
NEW = Arm("new", "c_new", "fp-new")
DIMENSIONS = {OLD: 8, NEW: 12}
ALL_ON_NEW = Routing(epoch=2, serving=OLD, candidate=NEW, weight=100)


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
async def running(database: Database, routing: Routing = ALL_ON_NEW) -> AsyncIterator[tuple[Listening, Keeper]]:
    stores.Documents(database).create(DOCUMENTS)
    async with Keeper(database.owner_dsn, stores.KEY, stores.UID) as keeper:
        await keeper.prepare(stores.SPEC)
        for arm in (OLD, NEW):
            await fill(database, keeper, arm)
        async with (
            fake_embedder.listening(OLD.fingerprint) as old,
            fake_embedder.listening(NEW.fingerprint) as new,
            Searcher(database.gateway_dsn, 4) as searcher,
        ):
            old.behaviour = new.behaviour = embedding
            urls = {OLD.pool: old.url, NEW.pool: new.url}
            source = FakeSource(routing)
            async with gateways.listening(Settings("default", "docs", "pod"), source, urls, searcher) as gateway:
                yield gateway, keeper


async def ids(gateway: Listening, number: int) -> tuple[str, str, bool]:
    """Return the arm that answered the text of a document, the best document, and whether it fell back."""
    status, answer = await gateway.search(f"text {number}", k=5)
    assert (status, len(answer["results"])) == (200, 5)
    return answer["arm"], answer["results"][0]["id"], answer["fellBack"]


@pytest.mark.parametrize(("weight", "arms"), [(0, {"serving"}), (50, {"serving", "candidate"}), (100, {"candidate"})])
async def test_each_text_finds_its_document_by_either_model(database: Database, weight: int, arms: set[str]) -> None:
    async with running(database, Routing(2, OLD, NEW, weight)) as (gateway, _):
        found = [await ids(gateway, number) for number in range(1, DOCUMENTS + 1)]
        assert [best for _, best, _ in found] == [str(number) for number in range(1, DOCUMENTS + 1)]
        assert {arm for arm, _, _ in found} == arms


async def test_a_withdrawn_collection_answers_nothing_more(database: Database) -> None:
    async with running(database) as (gateway, keeper):
        assert await ids(gateway, 7) == ("candidate", "7", False)
        await keeper.withdraw(NEW.collection)
        assert await ids(gateway, 7) == ("serving", "7", True)


async def test_a_candidate_whose_model_is_not_the_collections_answers_nothing(database: Database) -> None:
    mixed = Arm(OLD.pool, NEW.collection, OLD.fingerprint)
    async with running(database, Routing(2, OLD, mixed, 100)) as (gateway, _):
        assert await ids(gateway, 7) == ("serving", "7", True)
