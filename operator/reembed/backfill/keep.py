"""Wires a store worker: the API server's plan, the store, the pools' embedders and HTTP around one `Worker`."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from reembed.backfill.evaluation import Evaluator
from reembed.backfill.follower import Follower
from reembed.backfill.label_lines import reader
from reembed.backfill.live import LiveRetrieval
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.plan_source import PlanSource, Reading
from reembed.backfill.retries import Backoff, Retrying
from reembed.backfill.server import app, server
from reembed.backfill.worker import Worker
from reembed.client import EmbedderClient
from reembed.cluster.client import Cluster
from reembed.core import names
from reembed.core.model import Arm, CollectionPlan, Problem, StoreReport
from reembed.stores import opening
from reembed.stores.protocol import Following, StoreError
from reembed.stores.protocol import Keeping as Store

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The worker's environment."""

    namespace: str
    index: str
    dsn: str
    port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        return cls(
            namespace=environment["REEMBED_NAMESPACE"],
            index=environment["REEMBED_INDEX"],
            dsn=environment["REEMBED_DSN"],
            port=int(environment.get("REEMBED_PORT", names.PORT)),
        )


class Keeping:
    """The running parts of one process, and what /status answers from before there is a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = WorkerMetrics()
        self._worker: Worker | None = None
        self._problem: StoreReport | None = None

    async def run(self) -> None:
        """Serve until a signal comes; a worker that cannot go on ends the process with its error."""
        http = server(app(self._report, self._metrics.registry), self._settings.port)
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._work())
            await http.serve()
            working.cancel()

    def _report(self) -> StoreReport | None:
        return self._worker.report if self._worker is not None else self._problem

    async def _work(self) -> None:
        settings = self._settings
        async with Cluster.connect() as cluster:
            source = PlanSource(cluster, settings.namespace, settings.index)
            reading = await source.first()
            try:
                key = names.index_key(settings.namespace, settings.index)
                opened = opening.keeping(settings.dsn, key, reading.uid)
            except StoreError as error:
                log.error("%s", error)
                self._problem = StoreReport(Problem("StoreUnreachable", str(error)), None, None)
                await asyncio.Event().wait()
                return
            following = opening.following(settings.dsn, key)
            async with opened as keeper, following as changes, asyncio.TaskGroup() as tasks:
                self._worker = worker = self._made(keeper, changes, cluster)
                worker.want(reading.wanted)
                tasks.create_task(worker.run())
                tasks.create_task(source.follow(lambda found: _tell(worker, reading, found)))

    def _made(self, keeper: Store, changes: Following, cluster: Cluster) -> Worker:
        rng = random.Random()  # noqa: S311 spreads attempts and draws queries, keeps no secret
        retrying = Retrying(Backoff(), rng)
        evaluator = Evaluator(keeper, self._embedder, retrying, reader(cluster, self._settings.namespace))
        live = LiveRetrieval(keeper, evaluator, rng)
        follower = Follower(changes, self._embedder, retrying, time.monotonic, self._metrics)
        return Worker(keeper, evaluator, live, follower, time.monotonic, self._metrics)

    @asynccontextmanager
    async def _embedder(self, arm: Arm | CollectionPlan) -> AsyncIterator[EmbedderClient]:
        url = names.embedder_url(arm.pool, self._settings.namespace)
        client = EmbedderClient(url, fingerprint=arm.fingerprint, timeout=_REQUEST_SECONDS)
        try:
            yield client
        finally:
            await client.close()


class AnotherIndex(Exception):
    """The index was deleted and made again: this process holds the claim of one that is gone."""


def _tell(worker: Worker, first: Reading, found: Reading) -> None:
    if found.uid != first.uid:
        raise AnotherIndex("the index was made anew with another UID; the process ends and starts with that")
    worker.want(found.wanted)
