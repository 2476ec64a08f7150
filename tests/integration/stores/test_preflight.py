"""Each thing that is missing in a store is named, with what to do about it, and the first one is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg.conninfo import make_conninfo

from reembed.core.model import IndexSpec, Problem
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
            ("SourceKeyUnsupported", 'column "id" of "public"."docs" is not unique by itself'),
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


async def test_a_gateways_role_that_does_not_exist_is_named(database: Database) -> None:
    Documents(database).create(1)
    found = await problem(database.owner_dsn, replace(SPEC, gateway_role="search er"))
    assert found == Problem(
        "PrivilegesMissing",
        'the gateways\' role "search er" does not exist, so nothing was made; run '
        'CREATE ROLE "search er" LOGIN; as an administrator',
    )


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
