"""Rows that are parts of documents: a search answers the documents, by the column that says which row is of which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from reembed.core.model import Adopted, CollectionPlan, Desired, IndexSpec, PointerPlan
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import Searcher, literal
from reembed.stores.protocol import Hit
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, plan, vector_of
from tests.integration.stores.test_search import searching

GROUPED = replace(SPEC, group_column="page")
COLUMN = CollectionPlan("a_docs", "old", "fp-new", 8, 1, Desired.INDEXED)
COUNT = 60
Search = Callable[..., Awaitable[list[Hit]]]
QUESTION = vector_of("a question")
# Rows 1 to 40 are of ten pages of four rows, 41 to 60 of none.
PAGES = "UPDATE docs SET page = CASE WHEN id <= 40 THEN 'page ' || id % 10 END"


def page_of(n: int) -> str:
    return f"page {n % 10}" if n <= 40 else str(n)


def by_hand(k: int, which: Callable[[int], bool] = lambda _: True) -> list[tuple[str, str, float]]:
    """Return document, nearest row and score of the k documents nearest to the question."""
    question = np.frombuffer(QUESTION, "<f4")
    best: dict[str, tuple[float, int]] = {}
    for n in filter(which, range(1, COUNT + 1)):
        score = float(np.frombuffer(vector_of(f"text {n}"), "<f4") @ question)
        best[page_of(n)] = max(best.get(page_of(n), (-2.0, 0)), (score, n))
    found = sorted(best.items(), key=lambda one: -one[1][0])[:k]
    return [(name, str(row), pytest.approx(score, abs=1e-6)) for name, (score, row) in found]


def table(database: Database, kind: str = "text") -> Documents:
    documents = Documents(database).create(COUNT)
    documents.run(f"ALTER TABLE docs ADD page {kind}, ADD lang text, ADD embedding vector(8)")
    documents.run("UPDATE docs SET lang = CASE WHEN id % 3 = 0 THEN 'de' ELSE 'en' END")
    return documents


@asynccontextmanager
async def filled(database: Database, spec: IndexSpec) -> AsyncIterator[Search]:
    """The table as a collection that Reembed filled."""
    async with searching(database, spec, plan(shards=1)) as (_, searcher):
        yield partial(searcher.search, PLAN.name, "fp-new", QUESTION)


@asynccontextmanager
async def adopted(database: Database, spec: IndexSpec) -> AsyncIterator[Search]:
    """The same with the vectors in a column of the application's."""
    documents = Documents(database)
    for n in range(1, COUNT + 1):
        documents.run("UPDATE docs SET embedding = %s WHERE id = %s", [literal(vector_of(f"text {n}")), n])
    async with Keeper(database.owner_dsn, KEY, UID) as keeper, Searcher(database.gateway_dsn, 2) as searcher:
        await keeper.prepare(spec)
        await keeper.create(replace(spec, adopted=Adopted("embedding", "old")), COLUMN)
        yield partial(searcher.search, COLUMN.name, "fp-new", QUESTION)


BOTH = pytest.mark.parametrize("held", [filled, adopted], ids=["a collection", "an adopted column"])


@BOTH
@pytest.mark.parametrize("k", [1, 7, 30, 50])
async def test_a_search_answers_groups_by_their_nearest_rows(database: Database, held, k: int) -> None:
    table(database).run(PAGES)
    async with held(database, GROUPED) as search:
        hits = await search(k)
    assert [(hit.id, hit.row, hit.score) for hit in hits] == by_hand(k)


@BOTH
async def test_a_group_has_the_metadata_of_its_nearest_row_of_those_within_the_filter(database: Database, held) -> None:
    table(database).run(PAGES)
    async with held(database, replace(GROUPED, metadata=("lang", "page"))) as search:
        hits = await search(30, {"lang": "de"})
    expected = by_hand(30, lambda n: n % 3 == 0)
    assert [(hit.id, hit.row, hit.score) for hit in hits] == expected
    pages = {str(n): page_of(n) if n <= 40 else None for n in range(1, COUNT + 1)}
    assert [hit.metadata for hit in hits] == [{"lang": "de", "page": pages[row]} for _, row, _ in expected]


@BOTH
async def test_a_search_goes_on_while_the_nearest_rows_are_of_few_groups(database: Database, held) -> None:
    """The 45 nearest rows are of one group, and it is asked for 12 rows at first."""
    documents = table(database)
    async with held(database, GROUPED) as search:
        nearest = [int(row) for _, row, _ in _ranked()][:45]
        documents.run("UPDATE docs SET page = CASE WHEN id = ANY (%s) THEN 'large' ELSE 'p' || id END", [nearest])
        hits = await search(3)
    assert [hit.id for hit in hits] == ["large", *[f"p{row}" for _, row, _ in _ranked()[45:47]]]


def _ranked() -> list[tuple[str, str, float]]:
    question = np.frombuffer(QUESTION, "<f4")
    scores = [(float(np.frombuffer(vector_of(f"text {n}"), "<f4") @ question), n) for n in range(1, COUNT + 1)]
    return [(page_of(n), str(n), score) for score, n in sorted(scores, reverse=True)]


@pytest.mark.parametrize(
    ("kind", "value", "names"),
    [
        pytest.param("bigint", "(id % 2) - 1", {"-1", "0"}, id="bigint"),
        pytest.param("smallint", "(id % 2) - 1", {"-1", "0"}, id="smallint"),
        pytest.param("varchar(9)", "'{%s \"' || id % 2", {'{%s "0', '{%s "1'}, id="varchar"),
        pytest.param(
            "uuid",
            "('11111111-2222-3333-4444-55555555555' || id % 2)::uuid",
            {"11111111-2222-3333-4444-555555555550", "11111111-2222-3333-4444-555555555551"},
            id="uuid",
        ),
    ],
)
async def test_a_group_may_be_of_any_type_that_an_id_may_have(database: Database, kind, value, names) -> None:
    table(database, kind).run(f"UPDATE docs SET page = {value}")
    async with filled(database, GROUPED) as search:
        assert {hit.id for hit in await search(10)} == names


async def test_a_row_that_moves_to_another_group_is_found_in_it_at_once(database: Database) -> None:
    documents = table(database)
    documents.run("UPDATE docs SET page = 'first'")
    async with filled(database, GROUPED) as search:
        documents.run("UPDATE docs SET page = 'second' WHERE id = %s", [int(_ranked()[0][1])])
        hits = await search(2)
    assert [(hit.id, hit.row) for hit in hits] == [("second", _ranked()[0][1]), ("first", _ranked()[1][1])]


async def test_applications_that_search_by_sql_are_answered_groups(database: Database) -> None:
    documents = table(database)
    documents.run(PAGES)
    async with searching(database, GROUPED, plan(shards=1)) as (keeper, _):
        await keeper.claim()
        await keeper.move_pointer(PointerPlan(PLAN.name, "fp-new", 1))
        given = [KEY, "fp-new", literal(QUESTION)]
        found = documents.rows("SELECT id, row_id, score FROM reembed.search_index(%s, %s, %s, 5)", given)
        named = documents.rows("SELECT id FROM reembed.search(%s, %s, %s, 5)", [PLAN.name, *given[1:]])
    assert found == by_hand(5)
    assert [name for (name,) in named] == [name for name, _, _ in by_hand(5)]


async def test_where_rows_are_not_grouped_no_row_is_told(database: Database) -> None:
    table(database)
    async with filled(database, SPEC) as search:
        assert [hit.row for hit in await search(2)] == [None, None]


@pytest.mark.parametrize(
    ("prepare", "reason", "message"),
    [
        pytest.param("", "SourceColumnMissing", 'has no column "page"', id="no such column"),
        pytest.param(
            "ALTER TABLE docs ADD page jsonb",
            "SourceGroupUnsupported",
            "is of type jsonb, so it cannot name the documents that its rows are parts of; groupColumn must be of type",
            id="a type that no id has",
        ),
        pytest.param(
            "ALTER TABLE docs ADD page text; ALTER TABLE docs OWNER TO postgres; REVOKE ALL ON docs FROM reembed_owner;"
            "GRANT SELECT (id, body) ON docs TO reembed_owner",
            "PrivilegesMissing",
            'may not read "public"."docs"',
            id="no right to read it",
        ),
    ],
)
async def test_a_column_that_names_no_documents_is_refused(
    database: Database, prepare: str, reason: str, message: str
) -> None:
    documents = Documents(database).create(1)
    if prepare:
        documents.run(prepare, dsn=database.superuser_dsn)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        found = await keeper.preflight(GROUPED)
    assert found is not None
    assert (found.reason, message in found.message) == (reason, True), found.message
