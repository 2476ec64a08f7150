"""A world for one story: documents and labels in a database of its own, and the models' files over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from aiohttp import web

from demo.corpus import Corpus, Query, corpus
from demo.model_server import application
from reembed.cluster.client import Cluster
from tests.fixtures.kubelet import Kubelet
from tests.fixtures.models import NARROW, ModelFile, models, narrow
from tests.fixtures.postgres import Database
from tests.integration.stories.world import DOCUMENTS, World

__all__ = ["models", "narrow", "world"]


@pytest.fixture
async def world(
    apiserver_with_crds: Path,
    namespace: str,
    database: Database,
    models: dict[str, ModelFile],
    narrow: ModelFile,
    tmp_path: Path,
) -> AsyncIterator[World]:
    """Return a world in which nothing runs yet."""
    files = {**models, NARROW: narrow}
    found = corpus(DOCUMENTS)
    queries = tuple(Query(function.question, number) for number, function in found.documents)
    load(database, found, queries)
    async with AsyncExitStack() as stack:
        uris = {name: await stack.enter_async_context(served(file.path)) for name, file in files.items()}
        cluster = await stack.enter_async_context(Cluster.connect(str(apiserver_with_crds)))
        kubelet = Kubelet(cluster, apiserver_with_crds, namespace, tmp_path)
        yield World(cluster, namespace, database, files, uris, queries, kubelet)


@asynccontextmanager
async def served(file: Path) -> AsyncIterator[str]:
    """Serve a model's file as the demo does."""
    runner = web.AppRunner(application(file.parent))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    try:
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/{file.name}"
    finally:
        await runner.cleanup()


def load(database: Database, found: Corpus, queries: tuple[Query, ...]) -> None:
    """Make the application's tables: the documents, and a label for each."""
    with psycopg.connect(database.owner_dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE functions (id bigint PRIMARY KEY, name text NOT NULL, body text NOT NULL)")
        cursor.execute("CREATE TABLE labels (query text NOT NULL, id bigint NOT NULL REFERENCES functions)")
        rows = [(number, one.name, one.body) for number, one in found.documents]
        cursor.executemany("INSERT INTO functions VALUES (%s, %s, %s)", rows)
        cursor.executemany("INSERT INTO labels VALUES (%s, %s)", [(query.text, query.id) for query in queries])
