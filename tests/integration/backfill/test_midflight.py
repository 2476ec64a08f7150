"""A source that changes, and a disk that fills, while documents are embedded: told, nothing lost, and it goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reembed.backfill.retries import Backoff
from reembed.backfill.shard import Work, fill
from reembed.core.model import Desired
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import StoreError
from tests.fixtures.postgres import Database
from tests.fixtures.stores import PLAN, Documents, FakeEmbedder, plan
from tests.integration.backfill.test_worker import reported, state, verified, want, working

_ONE_SHARD = plan(shards=1)
_DOCUMENTS = 3000
_STORED = "SELECT position IS NOT NULL FROM reembed.shard"
_WORK = Work(PLAN.name, 0, PLAN.fingerprint)


def left_out(documents: Documents) -> list[tuple[int, ...]]:
    """Return how many documents lack the vector of their text."""
    return documents.rows(
        "SELECT count(*) FROM docs d LEFT JOIN reembed.c_new c ON c.id = d.id AND c.embedding IS NOT NULL"
        " AND c.text_hash = substring(sha256(convert_to(d.body, 'UTF8')) FOR 16) WHERE c.id IS NULL"
    )


@pytest.mark.parametrize(
    ("change", "mend", "reason"),
    [
        pytest.param(
            "ALTER TABLE docs RENAME COLUMN body TO content",
            "ALTER TABLE docs RENAME COLUMN content TO body",
            "SourceColumnMissing",
            id="a column is renamed",
        ),
        pytest.param(
            "ALTER TABLE docs RENAME TO d", "ALTER TABLE d RENAME TO docs", "SourceTableMissing", id="a table"
        ),
        pytest.param(
            "REVOKE SELECT ON docs FROM CURRENT_USER",
            "GRANT SELECT ON docs TO CURRENT_USER",
            "PrivilegesMissing",
            id="the right to read it",
        ),
    ],
)
async def test_a_source_that_changes_in_mid_flight_is_told_and_everything_is_there_when_it_is_mended(
    database: Database, change: str, mend: str, reason: str
) -> None:
    documents = Documents(database).create(_DOCUMENTS)
    async with working(database) as worker, ShardStore(database.owner_dsn) as pods:
        want(worker, _ONE_SHARD)
        await reported(worker, state("c_new", "Filling"))
        pod = asyncio.create_task(fill(_WORK, pods, FakeEmbedder(seconds=0.01)))
        while documents.rows(_STORED) != [(True,)]:  # noqa: ASYNC110 a database is read, it tells nobody
            await asyncio.sleep(0.01)
        documents.run(change)
        with pytest.raises(StoreError):
            await pod
        want(worker, replace(_ONE_SHARD, pool="looked at anew"))
        report = await reported(worker, lambda report: report.problem is not None)
        documents.run(mend)
        documents.run("UPDATE docs SET body = 'text 90007' WHERE id = 7; DELETE FROM docs WHERE id = 8")
        want(worker, _ONE_SHARD)
        await reported(worker, lambda report: report.problem is None)
        again = FakeEmbedder()
        await fill(_WORK, pods, again)
        want(worker, replace(_ONE_SHARD, desired=Desired.INDEXED))
        await reported(worker, verified)
    assert report.problem is not None
    assert (report.problem.reason, left_out(documents)) == (reason, [(0,)])
    assert 0 < sum(again.embedded.values()) < _DOCUMENTS  # it went on from where it was


async def test_a_store_that_takes_nothing_more_is_waited_for_and_nothing_is_lost(database: Database) -> None:
    """A full disk is SQLSTATE 53100; a trigger that raises it stands for the disk, which tests do not fill."""
    documents = Documents(database).create(_DOCUMENTS)
    async with working(database) as worker, ShardStore(database.owner_dsn) as pods:
        want(worker, _ONE_SHARD)
        await reported(worker, state("c_new", "Filling"))
        documents.run(_FULL)
        pod = asyncio.create_task(fill(_WORK, pods, FakeEmbedder(), backoff=Backoff(0.01, 0.02)))
        await asyncio.sleep(0.5)
        documents.run("UPDATE docs SET body = 'text 90007' WHERE id = 7")
        waited, stored = not pod.done(), documents.rows("SELECT count(*) FROM reembed.c_new")
        documents.run("DROP TRIGGER full_disk ON reembed.c_new")
        await pod
        want(worker, replace(_ONE_SHARD, desired=Desired.INDEXED))
        await reported(worker, verified)
    assert (waited, stored, left_out(documents)) == (True, [(0,)], [(0,)])


_FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON reembed.c_new FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"""
