"""Keeps the collections of an index fresh: what the application changed is embedded again, for each of them by itself.

Runs in the store worker for as long as there is a collection that answers, may answer soon, or is kept for a way back.
One task turns the marks of the triggers into debts of all live collections; one task for each collection pays them,
oldest first, with the model of that collection. It remembers nothing that matters: whatever is interrupted anywhere is
owed still. What cannot be embedded is stored as rejected with a tombstone in one transaction, since the vector of a
text that is no more must not answer. Requests carry background priority, as the backfill's do: queries come first.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial

from reembed.backfill.cutting import Cut, Cutter, all_results, divided, embedded
from reembed.backfill.documents import text_hash, unreadable
from reembed.backfill.embedding import DocumentEmbedder, Embedder
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.proving import Proving
from reembed.backfill.retries import Retrying
from reembed.core.batching import fitting_pages
from reembed.core.fingerprint import chunking_of, model_of
from reembed.core.model import CollectionPlan, Desired, Kept
from reembed.stores.protocol import (
    Change,
    Debt,
    Differences,
    Document,
    Following,
    Held,
    Paid,
    Rejected,
    StoreError,
    Written,
)

log = logging.getLogger(__name__)

DEBTS = 64  # paid in one transaction; few enough that an update is not kept waiting by those before it
_PAGES = 8  # of text in one request
_VECTORS = 500  # of one transaction; more only of one document
_REQUESTS = 4
_IDLE_SECONDS = 0.2  # what a change waits at most before it is seen
_LONGEST_PAUSE = 10.0
_LAG_SECONDS = 1.0
# Longer than this without a look at the marks, nobody knows what lacks.
_BLIND_SECONDS = 5.0
# Marks of transactions that committed late have lower revisions than what was seen: the scan begins anew this often.
_RESCAN_SECONDS = 1.0
_COMPARE_DOCUMENTS = 1000
# A comparison reads everything: it rests as long as it works.
_COMPARE_REST = 1.0
_COMPARE_AGAIN = timedelta(hours=6).total_seconds()
# Between looks at a column that its application keeps.
_LOOK_SECONDS = 60.0

Connect = Callable[[CollectionPlan], AbstractAsyncContextManager[Embedder]]

_OUTCOMES = {Written: "embedded", bytes: "unchanged", type(None): "gone", Rejected: "rejected"}

_LIVE = frozenset({Desired.PRESENT, Desired.INDEXED})


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a collection is behind: documents it lacks, and for how many seconds it has lacked the first of them."""

    documents: int
    seconds: float


@dataclass
class Follower:
    """Follows the live writes of one index; `run` goes on until it is cancelled, `lags` is what it last saw."""

    store: Following
    connect: Connect
    retrying: Retrying
    clock: Callable[[], float]
    metrics: WorkerMetrics
    look_seconds: float = _LOOK_SECONDS
    lags: Mapping[str, Lag] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)  # what the last looks at columns of applications found
    _plans: dict[str, CollectionPlan] = field(default_factory=dict)
    _watched: dict[str, CollectionPlan] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _spread_at: float = field(default=0.0, init=False)
    _compare_at: dict[str, float] = field(default_factory=dict)

    def follow(self, plans: Iterable[CollectionPlan], held: Mapping[str, Held]) -> None:
        """Say which collections are to be kept fresh, or looked at since somebody else does, and what there is.

        A full one is compared with its source at once if it never was in this epoch of capture, else now and then.
        """
        followed = {name for name, one in held.items() if one.followed}
        live = {plan.name: plan for plan in plans if plan.desired in _LIVE and plan.name in held}
        self._plans = {name: plan for name, plan in live.items() if name in followed}
        others = {name for name in live.keys() - followed if held[name].state == "Indexed"}
        self._watched = {name: live[name] for name in others if live[name].adopted}
        self.kept = {name: found for name, found in self.kept.items() if name in self._watched}
        full = {name for name in self._plans if held[name].shards_done == held[name].shards}
        later = self.clock() + _COMPARE_AGAIN
        self._compare_at = {
            name: self._compare_at.get(name, later) if held[name].verified else self.clock() for name in full
        }

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._spread())
                tasks.create_task(self._watch())
                tasks.create_task(self._employ())
        finally:
            await self._dismiss(self._tasks)

    async def _spread(self) -> None:
        """Turn marks into debts, for ever."""
        highest, rescan_at = 0, 0.0
        self._spread_at = self.clock()
        while True:
            if self.clock() >= rescan_at:
                highest, rescan_at = 0, self.clock() + _RESCAN_SECONDS
            spread = partial(self.store.spread, highest)
            count, highest = await self.retrying(spread, (StoreError,), "spreading marks")
            self._spread_at = self.clock()
            if count == 0:
                await asyncio.sleep(_IDLE_SECONDS)

    async def _watch(self) -> None:
        while True:
            found = await self.retrying(self.store.lag, (StoreError,), "reading the lag")
            blind = self.clock() - self._spread_at
            least = blind if blind > _BLIND_SECONDS else 0.0
            self.lags = {name: Lag(owed, max(seconds, least)) for name, (owed, seconds) in found.items()}
            for gauge in (self.metrics.lag, self.metrics.owed):
                gauge.clear()  # a collection that is gone is behind in nothing
            for name, lag in self.lags.items():
                self.metrics.lag.labels(name).set(lag.seconds)
                self.metrics.owed.labels(name).set(lag.documents)
            await asyncio.sleep(_LAG_SECONDS)

    async def _employ(self) -> None:
        """Have a task for each collection, with the plan of today."""
        employed: dict[str, CollectionPlan] = {}
        while True:
            plans = self._plans | self._watched
            gone = {name for name, plan in employed.items() if plans.get(name) != plan}
            ended = {name for name, task in self._tasks.items() if task.done()}
            await self._dismiss({name: self._tasks[name] for name in (gone | ended) & self._tasks.keys()})
            for name, plan in plans.items():
                if name not in self._tasks:
                    employed[name] = plan
                    work = self._keep_fresh(plan) if name in self._plans else self._look_for_ever(plan)
                    self._tasks[name] = asyncio.create_task(work, name=f"follow {name}")
            await asyncio.sleep(_IDLE_SECONDS)

    async def _dismiss(self, tasks: Mapping[str, asyncio.Task[None]]) -> None:
        ended = dict(tasks)
        for task in ended.values():
            task.cancel()
        for name, result in zip(ended, await asyncio.gather(*ended.values(), return_exceptions=True), strict=True):
            self._tasks.pop(name, None)
            if isinstance(result, Exception):
                log.error("following %s ended: %s; it begins again", name, result, exc_info=result)

    async def _keep_fresh(self, plan: CollectionPlan) -> None:
        async with self.connect(plan) as embedder, asyncio.TaskGroup() as tasks:
            documents = DocumentEmbedder(embedder, model_of(plan.fingerprint), self.retrying)
            tasks.create_task(self._pay_for_ever(plan, documents))
            tasks.create_task(self._compare_for_ever(plan))

    async def _pay_for_ever(self, plan: CollectionPlan, documents: DocumentEmbedder) -> None:
        pause = _IDLE_SECONDS
        while True:
            work = partial(self._pay, plan, documents)
            owed, cleared = await self.retrying(work, (StoreError,), f"following {plan.name}")
            # Rows of an adopted column that somebody holds are not embedded again and again.
            held = plan.adopted and cleared < owed
            pause = min(2 * pause, _LONGEST_PAUSE) if held else _IDLE_SECONDS
            if held or not owed:
                await asyncio.sleep(pause)

    async def _pay(self, plan: CollectionPlan, documents: DocumentEmbedder) -> tuple[int, int]:
        """Pay the oldest debts; return how many there were, and how many were cleared."""
        debts, cleared = await self.store.owed(plan.name, DEBTS), 0
        if debts:
            changes = await self.store.read(plan.name, debts)
            cutter = Cutter(chunking_of(plan.fingerprint), documents, self.retrying)
            async for paid in outcomes(changes, cutter, plan.dimensions):
                cleared += await self.store.pay(plan.name, paid)
                for one in paid:
                    self.metrics.followed.labels(plan.name, _OUTCOMES[type(one.outcome)]).inc()
        return len(debts), cleared

    async def _look_for_ever(self, plan: CollectionPlan) -> None:
        """Look now and then whether the application keeps what is not followed here."""
        async with self.connect(plan) as embedder:
            documents = DocumentEmbedder(embedder, model_of(plan.fingerprint), self.retrying)
            proving = Proving(self.store, documents, plan)
            while True:
                self.kept[plan.name] = await self.retrying(proving.look, (StoreError,), f"looking at {plan.name}")
                await asyncio.sleep(self.look_seconds)

    async def _compare_for_ever(self, plan: CollectionPlan) -> None:
        while True:
            if self.clock() >= self._compare_at.get(plan.name, math.inf):
                await self.retrying(lambda: self._compare(plan.name), (StoreError,), f"comparing {plan.name}")
                self._compare_at[plan.name] = self.clock() + _COMPARE_AGAIN
            await asyncio.sleep(_LAG_SECONDS)

    async def _compare(self, name: str) -> None:
        """Compare the whole source with a collection; what differs is owed from then on."""
        epoch, total = await self.store.epoch(), Differences()
        async for found in self._pages(name):
            total = Differences(
                total.missing + found.missing, total.stale + found.stale, total.orphaned + found.orphaned
            )
        for kind, count in asdict(total).items():
            self.metrics.differences.labels(name, kind).inc(count)
        if total != Differences():
            log.warning("collection %s differed from its source, and is mended: %s", name, total)
        await self.store.compared(name, epoch, total)

    async def _pages(self, name: str) -> AsyncIterator[Differences]:
        after: str | None = None
        while True:
            start = self.clock()
            found, after = await self.store.compare(name, after, _COMPARE_DOCUMENTS)
            yield found
            if after is None:
                return
            await asyncio.sleep(_COMPARE_REST * (self.clock() - start))


async def outcomes(changes: Sequence[Change], cutter: Cutter, dimensions: int) -> AsyncIterator[list[Paid]]:
    """Yield what pays the changes' debts, all at once unless documents have many parts.

    Only texts that the collection does not hold are embedded.
    """
    paid, new = list[Paid](), list[tuple[Debt, Document]]()
    for change in changes:
        if change.document is None:
            paid.append(Paid(change.debt, None))
        elif (rejected := unreadable(change.document)) is not None:
            paid.append(Paid(change.debt, rejected))
        elif (found := text_hash(change.document.text or "")) == change.text_hash:
            paid.append(Paid(change.debt, found))
        else:
            new.append((change.debt, change.document))
    cuts, debts = await cutter.cut([document for _, document in new]), [debt for debt, _ in new]
    for group in divided(cuts, _VECTORS):
        yield paid + await _embedded(list(zip(debts, group, strict=False)), cutter, dimensions)
        paid, debts = [], debts[len(group) :]
    if paid:
        yield paid


async def _embedded(new: Sequence[tuple[Debt, Cut]], cutter: Cutter, dimensions: int) -> list[Paid]:
    batches, rest = list[Sequence[tuple[Debt, Cut]]](), list(new)
    while rest:
        size = fitting_pages([one.pages for _, one in rest], _PAGES)
        batches.append(rest[:size])
        rest = rest[size:]
    room = asyncio.Semaphore(_REQUESTS)

    async def embed(batch: Sequence[tuple[Debt, Cut]]) -> list[Paid]:
        documents = [one for _, one in batch]
        async with room:
            answers = await embedded(documents, cutter.documents, _PAGES)
        results = all_results(documents, answers, dimensions)
        return [Paid(debt, result) for (debt, _), result in zip(batch, results, strict=True)]

    return [paid for batch in await asyncio.gather(*map(embed, batches)) for paid in batch]
