"""With a real PostgreSQL: two models' collections of one table, queried through the gateway while traffic moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reembed.core.model import Arm, Routing
from reembed.gateway.app import Settings
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher
from tests.fixtures import gateways
from tests.fixtures.gateways import Listening
from tests.fixtures.postgres import Database
from tests.fixtures.routing import FakeSource
from tests.integration.gateway.two_models import DOCUMENTS, NEW, OLD, embedders, filled

ALL_ON_NEW = Routing(epoch=2, serving=OLD, candidate=NEW, weight=100)


@asynccontextmanager
async def running(database: Database, routing: Routing = ALL_ON_NEW) -> AsyncIterator[tuple[Listening, Keeper]]:
    async with filled(database) as keeper, embedders() as urls, Searcher(database.gateway_dsn, 4) as searcher:
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
