"""The Job that inspects, as a process, against a real database and a pool's real model."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from reembed.core.inspection import told
from reembed.core.model import InspectionReport
from reembed.stores.pgvector.keeper import Keeper
from tests.cluster import processes
from tests.fixtures.embedders import FINGERPRINT, Embedder, Start, start
from tests.fixtures.models import LARGE, ModelFile
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, plan

TEXTS = [f"the {thing} of number {n}" for n in range(5) for thing in ("pool", "search", "table", "clock", "letter")]


@pytest.fixture
def pool(embedder: Start) -> Embedder:
    """A pool's pod."""
    return embedder()


@pytest.fixture
def another(models: dict[str, ModelFile], tmp_path: Path) -> Iterator[Embedder]:
    """A pod of another model with as many dimensions."""
    directory = tmp_path / "another"
    directory.mkdir()
    started = start(models[LARGE], directory)
    yield started
    started.process.kill()
    started.process.wait()


async def filled(database: Database, made_by: Embedder) -> None:
    """Make a collection whose vectors a pod made."""
    documents = Documents(database).create(0)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(SPEC)
        await keeper.create(SPEC, plan(fingerprint=FINGERPRINT, dimensions=384, shards=1))
    vectors = [str(np.round(one, 7).tolist()) for one in made_by.vectors(TEXTS)]
    with psycopg.connect(documents.database.owner_dsn, autocommit=True) as connection:
        for number, (text, vector) in enumerate(zip(TEXTS, vectors, strict=True)):
            digest = hashlib.sha256(text.encode()).digest()[:16]
            connection.execute("INSERT INTO docs VALUES (%s, %s)", [number, text])
            connection.execute(
                "INSERT INTO reembed.c_new (id, text_hash, embedding) VALUES (%s, %s, %s)", [number, digest, vector]
            )


async def inspected(database: Database, pool: Embedder, directory: Path) -> InspectionReport:
    """Run the Job to its end and return what it recorded."""
    environment = {
        **os.environ,
        "REEMBED_DSN": database.owner_dsn,
        "REEMBED_INSPECTION": "o-1",
        "REEMBED_COLLECTION": "c_new",
        "REEMBED_FINGERPRINT": FINGERPRINT,
        "REEMBED_EMBEDDER_URL": pool.url,
    }
    command = [sys.executable, "-m", "reembed.backfill", "inspect"]
    program = processes.start("inspect", command, directory, env=environment)
    assert program.process.wait(60) == 0, program.log.read_text()
    assert not any(text in program.log.read_text() for text in TEXTS)
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        (report,) = await keeper.inspections()
    return report


async def test_a_pool_makes_the_vectors_again_that_it_made(database: Database, pool: Embedder, tmp_path: Path) -> None:
    await filled(database, pool)
    report = await inspected(database, pool, tmp_path)
    assert (report.id, report.documents, report.findings) == ("o-1", len(TEXTS), ())
    assert report.reproduced is not None
    assert report.reproduced.sample == len(TEXTS)
    assert report.reproduced.low >= 0.999


async def test_vectors_of_another_model_of_the_same_size_are_known(
    database: Database, pool: Embedder, another: Embedder, tmp_path: Path
) -> None:
    await filled(database, another)
    report = await inspected(database, pool, tmp_path)
    assert [one.reason for one in report.findings] == ["VectorsNotReproduced"]
    assert told(report).startswith("the pool that serves c_new does not make its vectors: 25 documents embedded again")
