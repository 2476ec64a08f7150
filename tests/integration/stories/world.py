"""An index over real documents, answered by a real gateway with real models, and what a migration of it comes to.

Documents are functions of the standard library, and each is asked for by the first sentence of its docstring
(`demo.corpus`). The API server, PostgreSQL, the embedders, the store worker, the backfill's pods, the gateway and the
operator are what users run, each in a process of its own. Queries go through the gateway all the time, and each answer
is judged by what the index said then (`demo.judge`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg import sql

from demo.corpus import Query
from demo.judge import Truth, judge
from demo.load import TIMEOUT_SECONDS, Stream, Tally
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.cluster.kinds import Kind
from tests.fixtures.kubelet import SECRET, Kubelet
from tests.fixtures.kubelet import running as running_pods
from tests.fixtures.models import ModelFile
from tests.fixtures.postgres import GATEWAY, Database
from tests.integration.controller.killable import killable

Object = dict[str, Any]
Act = Callable[["World"], Awaitable[None]]

# The least difference between the models, 0.13 of MRR, is then certain by 0.07 (level 0.5 %).
DOCUMENTS = 300
RATE = 15.0  # queries a second
_INDEX, _FILL, MIGRATION = "functions", "fill", "move"
_LONGEST_SECONDS = 240.0
_LAST_ANSWERS_SECONDS = 1.0  # queries go on for a moment after the end, which is judged too
_CLASS = re.compile(r"^reembed_embedder_class_cosine (\S+)$", re.MULTILINE)
_ENDS = frozenset({"Succeeded", "RolledBack", "Failed"})
# A process of this machine counts the machine's memory, and other tests its time: neither says anything of a model.
_TRIGGERS = {"memory": {"dryRun": True}, "latency": {"threshold": "5s"}}


@dataclass(frozen=True)
class Outcome:
    """How a migration ended, what was seen on the way, and what callers saw of it; models by name.

    `triggers` are those that were exceeded at any time before the end was decided, `weights` what gateways were told to
    send to the new model.
    """

    end: str
    reason: str
    states: tuple[str, ...]
    verdict: str
    serves: str
    weights: tuple[int, ...]
    triggers: frozenset[str]
    failed: int
    wrong: tuple[str, ...]
    answered_by: frozenset[str]
    # Figures, which differ from run to run.
    message: str = field(default="", compare=False)
    evaluation: Mapping[str, Any] = field(default_factory=dict, compare=False)  # as status has it
    answers: Mapping[str, int] = field(default_factory=dict, compare=False)  # callers' queries by model
    mrr: Mapping[str, float] = field(default_factory=dict, compare=False)  # of these


@dataclass
class World:
    """One index in one namespace; `uris` says where each model's file is."""

    cluster: Cluster
    namespace: str
    database: Database
    files: Mapping[str, ModelFile]
    uris: Mapping[str, str]
    queries: tuple[Query, ...]
    kubelet: Kubelet
    truth: Truth = field(default_factory=Truth)
    versions: list[Object] = field(default_factory=list)  # of the migration

    async def fill(self, model: str, target: Mapping[str, Any]) -> None:
        """Make the index, have it filled by a model, and wait for its gateway."""
        dsns = {"owner": self.database.owner_dsn, "gateway": self.database.gateway_dsn}
        await self._apply(SECRET, "store", stringData=dsns)
        for name, file in self.files.items():
            await self._apply(kinds.POOL, pool(name), spec=_pool(self.uris[name], file))
        await self._apply(kinds.INDEX, _INDEX, spec=_index())
        asked = {**_migration(model), "retention": {"window": "0s"}}
        asked["target"] = {**asked["target"], **target}
        await self._apply(kinds.MIGRATION, _FILL, spec=asked)
        await self._until(kinds.MIGRATION, _FILL, lambda seen: _status(seen).get("state") == "Succeeded")
        await self.released()
        await self._until(kinds.INDEX, _INDEX, lambda seen: _status(seen)["gateway"]["readyReplicas"] == 2)

    async def adopt(self, model: str, maintained_by: str) -> None:
        """Let vectors of a model answer that are in a column of the application's table, as if it had made them."""
        await self.fill(model, {})
        filled = await self.cluster.get(kinds.INDEX, self.namespace, _INDEX)
        await self._delete(kinds.MIGRATION, _FILL)
        await self._delete(kinds.INDEX, _INDEX)
        await self._ended("worker", "gateway")
        collection = sql.Identifier(_status(filled or {})["routing"]["serving"]["collection"])
        with psycopg.connect(self.database.owner_dsn) as connection:
            connection.execute("ALTER TABLE functions ADD embedding vector(384)")
            copied = "UPDATE functions f SET embedding = c.embedding FROM reembed.{} c WHERE c.id = f.id"
            connection.execute(sql.SQL(copied).format(collection))
        adopted = {"vectorColumn": "embedding", "poolRef": {"name": pool(model)}, "maintainedBy": maintained_by}
        await self._apply(kinds.INDEX, _INDEX, spec={**_index(), "adopted": adopted})
        await self._until(kinds.INDEX, _INDEX, lambda seen: "serving" in _status(seen).get("routing", {}))
        await self._until(kinds.INDEX, _INDEX, lambda seen: _status(seen)["gateway"]["readyReplicas"] == 2)
        await self._answering()

    async def _ended(self, *components: str) -> None:
        """Wait until no pod of a deleted index is left: one that sees another index in its place ends itself."""
        async with asyncio.timeout(_LONGEST_SECONDS):
            while any(map(self.kubelet.urls, components)):  # noqa: ASYNC110 it is asked, it tells nobody
                await asyncio.sleep(0.1)

    async def _answering(self) -> None:
        """Wait until each gateway answers a query: of what is adopted, the embedder may be still on its way."""
        async with aiohttp.ClientSession() as http, asyncio.timeout(_LONGEST_SECONDS):
            for url in self.kubelet.urls("gateway"):
                while await _code(http, f"{url}/v1/search") != 200:  # noqa: ASYNC110 it is asked, it tells nobody
                    await asyncio.sleep(0.1)

    async def _delete(self, kind: Kind, name: str) -> None:
        await self.cluster.delete(kind, self.namespace, name)
        async with asyncio.timeout(_LONGEST_SECONDS):
            while await self.cluster.get(kind, self.namespace, name) is not None:  # noqa: ASYNC110 as _following
                await asyncio.sleep(0.1)

    async def move(self, old: str, new: str, evaluation: Mapping[str, Any], **spec: Any) -> None:
        """Ask for a migration from one model to another, judged by as many labelled queries as there are documents."""
        steps = [{"weight": 50, "hold": "2s"}, {"weight": 100, "hold": "2s"}]
        asked = {
            **_migration(new),
            "from": {"poolRef": {"name": pool(old)}},
            "evaluation": {"labels": {"table": "labels"}, **evaluation},
            "canary": {"steps": steps},
            "rollback": {"triggers": _TRIGGERS},
            "retention": {"window": "2s"},
            **spec,
        }
        await self._apply(kinds.MIGRATION, MIGRATION, spec=asked)

    async def until(self, reached: Callable[[Object], bool]) -> Object:
        """Wait until the migration's status is as wanted, and return it."""
        return _status(await self._until(kinds.MIGRATION, MIGRATION, lambda seen: reached(_status(seen))))

    async def told(self, kind: str, status: str) -> Object:
        """Wait until a condition of the index is as wanted, and return it."""
        seen = await self._until(kinds.INDEX, _INDEX, lambda seen: _condition(seen, kind).get("status") == status)
        return _condition(seen, kind)

    def run(self, statement: str) -> None:
        """Do what an application, or somebody who is in a hurry, does in the database."""
        with psycopg.connect(self.database.owner_dsn, autocommit=True) as connection:
            connection.execute(statement)

    async def noted(self, count: int) -> None:
        """Wait until the store worker has noted so many documents that the application changed."""
        async with asyncio.timeout(_LONGEST_SECONDS):
            while self._counted("SELECT count(*) FROM reembed.watched") < count:  # noqa: ASYNC110 it tells nobody
                await asyncio.sleep(0.1)

    def _counted(self, query: str) -> int:
        with psycopg.connect(self.database.owner_dsn) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row is not None else 0

    async def ended(self) -> Object:
        status = await self.until(lambda status: status.get("state") in _ENDS)
        await self.released()
        return status

    async def released(self) -> Object:
        """Wait until no migration holds the index."""
        return await self._until(kinds.INDEX, _INDEX, lambda seen: "activeMigration" not in _status(seen))

    async def promote(self) -> None:
        """Say what `kubectl reembed promote` says."""
        raw = await self.cluster.get(kinds.MIGRATION, self.namespace, MIGRATION)
        assert raw is not None
        value = json.dumps({"uid": raw["metadata"]["uid"], "at": raw["status"]["at"], "nonce": "promote-1"})
        change = {"metadata": {"annotations": {"reembed.dev/promote": value}}}
        await self.cluster.patch(kinds.MIGRATION, self.namespace, MIGRATION, change, manager="user")

    async def agreed(self) -> list[float]:
        """Return how near the embedders that run are to the class that is kept of their model, once all know."""
        async with aiohttp.ClientSession() as http, asyncio.timeout(_LONGEST_SECONDS):
            while True:
                pages = [await _page(http, f"{url}/metrics") for url in self.kubelet.urls("embedder")]
                found = [float(one.group(1)) for page in pages if (one := _CLASS.search(page)) is not None]
                if found and len(found) == len(pages):
                    return found
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep every version of the index and the migration that was written until the block ends."""
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(self._watch(kinds.INDEX, _INDEX, self.truth.record)),
                group.create_task(self._watch(kinds.MIGRATION, MIGRATION, self.versions.append)),
            ]
            yield
            for task in watching:
                task.cancel()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Tally]:
        """Put queries through both gateways until the block ends, and wait until each was answered or failed."""
        tally, stop = Tally(), asyncio.Event()
        gateways = self.kubelet.urls("gateway")
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            streams = [Stream(session, gateway, RATE / len(gateways), tally, stop) for gateway in gateways]
            shares = [self.queries[place :: len(streams)] for place in range(len(streams))]
            asking = [
                asyncio.create_task(stream.run(cycle(share))) for stream, share in zip(streams, shares, strict=True)
            ]
            try:
                yield tally
                await asyncio.sleep(_LAST_ANSWERS_SECONDS)
            finally:
                stop.set()
                await asyncio.gather(*asking)

    def held(self, collection: str) -> tuple[int, int]:
        """Return how many vectors a collection has, and of how many documents."""
        with psycopg.connect(self.database.owner_dsn) as connection:
            query = sql.SQL("SELECT count(embedding), count(DISTINCT id) FROM reembed.{}")
            row = connection.execute(query.format(sql.Identifier(collection))).fetchone()
        assert row is not None
        return row[0], row[1]

    def outcome(self, status: Object, tally: Tally, index: Object) -> Outcome:
        """Put together what was seen."""
        models = {pool(name): name for name in self.files}
        sides = [status[side] for side in ("serving", "candidate") if side in status]
        names = {side["collection"]: models[side["pool"]] for side in sides}
        told = tally.json()
        judged = judge(self.truth, told["sources"])
        answers: dict[str, int] = {}
        for one in told["sources"]:
            answers[names[one["collection"]]] = answers.get(names[one["collection"]], 0) + one["answers"]
        return Outcome(
            end=status["state"],
            reason=status["reason"],
            states=tuple(visit["state"] for visit in status["timeline"]),
            verdict=status["evaluation"]["verdict"],
            serves=models[_status(index)["routing"]["serving"]["pool"]],
            weights=_changes([epoch.weight for _, epoch in sorted(self.truth.epochs.items())]),
            triggers=frozenset(name for seen in self.versions for name in _exceeded(_status(seen))),
            failed=told["sent"] - sum(answers.values()),
            wrong=(*told["problems"], *judged.reasons, *["a query fell back"] * bool(judged.fell_back)),
            answered_by=frozenset(answers),
            message=status["message"],
            evaluation=status["evaluation"],
            answers=answers,
            mrr={names[collection]: mrr for collection, mrr in judged.mrr.items()},
        )

    async def _apply(self, kind: Kind, name: str, **fields: Any) -> None:
        meta = {"namespace": self.namespace, "name": name}
        await self.cluster.apply(kind, {"metadata": meta, **fields}, manager="user")

    async def _until(self, kind: Kind, name: str, holds: Callable[[Object], bool]) -> Object:
        last: Object = {}
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                async for last in self._following(kind, name):
                    if holds(last):
                        return last
        except TimeoutError:
            pytest.fail(f"{kind.name} {name} stayed at {_status(last)}; pods said:\n{self.kubelet.logs()}")
        raise AssertionError("a watch that is renewed does not end")

    async def _watch(self, kind: Kind, name: str, record: Callable[[Object], None]) -> None:
        async for seen in self._following(kind, name):
            record(seen)

    async def _following(self, kind: Kind, name: str) -> AsyncIterator[Object]:
        while True:
            # A server that has just learnt of a kind has no watches of it yet.
            with suppress(ClusterError):
                async for _, seen in self.cluster.watch(kind, self.namespace, name=name):
                    yield seen
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    world: World, kubeconfig: Path, serves: str, target: Mapping[str, Any] | None = None, *, adopted: str = ""
) -> AsyncIterator[Tally]:
    """Run pods and operator, let a model fill the index or its vectors be adopted, and ask it until the block ends.

    `adopted` says who keeps the column fresh then.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_pods(world.kubelet))
        stack.enter_context(killable(str(kubeconfig), world.namespace, world.kubelet.port))
        if adopted:
            await world.adopt(serves, adopted)
        await stack.enter_async_context(world.watched())
        if not adopted:
            await world.fill(serves, target or {})
        yield await stack.enter_async_context(world.asked())


async def _code(http: aiohttp.ClientSession, url: str) -> int:
    async with http.post(url, json={"query": "a question"}) as answer:
        return answer.status


async def _page(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


def pool(model: str) -> str:
    return model.lower()


def _status(seen: Object) -> Object:
    found: Object = seen.get("status") or {}
    return found


def _condition(seen: Object, kind: str) -> Object:
    return next((one for one in _status(seen).get("conditions", []) if one["type"] == kind), {})


def _exceeded(status: Object) -> list[str]:
    """Return the triggers that speak against the new model, as long as it may still come to serve.

    Once the migration goes back, its collection is withdrawn, and probes of it fail until no gateway knows it any more.
    """
    if status.get("state") == "RollingBack":
        return []
    return [one["name"] for one in status.get("triggers", []) if not one.get("dryRun", False)]


def _changes(values: list[int]) -> tuple[int, ...]:
    return tuple(value for place, value in enumerate(values) if place == 0 or value != values[place - 1])


def _migration(model: str) -> Object:
    backfill = {"shards": 2, "parallelism": 2}
    return {"indexRef": {"name": _INDEX}, "target": {"poolRef": {"name": pool(model)}}, "backfill": backfill}


def _pool(uri: str, file: ModelFile) -> Object:
    model = {"uri": uri, "sha256": file.sha256, "pooling": "Mean", "dimensions": 384, "maxTokens": 128}
    return {"model": model, "variants": [{"name": "cpu"}]}


def _index() -> Object:
    return {
        "store": {
            "ownerSecretRef": {"name": "store", "key": "owner"},
            "gatewaySecretRef": {"name": "store", "key": "gateway"},
            "gatewayRole": GATEWAY,
        },
        "source": {"table": "functions", "idColumn": "id", "textColumn": "body"},
        "gateway": {"replicas": 2},
    }
