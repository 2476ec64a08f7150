"""One shard's way from the source to the store: read -> embed -> validate -> write, over bounded queues.

`shard.py` runs it for a claimed shard until nothing is left to read. Memory is flat whatever the shard's size: 1000
documents wait to be embedded, 500 are embedded and not yet stored, 250 are checked; one that is cut counts as its
parts. The second number is what a kill costs: a document is only sent to the embedder while fewer than a page of 500
are ahead of the last one stored.
Requests run concurrently and end in any order; what is behind them moves by the batches that were asked for, which are
numbered and stored in the order of the ids, so that one position says what is done. How many requests are under way is
decided by `pacing.py`. The pipeline ends with the first error that is not worth another attempt; nothing it did has to
be undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reembed.backfill.cutting import Cut, Cutter, all_results, embedded
from reembed.backfill.embedding import DocumentEmbedder
from reembed.backfill.lanes import Lane, Room
from reembed.backfill.metrics import Metrics
from reembed.backfill.pacing import Pacing, Queries
from reembed.backfill.retries import Retrying
from reembed.backfill.stages import Busy
from reembed.core.batching import batch_pages, fitting_pages
from reembed.core.elastic import ASKED, THROTTLED_BY
from reembed.core.fingerprint import chunking_of
from reembed.core.pages import InOrder
from reembed.core.throttle import MOST
from reembed.stores.protocol import Document, Filling, Lease, Page, Rejected, StoreUnavailable, Written

PAGE = 500  # documents of one read, and the most that a kill costs
READ_AHEAD = 1000
COMMIT = 250  # documents of one transaction; half a page, so that the other half is embedded meanwhile
COMMIT_SECONDS = 1.0  # a page that does not fill is stored after this time
REQUESTS = int(MOST)  # in flight; two or three pages of the embedder's contexts, so that it never waits for us
# A document this large takes the room of two: 1000 of them are 32 MB.
_WEIGHT_CHARACTERS = 32 * 1024

Pressure = Callable[[], tuple[float | None, float | None]]
Answers = Sequence[bytes | Rejected]
Results = Sequence[Written | Rejected]
Answered = tuple[int, Sequence[Cut], Answers]  # a batch by its number, with an answer for each text
Checked = tuple[int, Results]


@dataclass(frozen=True, slots=True)
class Senses:
    """What the pipeline goes by: memory and CPU of this container, as shares of their limits, and callers' queries."""

    pressure: Pressure = lambda: (None, None)
    queries: Queries = lambda: None  # their p95 since it was last asked for, in seconds


@dataclass(frozen=True, slots=True)
class Tools:
    """What the pipeline works with."""

    store: Filling
    embedder: DocumentEmbedder
    retrying: Retrying
    senses: Senses
    metrics: Metrics


class Pipeline:
    """Fills one shard; `run` returns when all its documents are stored or rejected. It belongs to one event loop."""

    def __init__(self, lease: Lease, tools: Tools) -> None:
        self._lease = lease
        self._tools = tools
        self._clock = asyncio.get_running_loop().time
        self._cutter = Cutter(chunking_of(lease.fingerprint), tools.embedder, tools.retrying)
        self._texts: Lane[Cut] = Lane(READ_AHEAD, _weight)
        self._answers: Lane[Answered] = Lane(PAGE, lambda answered: len(answered[2]))
        self._checked: Lane[Checked] = Lane(COMMIT, lambda checked: _vectors(checked[1]))
        self._unstored = Room(PAGE)
        self._rooms: dict[str, int] = {}  # what documents of several parts take of it
        self._turn = asyncio.Lock()
        self._batches = 0
        self._busy = Busy(self._clock, {"embed": REQUESTS}, tools.metrics)
        self._pacing = Pacing(tools.metrics, tools.senses.queries, self._clock)
        tools.metrics.queue_depth.labels("read").set_function(self._texts.__len__)
        tools.metrics.queue_depth.labels("embedded").set_function(lambda: self._answers.weight)
        tools.metrics.queue_depth.labels("validated").set_function(lambda: self._checked.weight)

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
        after = self._lease.position
        while documents := await self._read_page(after):
            await self._texts.put(await self._cutter.cut(documents))
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
        while (batch := await self._next_batch())[1]:
            number, documents, limit = batch
            began = self._clock()
            with self._busy.working("embed"):
                results = await embedded(documents, self._tools.embedder, limit)
            self._pacing.end(self._clock() - began)
            await self._answers.put([(number, documents, results)])

    async def _next_batch(self) -> tuple[int, Sequence[Cut], int]:
        """Return the next documents that may be sent, their batch's number and its pages; none once all are sent."""
        # Batches get room in their order: were a later one to take the last of it, the earlier could not be embedded,
        # the writer would wait for it, and no room would ever come.
        async with self._turn:
            await self._pacing.begin()
            limit = batch_pages(*self._tools.senses.pressure())
            batch = await self._texts.take(limit, lambda offered: fitting_pages([one.pages for one in offered], limit))
            if not batch:
                self._pacing.end()
            rooms = {one.document.id: min(one.count, PAGE) for one in batch}
            self._rooms |= {found: room for found, room in rooms.items() if room > 1}
            await self._unstored.take(sum(rooms.values()))
            self._batches += 1
            return self._batches - 1, batch, limit

    async def _validate(self) -> None:
        while answered := await self._answers.take(COMMIT):
            with self._busy.working("validate"):
                checked = [(number, self._results(documents, answers)) for number, documents, answers in answered]
            await self._checked.put(checked)
        self._checked.close()

    def _results(self, documents: Sequence[Cut], answers: Answers) -> Results:
        return all_results(documents, answers, self._lease.dimensions)

    async def _write(self) -> None:
        after, ordered, waiting = self._lease.position, InOrder[Results](), list[Written | Rejected]()
        due = self._clock() + COMMIT_SECONDS
        more = True
        while more:
            try:
                async with asyncio.timeout(max(0.0, due - self._clock()) if waiting else None):
                    arrived = await self._checked.take(COMMIT)
                more = bool(arrived)
            except TimeoutError:
                arrived = []
            if not waiting:
                due = self._clock() + COMMIT_SECONDS
            waiting += [result for results in ordered.add(arrived) for result in results]
            if waiting and (_vectors(waiting) >= COMMIT or self._clock() >= due or not more):
                after = await self._commit(after, waiting)
                waiting = []

    async def _commit(self, after: str | None, documents: Sequence[Written | Rejected]) -> str:
        page = Page(
            after,
            documents[-1].id,
            tuple([document for document in documents if isinstance(document, Written)]),
            tuple([document for document in documents if isinstance(document, Rejected)]),
        )
        began = self._clock()
        with self._busy.working("write"):
            await self._tools.retrying(
                lambda: self._tools.store.commit(self._lease, page, self._stages()),
                (StoreUnavailable,),
                "storing a page",
            )
        self._pacing.committed(self._clock() - began)
        self._unstored.give(sum([self._rooms.pop(document.id, 1) for document in documents]))
        self._tools.metrics.documents.inc(len(page.written))
        for rejected in page.rejected:
            self._tools.metrics.rejected.labels(rejected.reason).inc()
        return page.last

    def _stages(self) -> Mapping[str, float]:
        """Return how busy each stage is, how much is asked for, and what the backfill yields to."""
        suffers, asked = self._pacing.throttled_by, {ASKED: self._pacing.limit}
        yields = {f"{THROTTLED_BY}{suffers}": 1.0} if suffers is not None else {}
        return {**self._busy.shares(), **asked, **yields}


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Return the error that ended the other stages, which are cancelled and raise nothing of their own."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _weight(one: Cut) -> int:
    return max(one.count, 1 + len(one.document.text or "") // _WEIGHT_CHARACTERS)


def _vectors(results: Results) -> int:
    return sum([1 + len(one.others) if isinstance(one, Written) else 1 for one in results])
