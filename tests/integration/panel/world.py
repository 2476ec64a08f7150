"""An index with two collections in a real store, a real embedder that stands for both pools, and a gateway."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from aiohttp import web
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reembed.api.reports import render_gateway_report
from reembed.backfill.shard import Work, fill
from reembed.client import EmbedderClient
from reembed.core import names
from reembed.core.migration import Baseline, Migration, SeenIndex
from reembed.core.model import (
    Arm,
    CollectionPlan,
    ConfigMapKey,
    Desired,
    EvaluationSpec,
    GatewayReport,
    Holder,
    IndexSpec,
    IndexStatus,
    PointerPlan,
    PoolSpec,
    Routing,
    Store,
    StorePlan,
    Variant,
    VectorIndex,
)
from reembed.core.quorum import raising
from reembed.core.quorum.evidence import Objects, PoolObject
from reembed.core.quorum.proposals import Kind, Proposal, Subject
from reembed.core.transitions import State
from reembed.panel.objects import Around
from reembed.stores import opening
from reembed.stores.chroma.search import Searcher
from reembed.stores.protocol import DocumentWrite, StoreError
from tests import builders
from tests.cluster.processes import free_port
from tests.fixtures.embedders import Embedder
from tests.fixtures.postgres import Database
from tests.fixtures.stores import SPEC, Documents

FINGERPRINT = "fp-test"
KEY, UID = "rag/docs", "uid-docs"
OLD = Arm("old", "c_old", FINGERPRINT)
NEW = Arm("new", names.collection("uid-move", 1), FINGERPRINT)
# So few queries prove little: of two equal models, that a tenth of MRR is not lost.
LABELS = EvaluationSpec("public", "labels", "query", "doc", min_queries=50, margin=0.1)
TERMS = "t" * 64
DOCUMENTS = 120
CHROMA = replace(SPEC, store=Store.CHROMA, table="", id_column="", vector_index=VectorIndex(min_recall=0.0))
OF_LINES = replace(LABELS, table="", config_map=ConfigMapKey("questions", "labels"))
LINES = "\n".join(
    json.dumps({"query": f"Which is text {n}?", "relevant": [n, DOCUMENTS + n]}) for n in range(1, DOCUMENTS + 1)
)


def agents_role(database: Database) -> tuple[str, str]:
    """Make a role that may log in and nothing else; return its name and connection string."""
    name = f"agents_{secrets.token_hex(4)}"
    password = str(conninfo_to_dict(database.owner_dsn)["password"])
    with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        connection.execute(made)
    return name, make_conninfo(database.owner_dsn, user=name)


async def filled(database: Database, embedder: Embedder, spec: IndexSpec) -> None:
    """Make documents, labels and both collections, as store worker and backfill do."""
    documents = Documents(database).create(DOCUMENTS)
    documents.run("CREATE TABLE labels (query text, doc text)")
    documents.run("INSERT INTO labels SELECT 'Which is text ' || id || '?', id::text FROM docs")
    async with opening.keeping(database.owner_dsn, KEY, UID) as keeper:
        await keeper.prepare(spec)
    documents.run(sql.SQL("GRANT SELECT ON labels TO {}").format(sql.Identifier(spec.agent_role or "")))
    await collections(database.owner_dsn, embedder, spec)


async def collections(dsn: str, embedder: Embedder, spec: IndexSpec) -> None:
    """Fill both collections of documents that are there."""
    async with opening.keeping(dsn, KEY, UID) as keeper, opening.filling(dsn) as store:
        await keeper.claim()
        client = EmbedderClient(embedder.url, fingerprint=FINGERPRINT, timeout=30)
        for arm in (OLD, NEW):
            plan = CollectionPlan(arm.collection, arm.pool, FINGERPRINT, 384, 2, Desired.PRESENT)
            await keeper.create(spec, plan)
            for shard in range(plan.shards):
                await fill(Work(arm.collection, shard, FINGERPRINT), store, client)
            await keeper.build_index(arm.collection, spec.vector_index)
        await client.close()
        await keeper.move_pointer(PointerPlan(OLD.collection, FINGERPRINT, 1))


@dataclass
class World:
    """What the agent reads of the API server, and where its pods are."""

    spec: IndexSpec
    embedder: Embedder
    gateway: str
    labels: EvaluationSpec = LABELS
    lines: str = LINES  # of the ConfigMap that the agent reads
    weight: int = 10
    serves: int | None = None  # what the gateway serves instead

    @property
    def routing(self) -> Routing:
        return Routing(7, OLD, NEW, self.weight)

    @property
    def migration(self) -> Migration:
        baseline = Baseline(timedelta(seconds=1), 500, builders.NOON)
        return builders.migration(
            State.CANARY,
            spec={"evaluation": self.labels},
            serving=OLD,
            candidate=NEW,
            baseline=baseline,
        )

    async def read(self, namespace: str, reference: ConfigMapKey) -> str:
        """Stand for the API server: `Means.lines`."""
        if not self.lines:
            raise StoreError(f"agents may not read ConfigMap '{reference.name}' of namespace '{namespace}'")
        return self.lines

    def around(self) -> Around:
        meta = builders.meta("docs")
        status = IndexStatus(Holder("move", "uid-move"), self.routing, StorePlan())
        model = replace(builders.model("old"), dimensions=384)
        pools = {
            name: PoolObject(builders.meta(name), PoolSpec(model, (Variant("cpu"),)), FINGERPRINT, (f"{name}-1",))
            for name in ("old", "new")
        }
        objects = Objects(datetime.now(UTC), SeenIndex(meta, self.spec, status), self.migration, TERMS, pools)
        address = self.embedder.url.removeprefix("http://")
        return Around(objects, {"g1": self.gateway}, {name: {f"{name}-1": address} for name in pools})

    def proposal(self, after: int = 50) -> Proposal:
        uids = {"old": "uid-old", "new": "uid-new"}
        return Proposal(
            Kind.TRAFFIC,
            Subject("rag", "docs", UID, "move", "uid-move"),
            8,
            raising.split(self.routing, uids),
            raising.split(replace(self.routing, epoch=8, weight=after), uids),
            TERMS,
            datetime.now(UTC) + timedelta(minutes=5),
        )


@asynccontextmanager
async def standing(database: Database, embedder: Embedder, folder: Path) -> AsyncIterator[World]:
    """Yield a world with everything in it, whose store the agent reads by the file in `folder`."""
    role, dsn = agents_role(database)
    (folder / "rag.docs").write_text(dsn)
    spec = replace(SPEC, agent_role=role)
    await filled(database, embedder, spec)
    try:
        async with _with_gateway(World(spec, embedder, "")) as world:
            yield world
    finally:
        with psycopg.connect(database.superuser_dsn, autocommit=True) as connection:
            for text in ("DROP OWNED BY {}", "DROP ROLE {}"):
                connection.execute(sql.SQL(text).format(sql.Identifier(role)))


@asynccontextmanager
async def standing_on_chroma(dsn: str, embedder: Embedder, folder: Path) -> AsyncIterator[World]:
    """Yield the same on a Chroma, to which the file in `folder` leads; its labels are lines."""
    (folder / "rag.docs").write_text(dsn)
    async with opening.keeping(dsn, KEY, UID) as keeper:
        await keeper.prepare(CHROMA)
        assert await keeper.capture(CHROMA) is None
    async with Searcher(dsn, KEY, 4) as store:
        texts = [DocumentWrite(str(n), f"text {n}") for n in range(1, DOCUMENTS + 1)]
        for start in range(0, DOCUMENTS, 60):
            await store.write(texts[start : start + 60])
    await collections(dsn, embedder, CHROMA)
    async with _with_gateway(World(CHROMA, embedder, "", OF_LINES)) as world:
        yield world


@asynccontextmanager
async def _with_gateway(world: World) -> AsyncIterator[World]:
    port = free_port()
    world.gateway = f"127.0.0.1:{port}"

    async def index(_: web.Request) -> web.Response:
        routing = world.routing
        weight = routing.weight if world.serves is None else world.serves
        report = GatewayReport("g1", routing.epoch, weight, routing.serving, routing.candidate)
        return web.json_response(render_gateway_report(report))

    app = web.Application()
    app.router.add_get("/v1/index", index)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield world
    finally:
        await runner.cleanup()
