"""All that one agent measures of one index, kept warm while a migration is under way.

`look` asks everything once; it is called every few seconds, and again when a proposal finds something missing. A part
that fails leaves the last look of it, which grows too old to count by itself; why it failed is logged once, until it
works again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from reembed.client import EmbedderClient, EmbedderError
from reembed.core import names
from reembed.core.model import Arm
from reembed.core.quorum.evidence import FRESH_QUERIES, Evidence, Gateways, Pods, Sample, Stored
from reembed.panel.gateways import GatewayLooks
from reembed.panel.labels import ReadLines, without_cluster
from reembed.panel.objects import Around
from reembed.panel.predictions import Predictions
from reembed.panel.probes import Opened, Prober
from reembed.panel.retrieval import Halves
from reembed.panel.stored import AgentStore
from reembed.stores.protocol import StoreError

_log = logging.getLogger(__name__)

# Stored vectors that are drawn at a time; who validates embeddings needs `roles.LEAST_VALIDATED`.
SAMPLE = 60
_SAMPLE_AGE = FRESH_QUERIES / 3
_FAILURES = (aiohttp.ClientError, EmbedderError, StoreError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Means:
    """With what an agent measures: shared by all indexes."""

    session: aiohttp.ClientSession
    prober: Prober
    stores: Path
    seed: bytes
    port: int
    lines: ReadLines = without_cluster


class Measured:
    """One index."""

    def __init__(self, namespace: str, index: str, uid: str, means: Means) -> None:
        self.uid = uid
        self._name = f"{namespace}/{index}"
        self._means = means
        self._gateways = GatewayLooks(means.session, means.port)
        self._store = AgentStore(means.stores, namespace, index, uid, means.lines)
        self._halves = Halves(means.seed)
        self._predictions = Predictions()
        self._failed: dict[str, str] = {}
        self._around: Around | None = None
        self._seen: Gateways | None = None
        self._pods: dict[str, Pods] = {}
        self._stored: Stored | None = None
        self._sample: Sample | None = None
        self._lock = asyncio.Lock()

    @property
    def around(self) -> Around | None:
        return self._around

    @property
    def evidence(self) -> Evidence:
        """Return what is known now, however old it is; each part says so."""
        return Evidence(
            objects=self._around.objects if self._around is not None else None,
            gateways=self._seen,
            pods=dict(self._pods),
            stored=self._stored,
            retrieval=self._halves.told,
            sample=self._sample,
            prediction=self._predictions.told,
            failed=dict(self._failed),
        )

    def read(self, around: Around) -> None:
        """Take over what was read from the API server."""
        self._around = around

    async def look(self, around: Around, *, asked: bool = False) -> bool:
        """Measure everything, and return whether labelled queries are left to measure. One look goes at a time.

        `asked` says that a vote waits for it, for which hosted models are asked, too.
        """
        async with self._lock:
            self.read(around)
            pods = self._look_at_pods(around, asked=asked)
            await asyncio.gather(self._look_at_gateways(around), pods, self._look_at_store())
            self._predictions.add(around.objects, self._pods)
            return await self._look_at_vectors(around, asked=asked)

    async def close(self) -> None:
        async with self._lock:
            await self._store.close()

    async def _look_at_gateways(self, around: Around) -> None:
        self._seen = await self._gateways.look(around.objects.index, around.gateways)

    async def _look_at_pods(self, around: Around, *, asked: bool) -> None:
        pools = around.objects.pools
        prober = self._means.prober
        looks = [prober.look(pools[name], addresses, asked=asked) for name, addresses in around.pools.items()]
        found = await asyncio.gather(*looks)
        self._pods = dict(zip(around.pools, found, strict=True))

    async def _look_at_store(self) -> None:
        async def look() -> None:
            self._stored = await self._store.look()

        await self._trying("the store", look)

    async def _look_at_vectors(self, around: Around, *, asked: bool) -> bool:
        """Put a few labelled queries to both sides, and embed a few stored texts again."""
        migration = around.objects.migration
        if migration is None or migration.status.candidate is None or not self._indexed(migration.status.candidate):
            return False
        candidate, serving, left = migration.status.candidate, migration.status.serving, False
        async with _embedders(around, self._means.port) as embedders:

            async def queries() -> None:
                nonlocal left
                hosted = any(_hosted(around, arm) for arm in (serving, candidate))
                if hosted and not asked and self._halves.whole:
                    return
                if all(arm is not None and arm.pool in embedders for arm in (serving, candidate)):
                    spec = around.objects.index.spec
                    left = await self._halves.step(self._store, spec, migration, embedders)

            async def vectors() -> None:
                # Of a candidate that alone is left, too.
                wait = _hosted(around, candidate) and not asked
                if candidate.pool in embedders and self._sample_due(candidate, wait=wait):
                    self._sample = await self._store.sample(candidate, SAMPLE, embedders[candidate.pool])

            await self._trying("labelled queries", queries)
            await self._trying("stored vectors", vectors)
        return left

    def _indexed(self, arm: Arm) -> bool:
        held = self._stored.collection(arm.collection) if self._stored is not None else None
        return held is not None and held.state == "Indexed"

    def _sample_due(self, arm: Arm, *, wait: bool) -> bool:
        one = self._sample
        if one is None or one.collection != arm.collection:
            return True
        # Of a hosted model texts are paid for: they are embedded again for a vote alone.
        return not wait and datetime.now(UTC) - one.at > _SAMPLE_AGE

    async def _trying(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except _FAILURES as error:
            text = f"{type(error).__name__}: {error}"[:500]
            if self._failed.get(what) != text:
                _log.warning(
                    "%s of index %s cannot be measured, so that no raise is approved: %s", what, self._name, text
                )
            self._failed[what] = text
        else:
            self._failed.pop(what, None)


def _hosted(around: Around, arm: Arm | None) -> bool:
    pool = around.objects.pools.get(arm.pool) if arm is not None else None
    return pool is not None and pool.spec.external is not None


@asynccontextmanager
async def _embedders(around: Around, port: int) -> AsyncIterator[dict[str, EmbedderClient]]:
    """Lend a client of one ready pod of each pool, another one at each look."""
    opened = {}
    for name, addresses in around.pools.items():
        if addresses:
            address = random.choice(list(addresses.values()))  # noqa: S311 no secret
            opened[name] = Opened(f"http://{names.at(address, port)}", around.objects.pools[name].fingerprint)
    clients = {name: await one.__aenter__() for name, one in opened.items()}
    try:
        yield clients
    finally:
        for one in opened.values():
            await one.__aexit__()
