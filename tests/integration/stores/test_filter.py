"""Metadata of documents: what a search returns of them, what it finds within a filter, and which filters it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from reembed.core.model import PointerPlan
from reembed.stores.pgvector.search import Searcher
from reembed.stores.protocol import FilterRefused, StoreError
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, Documents, vector_of
from tests.integration.stores.test_search import searching

LISTED = replace(SPEC, metadata=("lang", "year", "tags", "price", "day", "draft", "code", "spot"))
TABLE = """
ALTER TABLE docs ADD lang text, ADD year int, ADD tags text[], ADD price numeric, ADD day date, ADD draft boolean,
    ADD code varchar(3), ADD spot point, ADD secret text DEFAULT 'hidden';
UPDATE docs SET lang = CASE WHEN id % 3 = 0 THEN 'de' WHEN id % 3 = 1 THEN 'en' END, year = 2000 + id,
    tags = ARRAY['all', 'n' || id % 10], price = id / 2.0, day = date '2026-01-01' + id::int, draft = id % 2 = 0,
    code = 'abc'"""
SMALL = 30


@asynccontextmanager
async def listed(database: Database, count: int = SMALL) -> AsyncIterator[Searcher]:
    Documents(database).create(count).run(TABLE)
    async with searching(database, LISTED) as (_, searcher):
        yield searcher


async def found(searcher: Searcher, within: Mapping[str, Any] | None, k: int = SMALL) -> set[int]:
    hits = await searcher.search("c_new", "fp-new", vector_of("a question"), k, within)
    return {int(hit.id) for hit in hits}


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        pytest.param({"lang": "en"}, lambda n: n % 3 == 1, id="a value"),
        pytest.param({"lang": None}, lambda n: n % 3 == 2, id="null"),
        pytest.param({"lang": {"ne": None}}, lambda n: n % 3 != 2, id="not null"),
        pytest.param({"lang": {"ne": "en"}}, lambda n: n % 3 != 1, id="what is not known differs"),
        pytest.param({"lang": ["en", "fr"]}, lambda n: n % 3 == 1, id="a list"),
        pytest.param({"lang": []}, lambda _: False, id="an empty list"),
        pytest.param({"year": {"gte": 2010, "lt": 2015}}, lambda n: 10 <= n < 15, id="a range"),
        pytest.param({"year": {"gt": 2010}, "lang": "de"}, lambda n: n > 10 and n % 3 == 0, id="two columns"),
        pytest.param({"price": {"lte": 4.5}}, lambda n: n <= 9, id="a number with a fraction"),
        pytest.param({"day": "2026-01-05"}, lambda n: n == 4, id="a date"),
        pytest.param({"draft": True}, lambda n: n % 2 == 0, id="a truth"),
        pytest.param({"tags": {"contains": "n7"}}, lambda n: n % 10 == 7, id="an array that contains it"),
        pytest.param({"code": "abcd"}, lambda _: False, id="a value that is longer than its column is not cut"),
        pytest.param({"lang": "e'n; DROP TABLE docs --"}, lambda _: False, id="a quote"),
        pytest.param({}, lambda _: True, id="an empty filter"),
        pytest.param(None, lambda _: True, id="no filter"),
    ],
)
async def test_a_search_finds_all_documents_within_its_filter_and_no_others(
    database: Database, within, expected
) -> None:
    async with listed(database) as searcher:
        assert await found(searcher, within) == {n for n in range(1, SMALL + 1) if expected(n)}


async def test_few_documents_among_many_are_found_although_the_vector_index_gives_up_before(database: Database) -> None:
    async with listed(database, 30_000) as searcher:
        assert await found(searcher, {"year": {"gte": 31_990}}, 5) <= set(range(29_990, 30_001))
        assert len(await found(searcher, {"year": {"gte": 31_990}}, 11)) == 11


async def test_what_is_listed_comes_with_a_document_and_nothing_else(database: Database) -> None:
    async with listed(database) as searcher:
        hit = (await searcher.search("c_new", "fp-new", vector_of("text 4"), 1))[0]
    assert hit.metadata == {
        "lang": "en",
        "year": 2004,
        "tags": ["all", "n4"],
        "price": 2.0,
        "day": "2026-01-05",
        "draft": True,
        "code": "abc",
        "spot": None,
    }


@pytest.mark.parametrize(
    ("within", "message"),
    [
        pytest.param({"secret": "hidden"}, 'filter names "secret", and spec.source.metadata', id="an unlisted column"),
        pytest.param({"no'thing": 1}, 'filter names "no\'thing"', id="no column"),
        pytest.param({"year": "soon"}, 'filter of "year" has the value "soon", which is no integer', id="no number"),
        pytest.param({"year": 2.5}, 'filter of "year" has the value "2.5"', id="a fraction of a year"),
        pytest.param({"year": 10**30}, 'filter of "year" has the value', id="too large a number"),
        pytest.param(
            {"day": "2026-02-30"}, 'filter of "day" has the value "2026-02-30", which is no date', id="no day"
        ),
        pytest.param({"year": {"near": 3}}, 'filter of "year" has "near" 3; known are', id="no operator"),
        pytest.param({"year": {"in": 3}}, 'filter of "year" has "in" 3; known are', id="a list that is none"),
        pytest.param({"year": {"lt": [3]}}, 'filter of "year" has "lt" [3]; known are', id="a list that must be none"),
        pytest.param({"year": {"lt": None}}, 'filter of "year" has "lt" null; known are', id="an order of null"),
        pytest.param({"lang": {"contains": "e"}}, 'filter of "lang" has "contains"', id="a text that contains"),
        pytest.param({"spot": "(1,2)"}, 'filter names "spot", whose type point cannot be compared so', id="a point"),
        pytest.param({"year": {"eq": {"eq": 1}}}, 'filter of "year" has "eq"', id="deeper than it may be"),
        pytest.param({"tags": []}, 'filter of "tags" has "in" []; known are', id="a list for an array"),
        pytest.param({"lang": ["en", None]}, "in with a list without null", id="null in a list"),
        pytest.param({"tags": "{" * 8 + "a" + "}" * 8}, 'filter of "tags" has the value', id="too many dimensions"),
        pytest.param({"lang": "x" * 1001}, "a value of more than 1000 characters", id="a value without end"),
    ],
)
async def test_a_filter_that_cannot_be_honoured_is_refused(database: Database, within, message: str) -> None:
    async with listed(database) as searcher:
        with pytest.raises(FilterRefused) as caught:
            await found(searcher, within)
    assert message in str(caught.value)


async def test_an_application_searches_what_answers_and_never_with_a_vector_of_another_model(
    database: Database,
) -> None:
    Documents(database).create(SMALL).run(TABLE)
    query = "SELECT id, metadata ->> 'lang' FROM reembed.search_index(%s, %s, %s, 3, '{\"lang\": \"en\"}')"
    vector = "[1,2,3,4,5,6,7,8]"
    async with searching(database, LISTED) as (keeper, _):
        with psycopg.connect(database.gateway_dsn, autocommit=True) as application:
            with pytest.raises(psycopg.Error, match="nothing answers for index default/docs") as before:
                application.execute(query, [KEY, "fp-new", vector])
            await keeper.claim()
            await keeper.move_pointer(PointerPlan(PLAN.name, PLAN.fingerprint, 1))
            rows = application.execute(query, [KEY, "fp-new", vector]).fetchall()
            with pytest.raises(psycopg.Error, match="answered by vectors of fp-new, the query is of fp-old") as after:
                application.execute(query, [KEY, "fp-old", vector])
    assert ([lang for _, lang in rows], before.value.sqlstate, after.value.sqlstate) == (["en"] * 3, "RE001", "RE001")


async def test_a_filter_that_is_refused_changes_nothing_for_those_who_come_after(database: Database) -> None:
    async with listed(database) as searcher:
        for within in ({"spot": []}, {"tags": []}, {"spot": "(1,2)"}):
            with suppress(FilterRefused):
                await found(searcher, within)
        (hit,) = await searcher.search("c_new", "fp-new", vector_of("text 4"), 1, {"lang": "en"})
    assert hit.metadata is not None


@pytest.mark.parametrize("given", [("NULL", "3"), ("'fp-new'", "NULL"), ("'fp-new'", "0")])
async def test_a_search_without_a_model_or_a_number_is_an_error_and_no_answer(
    database: Database, given: tuple[str, str]
) -> None:
    async with listed(database):
        with pytest.raises(psycopg.Error):
            Documents(database).rows(
                f"SELECT * FROM reembed.find('c_new', {given[0]}, '[1,2,3,4,5,6,7,8]', {given[1]})"
            )


async def test_a_column_that_is_gone_and_a_row_that_is_no_json_keep_no_search_from_answering(
    database: Database,
) -> None:
    Documents(database).create(SMALL).run(TABLE.replace("spot point", "spot json"))
    async with searching(database, LISTED) as (_, searcher):
        odd = chr(92) + "u0000"
        Documents(database).run(f"""UPDATE docs SET spot = '{{"a": "{odd}"}}' WHERE id = 4""")
        Documents(database).run("ALTER TABLE docs DROP COLUMN price")
        hits = {hit.id: hit.metadata for hit in await searcher.search("c_new", "fp-new", vector_of("text 4"), SMALL)}
    assert (len(hits), hits["4"], (hits["5"] or {}).get("year")) == (SMALL, None, 2005)


async def test_rights_on_the_columns_that_are_named_are_enough(database: Database) -> None:
    async with listed(database) as searcher:
        Documents(database).run("REVOKE SELECT ON docs FROM CURRENT_USER")
        Documents(database).run(
            "GRANT SELECT (id, body, lang, year, tags, price, day, draft, code, spot) ON docs TO CURRENT_USER"
        )
        assert await found(searcher, {"lang": "en"}) == {n for n in range(1, SMALL + 1) if n % 3 == 1}


async def test_a_filter_waits_for_the_schema_that_knows_it(database: Database) -> None:
    async with listed(database) as searcher:
        Documents(database).run("DROP FUNCTION reembed.search_index; DROP FUNCTION reembed.find CASCADE")
        with pytest.raises(StoreError, match="has not brought schema reembed to the version that filters"):
            await found(searcher, {"lang": "en"})
