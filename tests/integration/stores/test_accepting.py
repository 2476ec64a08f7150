"""The row of what gateways accepted: it only moves forwards, and only their role moves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from reembed.core.acceptance import Accepted
from reembed.core.model import Arm, PointerPlan, Routing
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher
from reembed.stores.protocol import StoreError, StoreUnavailable
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan

OLD = Arm("old", "c_old", "fp-old")
NEW = Arm("new", "c_new", "fp-new")
PANEL = "a" * 64
TEN = Accepted(Routing(4, OLD, NEW, 10), PANEL, 2)


@asynccontextmanager
async def remembering(database: Database, size: int = 2) -> AsyncIterator[tuple[Searcher, Keeper]]:
    Documents(database).create(1)
    async with (
        Keeper(database.owner_dsn, KEY, UID) as keeper,
        Searcher(database.gateway_dsn, size, KEY) as gateway,
    ):
        await keeper.prepare(SPEC)
        await keeper.claim()
        yield gateway, keeper


def at(epoch: int, weight: int = 0) -> Accepted:
    return Accepted(Routing(epoch, OLD, NEW, weight), PANEL, 2)


async def test_what_was_accepted_is_read_as_it_was_written(database: Database) -> None:
    async with remembering(database) as (gateway, _):
        assert await gateway.accepted(UID) == (None, None)
        assert await gateway.accept(UID, TEN) == TEN
        assert await gateway.accepted(UID) == (TEN, None)
        only = Accepted(Routing(5, NEW))
        assert await gateway.accept(UID, only) == only


async def test_a_row_never_goes_back_nor_becomes_another_of_its_epoch(database: Database) -> None:
    async with remembering(database) as (gateway, _):
        await gateway.accept(UID, TEN)
        assert await gateway.accept(UID, at(3)) == TEN
        assert await gateway.accept(UID, at(4, 100)) == TEN


async def test_gateways_that_race_end_with_the_highest_epoch_and_all_of_them_know_it(database: Database) -> None:
    async with remembering(database, 8) as (gateway, _):
        epochs = [7, 3, 9, 1, 8, 2, 6, 5, 4] * 4
        found = await asyncio.gather(*[gateway.accept(UID, at(epoch)) for epoch in epochs])
        assert await gateway.accepted(UID) == (at(9), None)
        assert all(row.routing.epoch >= epoch for row, epoch in zip(found, epochs, strict=True))


async def test_older_members_of_a_panel_never_follow_newer_ones(database: Database) -> None:
    async with remembering(database) as (gateway, _):
        await gateway.accept(UID, replace(at(4), version=5))
        assert (await gateway.accept(UID, replace(at(5), version=3))).version == 5
        assert (await gateway.accept(UID, replace(at(6), anchor="b" * 64, version=1))).version == 1


async def test_another_object_of_the_same_name_has_a_row_of_its_own(database: Database) -> None:
    async with remembering(database) as (gateway, _):
        await gateway.accept(UID, TEN)
        assert await gateway.accepted("another") == (None, None)
        assert await gateway.accept("another", at(1)) == at(1)
        assert await gateway.accepted(UID) == (TEN, None)


async def test_the_pointer_is_told_beside_the_row(database: Database) -> None:
    pointer = PointerPlan("c_new", "fp-new", 1)
    async with remembering(database) as (gateway, keeper):
        await keeper.create(SPEC, plan())
        Documents(database).run("UPDATE reembed.shard SET done = true")
        await keeper.build_index("c_new")
        await keeper.move_pointer(pointer)
        assert await gateway.accepted(UID) == (None, pointer)
        await gateway.accept(UID, TEN)
        assert await gateway.accepted(UID) == (TEN, pointer)


async def test_an_index_that_is_released_leaves_no_row(database: Database) -> None:
    async with remembering(database) as (gateway, keeper):
        await gateway.accept(UID, TEN)
        await keeper.release()
        assert await gateway.accepted(UID) == (None, None)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO reembed.accepted VALUES ('k', 'u', 1, '{}', '', 0)",
        "UPDATE reembed.accepted SET epoch = 1",
        "DELETE FROM reembed.accepted",
        "SELECT * FROM reembed.accepted",
    ],
)
async def test_the_gateways_role_has_no_way_to_the_row_but_the_functions(database: Database, statement: str) -> None:
    async with remembering(database) as (gateway, _):
        await gateway.accept(UID, TEN)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            Documents(database).run(statement, dsn=database.gateway_dsn)


async def test_nobody_else_may_say_what_gateways_accepted(database: Database) -> None:
    documents, name = Documents(database), f"other_{database.name}"
    role = sql.Identifier(name)
    async with remembering(database):
        documents.run(sql.SQL("CREATE ROLE {}").format(role), dsn=database.superuser_dsn)
        try:
            documents.run(sql.SQL("GRANT USAGE ON SCHEMA reembed TO {}").format(role))
            may = (
                "SELECT bool_or(has_function_privilege(%s, oid, 'EXECUTE')) FROM pg_proc WHERE proname LIKE 'accept%%'"
            )
            assert documents.rows(may, [name]) == [(False,)]
        finally:
            documents.run(sql.SQL("DROP OWNED BY {}").format(role), dsn=database.superuser_dsn)
            documents.run(sql.SQL("DROP ROLE {}").format(role), dsn=database.superuser_dsn)


async def test_a_row_that_somebody_wrote_by_hand_is_no_routing(database: Database) -> None:
    async with remembering(database) as (gateway, _):
        await gateway.accept(UID, TEN)
        Documents(database).run('UPDATE reembed.accepted SET routing = \'{"weight": "all"}\'')
        with pytest.raises(StoreError, match="cannot be understood"):
            await gateway.accepted(UID)


async def test_a_store_that_is_away_says_so() -> None:
    async with Searcher("postgresql://nobody@127.0.0.1:9/none", 1, KEY) as gateway:
        with pytest.raises(StoreUnavailable):
            await gateway.accept(UID, TEN)
