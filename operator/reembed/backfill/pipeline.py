"""One shard's way from the source to the store: read -> embed -> validate -> write, over bounded queues.

`shard.py` runs it for a claimed shard until nothing is left to read. Memory is flat whatever the shard's size: 1000
documents wait to be embedded, 500 are embedded and not yet stored, 100 are checked. The second number is what a kill
costs: a document is only sent to the embedder while fewer than a page of 500 are ahead of the last one stored.
Requests run concurrently and end in any order; pages are stored in the order of the ids, so that one position says what
is done. The pipeline ends with the first error that is not worth another attempt; nothing it did has to be undone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reembed.backfill.documents import checked
from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.lanes import Lane
from reembed.backfill.metrics import Metrics
from reembed.backfill.retries import Retrying
from reembed.backfill.stages import Busy
from reembed.core.batching import batch_pages, fitting
from reembed.core.pages import InOrder
from reembed.stores.protocol import Document, Filling, Lease, Page, Rejected, StoreUnavailable, Written

PAGE = 500  # documents of one read, and the most that a kill costs
READ_AHEAD = 1000
COMMIT = 100  # documents of one transaction
COMMIT_SECONDS = 1.0  # a page that does not fill is stored after this time
REQUESTS = 16  # in flight; two or three pages of the embedder's contexts, so that it never waits for us
# A document this large takes the room of two: 1000 of them are 32 MB.
_WEIGHT_CHARACTERS = 32 * 1024

Pressure = Callable[[], tuple[float | None, float | None]]
Numbered = tuple[int, Document]
Answered = tuple[int, Document, bytes | Rejected]
Checked = tuple[int, Written | Rejected]


@dataclass(frozen=True, slots=True)
class Tools:
    """What the pipeline works with."""

    store: Filling
    embedder: DocumentEmbedder
    retrying: Retrying
    pressure: Pressure  # memory and CPU of this container, as shares of their limits
    metrics: Metrics


class Pipeline:
    """Fills one shard; `run` returns when all its documents are stored or rejected."""

    def __init__(self, lease: Lease, tools: Tools) -> None:
        self._lease = lease
        self._tools = tools
        self._texts: Lane[Numbered] = Lane(READ_AHEAD, _weight)
        self._answers: Lane[Answered] = Lane(PAGE, _one)
        self._checked: Lane[Checked] = Lane(COMMIT, _one)
        self._unstored = asyncio.Semaphore(PAGE)
        self._turn = asyncio.Lock()
        self._busy = Busy(time.monotonic, {"embed": REQUESTS}, tools.metrics)
        lanes: Mapping[str, Lane[Numbered] | Lane[Answered] | Lane[Checked]] = {
            "read": self._texts,
            "embedded": self._answers,
            "validated": self._checked,
        }
        for name, lane in lanes.items():
            tools.metrics.queue_depth.labels(name).set_function(lane.__len__)

    async def run(self) -> None:
        """Fill the shard.

        Raises:
            Fenced: another pod took it over.
            StoreError: the store refuses, and asking again would not help.

        """
        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(self._read())
                stages.create_task(self._embed_all())
                stages.create_task(self._validate())
                stages.create_task(self._write())
        except ExceptionGroup as group:
            raise _first(group) from group

    async def _read(self) -> None:
        after, number = self._lease.position, 0
        while documents := await self._read_page(after):
            await self._texts.put([(number + n, document) for n, document in enumerate(documents)])
            number += len(documents)
            after = documents[-1].id
        self._texts.close()

    async def _read_page(self, after: str | None) -> list[Document]:
        with self._busy.working("read"):
            return await self._tools.retrying(
                lambda: self._tools.store.read(self._lease, after, PAGE), (StoreUnavailable,), "reading documents"
            )

    async def _embed_all(self) -> None:
        async with asyncio.TaskGroup() as requests:
            for _ in range(REQUESTS):
                requests.create_task(self._embed())
        self._answers.close()

    async def _embed(self) -> None:
        while batch := await self._next_batch():
            documents = [document for _, document in batch]
            with self._busy.working("embed"):
                results = await self._tools.embedder.embed(documents)
            await self._answers.put(
                [(number, document, result) for (number, document), result in zip(batch, results, strict=True)]
            )

    async def _next_batch(self) -> list[Numbered]:
        # Batches get room in their order: were a later one to take the last of it, the earlier could not be embedded,
        # the writer would wait for it, and no room would ever come.
        async with self._turn:
            limit = batch_pages(*self._tools.pressure())
            batch = await self._texts.take(
                limit, lambda offered: fitting([document.text or "" for _, document in offered], limit)
            )
            for _ in batch:
                await self._unstored.acquire()
            return batch

    async def _validate(self) -> None:
        while answers := await self._answers.take(COMMIT):
            with self._busy.working("validate"):
                results = [(number, self._result(document, answer)) for number, document, answer in answers]
            await self._checked.put(results)
        self._checked.close()

    def _result(self, document: Document, answer: bytes | Rejected) -> Written | Rejected:
        return answer if isinstance(answer, Rejected) else checked(document, answer, self._lease.dimensions)

    async def _write(self) -> None:
        after, ordered, waiting = self._lease.position, InOrder[Written | Rejected](), list[Written | Rejected]()
        due = time.monotonic() + COMMIT_SECONDS
        more = True
        while more:
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic()) if waiting else None):
                    arrived = await self._checked.take(COMMIT)
                more = bool(arrived)
            except TimeoutError:
                arrived = []
            if not waiting:
                due = time.monotonic() + COMMIT_SECONDS
            waiting += ordered.add(arrived)
            if waiting and (len(waiting) >= COMMIT or time.monotonic() >= due or not more):
                after = await self._commit(after, waiting)
                waiting = []

    async def _commit(self, after: str | None, documents: Sequence[Written | Rejected]) -> str:
        page = Page(
            after,
            documents[-1].id,
            tuple([document for document in documents if isinstance(document, Written)]),
            tuple([document for document in documents if isinstance(document, Rejected)]),
        )
        with self._busy.working("write"):
            await self._tools.retrying(
                lambda: self._tools.store.commit(self._lease, page, self._busy.shares()),
                (StoreUnavailable,),
                "storing a page",
            )
        for _ in documents:
            self._unstored.release()
        self._tools.metrics.documents.inc(len(page.written))
        for rejected in page.rejected:
            self._tools.metrics.rejected.labels(rejected.reason).inc()
        return page.last


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Return the error that ended the other stages, which are cancelled and raise nothing of their own."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _weight(numbered: Numbered) -> int:
    return 1 + len(numbered[1].text or "") // _WEIGHT_CHARACTERS


def _one(_: object) -> int:
    return 1
