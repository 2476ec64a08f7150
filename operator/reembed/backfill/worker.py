"""Makes the store of one index as its status plans it, pass by pass, and reports what is there.

The only writer of schema `reembed` besides the backfill pods. Level-triggered: a pass looks at the plan and at the
store, does what is missing, and remembers nothing that matters, so a restart at any line is harmless. A pass is short:
what takes long (scanning the source, building an index, an evaluation) runs as a job beside it, because a rollback has
to come through in the middle of an index build. It never changes an API object, and of the application's table nothing
but the triggers that capture live writes, which `follower` brings into the collections beside all this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from reembed.backfill.evaluation import Evaluator
from reembed.backfill.follower import Follower
from reembed.backfill.jobs import Jobs, problem_of
from reembed.backfill.live import LiveRetrieval
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.reports import Measured, Paces, collection_reports, dropped
from reembed.core.model import (
    CollectionPlan,
    Desired,
    EvaluationPlan,
    EvaluationReport,
    IndexSpec,
    InspectionReport,
    Problem,
    StorePlan,
    StoreReport,
    TextSizes,
)
from reembed.core.sequences import Sample
from reembed.stores.protocol import Held, Keeping, Space, StoreError

log = logging.getLogger(__name__)

# How often what an administrator may have changed is looked at, and the source counted. A count reads an index of the
# whole table: it may take so many times its own length of rest.
_CHECK_SECONDS = 10.0
_COUNT_SECONDS = 60.0
_COUNT_REST = 20
_TEXTS_SECONDS = 600.0
_SPACE_SECONDS = 60.0
_CAPTURE_SECONDS = 20.0
_BUSY_SECONDS = 1.0
_IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the index says: where its documents are, and what its store should hold."""

    spec: IndexSpec
    plan: StorePlan
    deleting: bool = False
    answering: frozenset[str] = frozenset()  # collections that gateways know: their indexes stay as they are


class Worker:
    """One index's worker over an open store; `run` goes on until it is cancelled, `report` is what it last saw."""

    def __init__(
        self,
        store: Keeping,
        evaluator: Evaluator,
        live: LiveRetrieval,
        follower: Follower,
        clock: Callable[[], float],
        metrics: WorkerMetrics,
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._live = live
        self._follower = follower
        self._clock = clock
        self._metrics = metrics
        self._jobs = Jobs(clock)
        self._paces = Paces()
        self._wanted: Wanted | None = None
        self._changed = asyncio.Event()
        self._checked: tuple[Wanted, float] | None = None
        self._documents: int | None = None
        self._count_at = 0.0
        self._texts: tuple[TextSizes, ...] | None = None
        self._texts_at = 0.0
        self._space: Space | None = None
        self._space_at = 0.0
        self._capture_at = 0.0
        self._captured = False
        self._uncaptured: Problem | None = None
        self._evaluation: EvaluationReport | None = None
        self.report: StoreReport | None = None

    def want(self, wanted: Wanted) -> None:
        """Take note of what the index says now; an unchanged plan wakes nobody."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """Pass after pass: at once when the plan changes, each second while there is work, else every ten."""
        try:
            async with asyncio.TaskGroup() as beside:
                following: asyncio.Task[None] | None = None
                while True:
                    await self._changed.wait() if self._wanted is None else await self._rest()
                    self._changed.clear()
                    await self.look()
                    if self._captured and following is None:
                        following = beside.create_task(self._follower.run())
        finally:
            await self._jobs.stop()

    async def look(self) -> None:
        """Make one pass and renew the report; what fails is told there and tried again by the next."""
        wanted = self._wanted
        if wanted is None:
            return
        try:
            problem = await self._check(wanted)
            if problem is None:
                await self._make(wanted)
                self._metrics.passes.labels("done").inc()
                return
            self._metrics.passes.labels("problem").inc()
        except StoreError as error:
            log.warning("the pass ended early: %s", error)
            self._metrics.passes.labels("error").inc()
            problem = problem_of(error)
        self._checked = None
        self.report = replace(self.report or StoreReport(None, None, self._documents), problem=problem)

    async def _rest(self) -> None:
        seconds = _BUSY_SECONDS if self._busy() else _IDLE_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _busy(self) -> bool:
        report = self.report
        if report is None or report.problem is not None or self._jobs.running:
            return True
        return any(one.state in {"Filling", "Filled"} for one in report.collections)

    async def _check(self, wanted: Wanted) -> Problem | None:
        """Run the preflight checks and make the store's own tables, unless that was done a moment ago."""
        now = self._clock()
        if self._checked is not None and self._checked[0] == wanted and now - self._checked[1] < _CHECK_SECONDS:
            return None
        if (problem := await self._store.preflight(wanted.spec)) is not None:
            return problem
        await self._store.prepare(wanted.spec)
        if not wanted.deleting:
            await self._store.claim()
        self._checked = (wanted, now)
        return None

    async def _make(self, wanted: Wanted) -> None:
        held = {one.name: one for one in await self._store.held()}
        await self._move_pointer(wanted.plan)
        await self._capture(wanted)
        for plan in wanted.plan.collections:
            self._make_collection(wanted.spec, plan, held.get(plan.name))
        self._follower.follow(() if wanted.deleting else wanted.plan.collections, held)
        if wanted.plan.evaluation is not None:
            self._evaluate(wanted.plan.evaluation, wanted.spec, held)
        if wanted.deleting:
            await self._store.release()
        if self._clock() >= self._count_at:
            self._jobs.ask("documents", "count", lambda: self._count(wanted.spec))
        if self._clock() >= self._space_at:
            self._jobs.ask("space", "measure", self._measure)
        await self._renew_report(wanted)

    async def _capture(self, wanted: Wanted) -> None:
        """See that live writes are captured; what keeps them from it is told, and stops nothing but new collections."""
        if wanted.deleting or (self._uncaptured is None and self._clock() < self._capture_at):
            return
        self._uncaptured = await self._store.capture(wanted.spec)
        self._captured = self._captured or self._uncaptured is None
        self._capture_at = self._clock() + _CAPTURE_SECONDS

    async def _move_pointer(self, plan: StorePlan) -> None:
        # Before anything is withdrawn: for who follows the pointer, there is no moment without an answer.
        if plan.pointer is not None and plan.pointer != await self._store.pointer():
            await self._store.move_pointer(plan.pointer)

    def _make_collection(self, spec: IndexSpec, plan: CollectionPlan, held: Held | None) -> None:
        match plan.desired:
            # What is read before changes are captured may be stale for ever.
            case Desired.PRESENT | Desired.INDEXED if held is None and self._captured:
                self._jobs.ask(plan.name, "create", lambda: self._store.create(spec, plan))
            case Desired.INDEXED if plan.adopted and held is not None and held.state == "Filling":
                self._jobs.ask(plan.name, "create", lambda: self._store.create(spec, plan))
            case Desired.INDEXED if held is not None and held.state == "Filling" and held.shards_done == held.shards:
                self._jobs.ask(plan.name, "index", lambda: self._store.build_index(plan.name, spec.vector_index))
            case Desired.INDEXED if held is not None and self._finds_too_little(spec, held):
                self._jobs.ask(plan.name, "discard", lambda: self._store.discard_index(plan.name))
            case Desired.WITHDRAWN if held is not None and held.state != "Withdrawn":
                self._jobs.ask(plan.name, "withdraw", lambda: self._store.withdraw(plan.name))
            # What is being made is ended, and dropped if it was there all the same.
            case Desired.DROPPED if held is not None or self._jobs.works_on(plan.name):
                self._jobs.ask(plan.name, "drop", lambda: self._store.drop(plan.name))

    def _finds_too_little(self, spec: IndexSpec, held: Held) -> bool:
        """Return whether another index should be built: this one finds too little, and its owner asks for another."""
        shape, answers = spec.vector_index, self._wanted.answering if self._wanted is not None else frozenset()
        low = held.recall is not None and held.recall < shape.min_recall
        return low and held.shape != (shape.m, shape.ef_construction) and held.name not in answers

    def _evaluate(self, plan: EvaluationPlan, spec: IndexSpec, held: dict[str, Held]) -> None:
        if plan.live:
            self._jobs.ask(_retrieval(plan), "watch", lambda: self._live.look(plan, spec))
            return
        if self._evaluation is not None and self._evaluation.id == plan.id:
            return
        arms = [arm for arm in (plan.serving, plan.candidate) if arm is not None]
        answering = all(arm.collection in held and held[arm.collection].state == "Indexed" for arm in arms)
        self._jobs.ask(_evaluation(plan), "evaluate", lambda: self._run_evaluation(plan, spec, answering=answering))

    async def _run_evaluation(self, plan: EvaluationPlan, spec: IndexSpec, *, answering: bool) -> None:
        # An outcome is read from the store even after one of its sides was withdrawn.
        found = await self._store.evaluation(plan.id)
        if found is None and answering:
            found = await self._evaluator.run(plan, spec)
        if found is not None:
            self._evaluation = found

    async def _count(self, spec: IndexSpec) -> None:
        start = self._clock()
        self._documents = await self._store.documents(spec)
        self._metrics.documents.set(self._documents)
        if start >= self._texts_at:
            self._texts = await self._store.texts(spec, self._documents)
            self._texts_at = start + (_TEXTS_SECONDS if self._texts else 0.0)
        now = self._clock()
        self._count_at = now + max(_COUNT_SECONDS, _COUNT_REST * (now - start))

    async def _measure(self) -> None:
        self._space = await self._store.space()
        self._space_at = self._clock() + _SPACE_SECONDS

    async def _renew_report(self, wanted: Wanted) -> None:
        held = await self._store.held()
        vectors = {one.name: one.written for one in held if one.state == "Filling" and one.shards_done == one.shards}
        building = await self._store.building(vectors) if vectors else {}
        plan, problems, lags = wanted.plan.evaluation, self._jobs.problems, self._follower.lags
        outcome, space = self._evaluation, self._space
        sizes = space.collections if space is not None else {}
        measured = Measured(self._paces.read(held, self._clock()), lags, sizes, building, self._follower.kept)
        self.report = StoreReport(
            problem=(problems.get(_evaluation(plan)) if plan is not None else None) or self._uncaptured,
            pointer=await self._store.pointer(),
            documents=self._documents,
            collections=collection_reports(held, wanted.plan.collections, problems, measured),
            lag=timedelta(seconds=max([lag.seconds for lag in lags.values()])) if lags else None,
            dropped=dropped(held, wanted.plan.collections, self._jobs.works_on),
            evaluation=outcome if plan is not None and outcome is not None and outcome.id == plan.id else None,
            retrieval=self._seen_live(plan) if plan is not None and plan.live else None,
            database=space.database if space is not None else None,
            left=space.left if space is not None else None,
            inspections=await self._inspections(),
            texts=self._texts,
        )

    async def _inspections(self) -> tuple[InspectionReport, ...] | None:
        found = await self._store.inspections()
        self._metrics.tell_inspections(found or ())
        return found

    def _seen_live(self, plan: EvaluationPlan) -> Sample | None:
        """Return what labelled queries came to, None while they cannot be answered: old numbers say nothing of now."""
        return None if _retrieval(plan) in self._jobs.problems else self._live.sample(plan)


def _retrieval(plan: EvaluationPlan) -> str:
    return f"retrieval {plan.id}"


def _evaluation(plan: EvaluationPlan) -> str:
    return f"evaluation {plan.id}"
