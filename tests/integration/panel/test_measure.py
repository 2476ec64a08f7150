"""An agent measures a real store through a role that only reads, and real pods, and judges by that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psycopg
import pytest
from psycopg import sql

from reembed.core.model import CollectionPlan, Desired
from reembed.core.quorum.evidence import Evidence
from reembed.core.quorum.judging import judge
from reembed.panel.measure import Means, Measured
from reembed.panel.probes import Prober
from reembed.stores.pgvector.keeper import Keeper
from tests.fixtures.embedders import Start
from tests.fixtures.postgres import Database
from tests.integration.panel.world import DOCUMENTS, LINES, NEW, OF_LINES, UID, World, standing

SEED = b"s" * 32
TABLE = sql.Identifier("reembed", NEW.collection)


@pytest.fixture
async def world(database: Database, embedder: Start, tmp_path: Path) -> AsyncIterator[World]:
    async with standing(database, embedder(), tmp_path) as made:
        yield made


@pytest.fixture
async def measured(world: World, tmp_path: Path) -> AsyncIterator[Measured]:
    async with measuring(world, tmp_path) as one:
        yield one


@asynccontextmanager
async def measuring(world: World, folder: Path, seed: bytes = SEED) -> AsyncIterator[Measured]:
    async with aiohttp.ClientSession() as session:
        means = Means(session, Prober(session, seed, 8080), folder, seed, 8080, world.read)
        one = Measured("rag", "docs", UID, means)
        yield one
        await one.close()


def held(known: Evidence) -> Evidence:
    """Return the evidence of an agent that has looked for long."""
    assert known.gateways is not None
    return replace(known, gateways=replace(known.gateways, followed_since=datetime.now(UTC) - timedelta(hours=1)))


async def test_everything_is_measured_in_one_look_and_a_good_raise_is_approved(
    world: World, measured: Measured
) -> None:
    assert not await measured.look(world.around())
    known = measured.evidence
    assert known.pods["new"].answers["new-1"].cosine == pytest.approx(1, abs=1e-3)
    assert known.pods["new"].answers["new-1"].nearest == 1
    assert known.pods["new"].answers["new-1"].memory is not None
    assert known.stored is not None
    found = known.stored.collection(NEW.collection)
    assert found is not None
    assert (found.written, found.valid, found.state) == (DOCUMENTS, True, "Indexed")
    assert known.retrieval is not None
    assert (known.retrieval.labelled, len(known.retrieval.differences)) == (DOCUMENTS, DOCUMENTS // 2)
    assert known.sample is not None
    assert min(known.sample.cosines) > 0.99
    judged = judge(world.proposal(), held(known), datetime.now(UTC))
    assert judged.reasons == ("Measured: every check holds",)


async def test_vectors_of_another_text_are_found_in_the_store(
    world: World, measured: Measured, database: Database
) -> None:
    with psycopg.connect(database.owner_dsn, autocommit=True) as connection:
        text = "UPDATE {} n SET embedding = o.embedding FROM reembed.c_old o WHERE o.id = n.id % 7 + 1"
        connection.execute(sql.SQL(text).format(TABLE))
    await measured.look(world.around())
    reason = judge(world.proposal(), held(measured.evidence), datetime.now(UTC)).reasons[0]
    # What it finds for labelled queries speaks first.
    assert reason.startswith("RetrievalNotProven: ")
    assert measured.evidence.sample is not None
    assert sorted(measured.evidence.sample.cosines)[30] < 0.98


async def test_an_index_that_is_gone_is_no_index(world: World, measured: Measured, database: Database) -> None:
    with psycopg.connect(database.owner_dsn, autocommit=True) as connection:
        text = "SELECT indexname FROM pg_indexes WHERE tablename = %s AND indexdef ~ 'hnsw'"
        rows = connection.execute(text, [NEW.collection])
        for (name,) in rows.fetchall():
            connection.execute(f'DROP INDEX reembed."{name}"')
    await measured.look(world.around())
    assert judge(world.proposal(), held(measured.evidence), datetime.now(UTC)).reasons[0].startswith("IndexInvalid")


async def test_the_agents_role_changes_nothing(world: World, tmp_path: Path) -> None:
    del world
    with psycopg.connect((tmp_path / "rag.docs").read_text(), autocommit=True) as connection:
        for statement in (
            sql.SQL("DELETE FROM {}").format(TABLE),
            "UPDATE reembed.pointer SET generation = 9",
            "UPDATE reembed.collection SET state = 'Withdrawn'",
            "INSERT INTO docs VALUES (0, 'x')",
            "CREATE TABLE reembed.mine (id int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_what_is_made_later_can_be_read_too_and_a_table_of_anothers_stops_nobody(
    world: World, tmp_path: Path, database: Database
) -> None:
    plan = CollectionPlan("c_later", "new", "fp-test", 384, 1, Desired.PRESENT)
    with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE docs OWNER TO postgres")
        connection.execute("GRANT SELECT ON docs TO reembed_owner")
        connection.execute(f"REVOKE SELECT ON reembed.version FROM {world.spec.agent_role}")
    async with Keeper(database.owner_dsn, "rag/docs", UID) as keeper:
        await keeper.prepare(world.spec)
        await keeper.create(world.spec, plan)
    with psycopg.connect((tmp_path / "rag.docs").read_text(), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM reembed.c_later").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM reembed.version").fetchone() == (1,)


async def test_without_a_connection_string_the_store_is_not_measured(
    world: World, measured: Measured, tmp_path: Path
) -> None:
    (tmp_path / "rag.docs").unlink()
    await measured.look(world.around())
    found = judge(world.proposal(), held(measured.evidence), datetime.now(UTC))
    assert found.reasons == (
        "NotMeasured: the store: not measured: StoreError: there is no connection string for this index in rag.docs; "
        "add the key to the agents' Secret",
    )


async def test_labels_of_a_config_map_are_judged_like_those_of_a_table(
    world: World, measured: Measured, tmp_path: Path
) -> None:
    await measured.look(world.around())
    of_table = measured.evidence.retrieval
    world.labels = OF_LINES
    async with measuring(world, tmp_path) as another:
        await another.look(world.around())
        await another.look(world.around())
        known = another.evidence
    assert of_table is not None
    assert known.retrieval is not None
    # Documents that are not there are left out; the same agent has the same half of the same queries.
    assert replace(known.retrieval, at=of_table.at) == of_table
    judged = judge(world.proposal(), held(known), datetime.now(UTC))
    assert judged.reasons == ("Measured: every check holds",)
    assert judged.evidence["retrieval"]["labels"] == of_table.labels


async def test_each_agent_asks_a_half_of_its_own_of_a_config_map(world: World, tmp_path: Path) -> None:
    world.labels = OF_LINES
    found = []
    for seed in (b"1" * 32, b"2" * 32):
        async with measuring(world, tmp_path, seed) as one:
            await one.look(world.around())
            assert one.evidence.retrieval is not None
            found.append(one.evidence.retrieval)
    assert found[0].labels == found[1].labels
    assert found[0].half != found[1].half


async def test_labels_that_cannot_be_read_are_a_rejection_that_says_why(world: World, measured: Measured) -> None:
    world.labels, world.lines = OF_LINES, ""
    await measured.look(world.around())
    found = judge(world.proposal(), held(measured.evidence), datetime.now(UTC))
    assert found.reasons == (
        "NotMeasured: labelled queries: not measured: StoreError: agents may not read ConfigMap 'questions' of "
        "namespace 'rag'",
    )
    world.lines = LINES.replace('"relevant"', '"found"', 1)
    await measured.look(world.around())
    (reason,) = judge(world.proposal(), held(measured.evidence), datetime.now(UTC)).reasons
    assert "line 1 of key 'labels' of ConfigMap 'questions' has an unknown field 'found'" in reason


async def test_pods_that_are_gone_answer_nothing(world: World, measured: Measured) -> None:
    world.embedder.process.kill()
    world.embedder.process.wait()
    await measured.look(world.around())
    reason = judge(world.proposal(), held(measured.evidence), datetime.now(UTC)).reasons[0]
    assert reason.startswith("ProbesFail: pod new-1: EmbedderUnavailable")
