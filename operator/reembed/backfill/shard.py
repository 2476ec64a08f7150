"""A backfill pod: it takes one shard over, fills it, marks it done.

A pod may be killed at any line: whoever comes next starts behind the last page stored. A shard that is done already
ends at once, so that a Job whose pods come back costs nothing. Done-ness is in the store alone; the exit code tells the
Job only whether to send another pod.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import start_http_server

from reembed.backfill.embedding import DocumentEmbedder, Embedder
from reembed.backfill.metrics import Metrics
from reembed.backfill.pacing import Queries
from reembed.backfill.pipeline import Pipeline, Senses, Tools
from reembed.backfill.pressure import ContainerPressure
from reembed.backfill.queries import CallersQueries
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import EmbedderClient
from reembed.core.elastic import SENT_AWAY
from reembed.core.fingerprint import model_of
from reembed.stores import opening
from reembed.stores.protocol import Fenced, Filling, StoreError, StoreUnavailable

log = logging.getLogger(__name__)

DONE = 0
FAILED = 1
FENCED = 4
# A shard that was stopped is not done: exit code 0 would tell the Job that it is.
STOPPED = SENT_AWAY

# An embedder may hold a batch of long texts back behind queries for so long.
_REQUEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """A pod's environment."""

    dsn: str
    collection: str
    shard: int
    embedder_url: str
    fingerprint: str
    metrics_port: int | None
    gateway_url: str | None = None  # of the index, None where nobody's queries are watched

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        port = environment.get("REEMBED_PORT")
        return cls(
            dsn=environment["REEMBED_DSN"],
            collection=environment["REEMBED_COLLECTION"],
            shard=int(environment["JOB_COMPLETION_INDEX"]),
            embedder_url=environment["REEMBED_EMBEDDER_URL"],
            fingerprint=environment["REEMBED_FINGERPRINT"],
            metrics_port=int(port) if port else None,
            gateway_url=environment.get("REEMBED_GATEWAY_URL") or None,
        )


@dataclass(frozen=True, slots=True)
class Work:
    """Which shard is filled by which model."""

    collection: str
    shard: int
    fingerprint: str


async def main(settings: Settings) -> int:
    """Fill the shard of this pod and return the process's exit code."""
    metrics = Metrics()
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, registry=metrics.registry)
    client = EmbedderClient(settings.embedder_url, fingerprint=settings.fingerprint, timeout=_REQUEST_SECONDS)
    try:
        async with opening.filling(settings.dsn) as store, _watched(settings.gateway_url) as queries:
            work = Work(settings.collection, settings.shard, settings.fingerprint)
            await fill(work, store, client, Senses(ContainerPressure(), queries), metrics)
    except Fenced as error:
        log.warning("%s", error)
        return FENCED
    except StoreError as error:
        log.error("%s", error)
        return FAILED
    finally:
        await client.close()
    return DONE


@asynccontextmanager
async def _watched(gateway_url: str | None) -> AsyncIterator[Queries]:
    """Watch callers' queries while the block runs, and give what is seen of them."""
    if gateway_url is None:
        yield lambda: None
        return
    callers = CallersQueries(gateway_url)
    watching = asyncio.create_task(callers.watch())
    try:
        yield callers.p95
    finally:
        watching.cancel()


async def fill(
    work: Work,
    store: Filling,
    embedder: Embedder,
    senses: Senses | None = None,
    metrics: Metrics | None = None,
    backoff: Backoff | None = None,
) -> None:
    """Take the shard over and fill what is left of it."""
    retrying = Retrying(backoff or Backoff(), random.Random())  # noqa: S311 spreads pods, keeps no secret
    lease = await retrying(lambda: store.claim(work.collection, work.shard), (StoreUnavailable,), "claiming the shard")
    if lease.done:
        log.info("shard %d of %s is done already", work.shard, work.collection)
        return
    if lease.fingerprint != work.fingerprint:
        raise StoreError(
            f"collection {work.collection} holds vectors of {lease.fingerprint}, this pod was made for "
            f"{work.fingerprint}; nothing was written. The collection needs a Job of its own model"
        )
    log.info("filling shard %d of %s behind %s", work.shard, work.collection, lease.position)
    documents = DocumentEmbedder(embedder, model_of(work.fingerprint), retrying)
    await Pipeline(lease, Tools(store, documents, retrying, senses or Senses(), metrics or Metrics())).run()
    await retrying(lambda: store.finish(lease), (StoreUnavailable,), "finishing the shard")
    log.info("shard %d of %s is done", work.shard, work.collection)


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Return what `main` returns, or STOPPED if `stop` is set before."""
    working, stopping = asyncio.create_task(main(settings)), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait({working})
    return STOPPED
