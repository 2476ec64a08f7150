"""Each thing that is missing in a store is named, with what to do about it, and the first one is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg.conninfo import make_conninfo

from reembed.core.model import IndexSpec, PanelRef, Problem
from reembed.stores.pgvector.keeper import Keeper
from tests.fixtures.postgres import OWNER, Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents


async def problem(dsn: str, spec: IndexSpec = SPEC) -> Problem | None:
    async with Keeper(dsn, KEY, UID) as keeper:
        return await keeper.preflight(spec)


async def test_a_store_that_has_all_it_needs_has_no_problem(database: Database) -> None:
    Documents(database).create(1)
    assert await problem(database.owner_dsn) is None


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        pytest.param(
            "DROP EXTENSION vector",
            ("ExtensionMissing", "so no vectors can be stored; run CREATE EXTENSION vector; as an administrator"),
            id="no extension",
        ),
        pytest.param(
            "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'",
            ("ExtensionTooOld", "extension vector is 0.7.4, below 0.8.0"),
            id="an extension that is too old",
        ),
        pytest.param(
            "DROP TABLE docs",
            ("SourceTableMissing", '"public"."docs" does not exist, so there are no documents to read'),
            id="no table",
        ),
        pytest.param(
            "ALTER TABLE docs RENAME TO d; CREATE VIEW docs AS SELECT * FROM d",
            ("SourceTableMissing", '"public"."docs" is no table'),
            id="a view",
        ),
        pytest.param(
            "ALTER TABLE docs DROP COLUMN body",
            ("SourceColumnMissing", '"public"."docs" has no column "body"'),
            id="no text column",
        ),
        pytest.param(
            "ALTER TABLE docs RENAME COLUMN id TO key",
            ("SourceColumnMissing", '"public"."docs" has no column "id"'),
            id="no id column",
        ),
        pytest.param(
            "ALTER TABLE docs ALTER COLUMN id TYPE numeric",
            ("SourceKeyUnsupported", 'column "id" of "public"."docs" is of type numeric'),
            id="a key of another type",
        ),
        pytest.param(
            "ALTER TABLE docs DROP CONSTRAINT docs_pkey",
            ("SourceKeyUnsupported", 'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."docs" ("id");'),
            id="a key that is not unique",
        ),
        pytest.param(
            "ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (id, body)",
            (
                "SourceKeyUnsupported",
                'the primary key of "public"."docs" has the columns "id", "body", and a document is named by one '
                'column. Add one, e.g. ALTER TABLE "public"."docs" ADD COLUMN document_id text GENERATED ALWAYS AS '
                '("id"::text || \'/\' || "body"::text) STORED UNIQUE;',
            ),
            id="a composite key",
        ),
        pytest.param(
            f"ALTER TABLE docs OWNER TO postgres; REVOKE ALL ON docs FROM {OWNER}",
            ("PrivilegesMissing", f'run GRANT SELECT ON "public"."docs" TO "{OWNER}";'),
            id="no right to read",
        ),
        pytest.param(
            "CREATE SCHEMA reembed AUTHORIZATION postgres",
            ("PrivilegesMissing", f'ALTER SCHEMA reembed OWNER TO "{OWNER}";'),
            id="a schema of somebody else",
        ),
        pytest.param(
            f"ALTER TABLE docs OWNER TO postgres; GRANT SELECT ON docs TO {OWNER};"
            " ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
            ("PrivilegesMissing", 'row-level security hides rows of "public"."docs"'),
            id="row-level security",
        ),
    ],
)
async def test_what_is_missing_is_named(database: Database, prepare: str, expected: tuple[str, str]) -> None:
    documents = Documents(database).create(1)
    documents.run(prepare, dsn=database.superuser_dsn)
    found = await problem(database.owner_dsn)
    assert found is not None
    assert (found.reason, expected[1] in found.message) == (expected[0], True), found.message


TITLED = "ALTER TABLE docs ADD title text, ADD made timestamptz, ADD n int; CREATE TABLE secrets (word text)"
VIRTUAL = "ALTER TABLE docs ADD virtual text GENERATED ALWAYS AS (body || '!') VIRTUAL"


def with_text(expression: str) -> IndexSpec:
    return replace(SPEC, text_column=None, text_sql=expression)


@pytest.mark.parametrize(
    "expression",
    [
        r"title || E'\n\n' || coalesce(body, '')",
        "body",
        "lower(title) || CASE WHEN n > 3 THEN ' ;--/*' ELSE ' 100%s {0}' END",
        "((\"title\")) || 'it''s (' || n::text",
        "substring(body FROM 1 FOR 100)::varchar(50)",
        "(ARRAY[title, body])[1]",
    ],
)
async def test_an_expression_over_a_row_is_a_text(database: Database, expression: str) -> None:
    Documents(database).create(1).run(TITLED)
    assert await problem(database.owner_dsn, with_text(expression)) is None


ROW_ALONE = "use the columns of the row alone"
IMMUTABLE = "only functions that are IMMUTABLE are allowed: write || and coalesce in place of concat"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("title ||", 'syntax error at or near ")"): correct it'),
        ("titel || body", '(column "titel" does not exist): correct it'),
        ("docs.title", '(missing FROM-clause entry for table "docs"): correct it'),
        ("body) FROM secrets; DROP TABLE docs; SELECT (''", "';' is not allowed outside quotes"),
        ("body) || (title", "it closes a ')' that it did not open: it must be one expression"),
        ("(body", "it does not close a '(': it must be one expression"),
        ("(body]", "it closes a ']' that it did not open"),
        ("body -- ", "'--' is not allowed outside quotes"),
        ("body /* ", "'/*' is not allowed outside quotes"),
        ("'a", "a quote in it does not end"),
        ('"title', "a quote in it does not end"),
        (r"body || '\'", r"a string has a backslash, whose meaning is a setting's: write E'\\'"),
        (r"U&'\0041'", "a string has a backslash"),
        (r"E'\' || body", "a string has a backslash"),
        (r"E'a' '\' || (SELECT word FROM public.secrets) || '", "a quote in it does not end"),
        ("$1", "'$' is not allowed outside quotes"),
        ("$$a$$", "'$' is not allowed outside quotes"),
        ("  ", "it is empty: write an expression"),
        ("(SELECT word FROM public.secrets LIMIT 1)", f"that return sets are not allowed: {ROW_ALONE}"),
        ("SELECT body", "subqueries and functions that return sets are not allowed"),
        ("body || (SELECT 'x')", "subqueries and functions that return sets are not allowed"),
        ("regexp_split_to_table(body, ' ')", "subqueries and functions that return sets are not allowed"),
        ("string_agg(body, '')", f"aggregates are not allowed: {ROW_ALONE}"),
        ("lag(body) OVER ()", f"window functions are not allowed: {ROW_ALONE}"),
        ("body || random()::text", IMMUTABLE),
        ("concat(title, body)", IMMUTABLE),
        ("made::text", IMMUTABLE),
        ("pg_read_file('/etc/passwd')", "(permission denied for function pg_read_file)"),
        ("shout(body)", "write the schema of a function or operator that is not PostgreSQL's own"),
        ("n", "it gives integer, which is no text: write a text, or a cast to one"),
        ("title, body", "it gives record, which is no text"),
        ("reembed_row", "it gives "),
        ("reembed_row::text", "PostgreSQL refuses it"),
        ("xmin::text", "PostgreSQL refuses it"),
        ("tableoid::text", "PostgreSQL refuses it"),
        ("(1 / 0)::text", "PostgreSQL refuses it (division by zero)"),
        ("virtual", 'column "virtual" is generated VIRTUAL, and triggers are not given its values'),
    ],
)  # fmt: skip
async def test_an_expression_that_may_not_be_evaluated_is_refused(
    database: Database, expression: str, expected: str
) -> None:
    documents = Documents(database).create(1)
    documents.run(TITLED)
    documents.run(VIRTUAL)
    found = await problem(database.owner_dsn, with_text(expression))
    assert found is not None
    assert (found.reason, expected in found.message) == ("SourceTextInvalid", True), found.message
    assert found.message.startswith("spec.source.text cannot be used, so nothing was read: ")
    assert documents.rows("SELECT count(*) FROM pg_class WHERE relname LIKE 'reembed%'") == [(0,)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("n = 3 AND title LIKE 'a%'", None),
        ("n", "it gives integer: write a condition, which is true or false"),
        ("body", "it gives text: write a condition, which is true or false"),
        ("id IN (SELECT n FROM docs)", "PostgreSQL refuses it"),
        ("EXISTS (SELECT 1)", "subqueries and functions that return sets are not allowed"),
        ("made < now()", "only functions that are IMMUTABLE are allowed"),
        ("true) OR (true", "it closes a ')' that it did not open"),
        ("true -- ", "'--' is not allowed outside quotes"),
        ("published", '(column "published" does not exist): correct it'),
    ],
)
async def test_a_filter_is_a_condition_over_a_row(database: Database, condition: str, expected: str | None) -> None:
    Documents(database).create(1).run(TITLED)
    found = await problem(database.owner_dsn, replace(SPEC, filter=condition))
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert (found.reason, expected in found.message) == ("SourceFilterInvalid", True), found.message
    assert found.message.startswith("spec.source.filter cannot be used, so nothing was read: ")


async def test_a_function_in_front_of_postgresqls_own_is_not_called(database: Database) -> None:
    documents = Documents(database).create(1)
    documents.run("ALTER TABLE docs ALTER body TYPE varchar(100)")
    documents.run("CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1'")
    assert await problem(database.owner_dsn, with_text("lower(body)")) is None


async def test_a_text_column_that_triggers_cannot_see_is_named(database: Database) -> None:
    documents = Documents(database).create(1)
    documents.run(VIRTUAL)
    found = await problem(database.owner_dsn, replace(SPEC, text_column="virtual"))
    assert found is not None
    assert (found.reason, found.message.split(":")[0]) == (
        "SourceTextInvalid",
        "spec.source.textColumn cannot be used, so nothing was read",
    )


async def test_an_expression_needs_the_right_to_read_every_column(database: Database) -> None:
    documents = Documents(database).create(1)
    columns = f"REVOKE ALL ON docs FROM {OWNER}; GRANT SELECT (id, body) ON docs TO {OWNER}"
    documents.run(f"ALTER TABLE docs OWNER TO postgres; {columns}", dsn=database.superuser_dsn)
    by_column = await problem(database.owner_dsn)
    found = await problem(database.owner_dsn, with_text("body"))
    assert (by_column, found and found.reason) == (None, "PrivilegesMissing")


async def test_a_gateways_role_that_does_not_exist_is_named(database: Database) -> None:
    Documents(database).create(1)
    found = await problem(database.owner_dsn, replace(SPEC, gateway_role="search er"))
    assert found == Problem(
        "PrivilegesMissing",
        'the gateways\' role "search er" does not exist, so nothing was made; run '
        'CREATE ROLE "search er" LOGIN; as an administrator',
    )


@pytest.mark.parametrize("role", [None, OWNER])
async def test_the_gateways_of_an_index_with_a_panel_need_a_role_of_their_own(
    database: Database, role: str | None
) -> None:
    Documents(database).create(1)
    panel = PanelRef("reembed-panel", "panel", "a" * 64)
    found = await problem(database.owner_dsn, replace(SPEC, gateway_role=role, panel=panel))
    assert found is not None
    assert found.reason == "PrivilegesMissing"
    assert "the index names a panel, and its gateways have no role but" in found.message
    assert await problem(database.owner_dsn, replace(SPEC, panel=panel)) is None


async def test_an_agents_role_that_does_not_exist_is_named(database: Database) -> None:
    Documents(database).create(1)
    found = await problem(database.owner_dsn, replace(SPEC, agent_role="judge"))
    assert found is not None
    assert found.message.startswith('the agents\' role "judge" does not exist, so nothing was made; run')


async def test_the_first_of_several_findings_is_reported(database: Database) -> None:
    documents = Documents(database)
    documents.run("DROP EXTENSION vector", dsn=database.superuser_dsn)
    found = await problem(database.owner_dsn)
    assert found is not None
    assert found.reason == "ExtensionMissing"


async def test_a_server_that_is_not_there_is_unreachable(database: Database) -> None:
    found = await problem(make_conninfo(database.owner_dsn, port=9))
    assert found is not None
    assert found.reason == "StoreUnreachable"


async def test_a_wrong_password_is_told_without_telling_it(database: Database) -> None:
    found = await problem(make_conninfo(database.owner_dsn, password="hunter2"))
    assert found is not None
    assert (found.reason, "hunter2" in found.message) == ("StoreAuthenticationFailed", False)


async def test_an_index_that_another_object_claimed_is_left_alone(database: Database) -> None:
    Documents(database).create(1)
    async with Keeper(database.owner_dsn, KEY, "uid-other") as other:
        await other.prepare(SPEC)
        await other.claim()
    found = await problem(database.owner_dsn)
    assert found == Problem(
        "IndexClaimed",
        "this database already keeps index default/docs for another EmbeddingIndex (UID uid-other), of another cluster "
        "or deleted since; nothing was changed. If that one is gone, run DELETE FROM reembed.claim WHERE index_key = "
        "'default/docs';",
    )
