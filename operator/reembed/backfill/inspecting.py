"""The Job that inspects one collection: it counts in the store, embeds a sample again, and records what it found.

Nothing is changed, so whoever is killed at any line is followed by one that does all of it again; the outcome of an
order is recorded once. Embedding is asked for in the background, a few texts at a time: callers' queries have
precedence, and a pool that is busy for long is waited for, up to `_PATIENCE`. What was embedded until then is enough if
it is a quarter of the sample; with less the Job fails, since nothing is known of the pool. A migration waits meanwhile,
so a store that is slow is asked for fewer rows instead of for the same ones again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from reembed.backfill.embedding import DocumentEmbedder, Embedder, cosine
from reembed.backfill.retries import Backoff, Retrying
from reembed.client import EmbedderClient
from reembed.core.fingerprint import model_of
from reembed.core.inspection import MOST, SAMPLE, fewer, judge, told
from reembed.core.model import InspectionReport
from reembed.stores.pgvector.inspection import InspectionStore
from reembed.stores.protocol import Document, Inspecting, Rejected, Sampled, StoreError, StoreSlow, StoreUnavailable

log = logging.getLogger(__name__)

DONE = 0
FAILED = 1

_BATCH = 8
_PATIENCE = 600.0
_REQUEST_SECONDS = 120.0
_ENOUGH = 0.25  # of the sample

Clock = Callable[[], datetime]
T = TypeVar("T")


class PoolSilent(Exception):
    """The pool embedded too little of the sample to say whether it made the vectors."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The Job's environment; without a pool's address nothing is embedded again."""

    dsn: str
    order: str
    collection: str
    fingerprint: str
    embedder_url: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        return cls(
            dsn=environment["REEMBED_DSN"],
            order=environment["REEMBED_INSPECTION"],
            collection=environment["REEMBED_COLLECTION"],
            fingerprint=environment["REEMBED_FINGERPRINT"],
            embedder_url=environment.get("REEMBED_EMBEDDER_URL") or None,
        )


@dataclass(frozen=True, slots=True)
class Order:
    """Which collection is inspected, by which pool's fingerprint, and who asked for it."""

    id: str
    collection: str
    fingerprint: str
    patience: float = _PATIENCE


async def main(settings: Settings) -> int:
    """Inspect the collection and return the process's exit code."""
    order, url = Order(settings.order, settings.collection, settings.fingerprint), settings.embedder_url
    client = EmbedderClient(url, fingerprint=model_of(settings.fingerprint), timeout=_REQUEST_SECONDS) if url else None
    try:
        async with InspectionStore(settings.dsn) as store:
            report = await inspect(order, store, client)
    except (StoreError, PoolSilent) as error:
        log.error("%s", error)
        return FAILED
    finally:
        if client is not None:
            await client.close()
    log.info("%s: %s", report.collection, told(report))
    return DONE


async def inspect(
    order: Order,
    store: Inspecting,
    embedder: Embedder | None,
    clock: Clock = lambda: datetime.now(UTC),
    backoff: Backoff | None = None,
) -> InspectionReport:
    """Inspect, record and return the outcome.

    Raises:
        PoolSilent: hardly anything of the sample was embedded in time.
        StoreError: the store cannot be read.

    """
    at = clock()
    retrying = Retrying(backoff or Backoff(), random.Random())  # noqa: S311 spreads attempts, keeps no secret
    sample, most = list[Sampled](), MOST
    if embedder is not None:
        sample, most = await _in_time(retrying, partial(store.sample, order.collection, SAMPLE), most)
    survey, _ = await _in_time(retrying, partial(store.survey, order.collection), most)
    cosines: list[float] | None = None
    if embedder is not None:
        documents = DocumentEmbedder(embedder, model_of(order.fingerprint), retrying)
        cosines = await _again(documents, sample, order.patience)
    findings, reproduced = judge(survey, cosines)
    report = InspectionReport(
        id=order.id,
        at=at,
        collection=order.collection,
        fingerprint=survey.fingerprint,
        documents=survey.documents,
        inspected=survey.read,
        findings=findings,
        reproduced=reproduced,
        norms=survey.norms,
    )
    await retrying(lambda: store.record(report), (StoreUnavailable,), "recording the outcome")
    return report


async def _in_time(retrying: Retrying, read: Callable[[int], Awaitable[T]], most: int) -> tuple[T, int]:
    """Return what is read of `most` rows, or of as many as the store can read in time, and of how many it was.

    Raises:
        StoreSlow: it cannot read even a few.

    """

    async def once(rows: int) -> T | StoreSlow:
        try:
            return await read(rows)
        except StoreSlow as error:
            return error

    while True:
        found = await retrying(partial(once, most), (StoreUnavailable,), "reading the collection")
        if not isinstance(found, StoreSlow):
            return found, most
        less = fewer(most)
        if less is None:
            raise found
        log.warning("%d rows take too long (%s); %d are read instead", most, found, less)
        most = less


async def _again(documents: DocumentEmbedder, sample: Sequence[Sampled], patience: float) -> list[float]:
    """Return the cosine of each stored vector with the one that the pool makes of its document now."""
    cosines: list[float] = []
    try:
        async with asyncio.timeout(patience):
            for start in range(0, len(sample), _BATCH):
                batch = sample[start : start + _BATCH]
                answers = await documents.embed([Document(one.id, one.text) for one in batch])
                pairs = zip(batch, answers, strict=True)
                # What the pool refuses, such as a text that is too long for it, says nothing of who made the others.
                cosines += [cosine(one.vector, found) for one, found in pairs if not isinstance(found, Rejected)]
    except TimeoutError:
        if len(cosines) < _ENOUGH * len(sample):
            raise PoolSilent(
                f"the pool embedded {len(cosines)} of {len(sample)} documents within {patience:g} s, so it is not known"
                " whether it made the collection's vectors; it is tried again. See whether the pool answers in the"
                " background: its load, or the budget of a hosted model"
            ) from None
    return cosines
