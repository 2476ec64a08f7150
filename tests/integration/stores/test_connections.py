"""Searches over connections that a pooler shares, that are few, that broke, and to a schema that is older."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib.resources import files

import psycopg
import pytest
from psycopg import sql

from reembed.core.model import Metric
from reembed.stores.pgvector import schema
from reembed.stores.pgvector.connection import pool, using
from reembed.stores.pgvector.search import Searcher, literal
from reembed.stores.protocol import Hit
from tests.fixtures import pooler
from tests.fixtures.postgres import GATEWAY, Database
from tests.fixtures.stores import SPEC, Documents, plan, vector_of
from tests.integration.stores.test_search import searching

_AT_ONCE = 40


async def found(searcher: Searcher, number: int) -> str:
    (hit,) = await searcher.search("c_new", "fp-new", vector_of(f"text {number}"), 1)
    return hit.id


async def all_found(searcher: Searcher) -> bool:
    numbers = range(1, _AT_ONCE + 1)
    return await asyncio.gather(*(found(searcher, number) for number in numbers)) == [str(number) for number in numbers]


async def prepared(searcher: Searcher) -> list[str]:
    """Return the statements that are prepared in a session of the searcher's."""
    async with searcher._pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%%reembed.%%'", prepare=False
        )
        return [row[0] for row in await cursor.fetchall()]


@pytest.mark.parametrize("dimensions", [8, 2001])
@pytest.mark.parametrize("metric", list(Metric))
async def test_a_vector_in_binary_finds_what_its_text_finds(
    database: Database, dimensions: int, metric: Metric
) -> None:
    documents = Documents(database).create(40)
    query = vector_of("a question", dimensions)
    spec, made = replace(SPEC, metric=metric), plan(dimensions=dimensions, shards=1)
    async with searching(database, spec, made) as (_, searcher):
        hits = await searcher.search("c_new", "fp-new", query, 7)
    rows = documents.rows("SELECT id, score FROM reembed.search('c_new', 'fp-new', %s, 7)", [literal(query)])
    assert hits == [Hit(*row) for row in rows]
    assert len(hits) == 7


async def test_statements_are_prepared_where_the_server_is_at_the_other_end(database: Database) -> None:
    Documents(database).create(_AT_ONCE)
    async with searching(database) as (_, searcher):
        assert await all_found(searcher)
        (statement,) = await prepared(searcher)
    assert "reembed.find" in statement


async def test_nothing_is_prepared_behind_a_pooler_that_changes_the_session(database: Database) -> None:
    Documents(database).create(_AT_ONCE)
    async with (
        searching(database),
        pooler.pooling(database.gateway_dsn, 3) as dsn,
        Searcher(dsn, 4) as one,
        Searcher(dsn, 4) as other,
    ):
        for _ in range(3):
            assert await asyncio.gather(all_found(one), all_found(other)) == [True, True]
        assert await prepared(one) == []
        # So it would go otherwise.
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                await connection.execute("SELECT 1")


async def test_a_server_that_allows_few_connections_answers_all_the_same(database: Database) -> None:
    documents = Documents(database).create(_AT_ONCE)
    allow = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
    async with searching(database):
        documents.run(allow.format(sql.Identifier(GATEWAY), sql.Literal(2)), dsn=database.superuser_dsn)
        try:
            async with Searcher(database.gateway_dsn, 10) as searcher:
                assert await all_found(searcher)
        finally:
            documents.run(allow.format(sql.Identifier(GATEWAY), sql.Literal(-1)), dsn=database.superuser_dsn)


async def test_connections_that_broke_while_they_idled_cost_no_search(database: Database) -> None:
    documents = Documents(database).create(_AT_ONCE)
    async with searching(database) as (_, searcher):
        assert await all_found(searcher)
        for _ in range(3):
            documents.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reembed-gateway'",
                dsn=database.superuser_dsn,
            )
            assert await all_found(searcher)


async def test_a_gateway_that_is_newer_than_the_schema_searches_by_text_until_it_is_updated(database: Database) -> None:
    documents = Documents(database).create(_AT_ONCE)
    async with searching(database, replace(SPEC, gateway_role=None)) as (keeper, searcher):
        update = [definition for (definition,) in documents.rows(_SEARCHES)]
        for older in ("DROP FUNCTION reembed.nearest, reembed.search_index, reembed.find", search_of_step_1()):
            documents.run(_LOADED + older)
        documents.run(f"GRANT USAGE ON SCHEMA reembed TO {GATEWAY}")
        documents.run(f"GRANT EXECUTE ON FUNCTION reembed.search TO {GATEWAY}")
        searcher._as_text_until = 0.0
        assert await all_found(searcher)
        for definition in update:  # nothing is granted yet
            documents.run(_LOADED + definition)
        documents.run("REVOKE ALL ON FUNCTION reembed.nearest, reembed.search_index, reembed.find FROM PUBLIC")
        searcher._as_text_until = 0.0
        assert await all_found(searcher)
        await keeper.prepare(SPEC)
        searcher._as_text_until = 0.0
        assert await all_found(searcher)
        assert any("reembed.find" in statement for statement in await prepared(searcher))


# The extension's settings may be named in a function once its library is loaded.
_LOADED = "SELECT '[1]'::vector; "
_SEARCHES = """
SELECT pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = 'reembed'::regnamespace AND proname IN ('search', 'nearest', 'find', 'search_index')
ORDER BY proname <> 'find'"""


def search_of_step_1() -> str:
    """Return the function that the schema began with."""
    text = files(schema.__package__).joinpath("schema_1.sql").read_text()
    made = text[text.index("CREATE FUNCTION reembed.search") : text.index("REVOKE ALL ON FUNCTION reembed.search")]
    return sql.SQL(made.replace("CREATE", "CREATE OR REPLACE", 1)).format(ext=sql.Identifier("public")).as_string()


@pytest.mark.parametrize("steps", range(8))
async def test_who_is_cancelled_in_the_moment_in_which_a_connection_is_free_ends(
    database: Database, steps: int
) -> None:
    async def use() -> None:
        async with using(connections, 30):
            await asyncio.Event().wait()

    async with pool(database.owner_dsn, 1, "test", timeout=30) as connections:
        async with using(connections, 30):
            waiting = asyncio.create_task(use())
            await asyncio.sleep(0.05)
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=5)
        waiting.cancel()
    assert done == {waiting}
