"""The worker makes the store what the plan says, in any order and after any interruption."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.backfill.evaluation import Evaluator
from reembed.backfill.follower import Follower
from reembed.backfill.live import LiveRetrieval
from reembed.backfill.metrics import WorkerMetrics
from reembed.backfill.retries import Backoff, Retrying
from reembed.backfill.shard import Work, fill
from reembed.backfill.worker import Wanted, Worker
from reembed.core.model import (
    Arm,
    CollectionPlan,
    CollectionReport,
    Desired,
    EvaluationPlan,
    EvaluationSpec,
    PointerPlan,
    Problem,
    StorePlan,
    StoreReport,
    VectorIndex,
)
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, PLAN, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

INDEXED = replace(PLAN, desired=Desired.INDEXED)
OLD = plan(name="c_old", pool="text-v1", fingerprint="fp-old", desired=Desired.INDEXED)
LABELS = EvaluationSpec("public", "labels", "query", "doc", k=10, min_queries=50)


@asynccontextmanager
async def working(database: Database, uid: str = UID) -> AsyncIterator[Worker]:
    """A worker at work; its embedders answer what `text` means with a model of the arm's own."""

    @asynccontextmanager
    async def embedder(arm: Arm | CollectionPlan) -> AsyncIterator[FakeEmbedder]:
        yield FakeEmbedder(arm.fingerprint, vector=lambda text, size: vector_of(meaning(arm, text), size))

    retrying = Retrying(Backoff(0.001, 0.01), random.Random(1))
    async with Keeper(database.owner_dsn, KEY, uid) as keeper, Changes(database.owner_dsn, KEY) as changes:
        evaluator = Evaluator(keeper, embedder, retrying)
        live = LiveRetrieval(keeper, evaluator, random.Random(7))
        metrics = WorkerMetrics()
        follower = Follower(changes, embedder, retrying, time.monotonic, metrics)
        worker = Worker(keeper, evaluator, live, follower, time.monotonic, metrics)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            running.cancel()
            await asyncio.wait({running})


def meaning(arm: Arm | CollectionPlan, text: str) -> str:
    """The old model misunderstands every other question, the new one none."""
    number = int(text.rsplit(maxsplit=1)[-1])
    return f"text {number}" if arm.fingerprint == "fp-new" or number % 2 else "nothing"


async def reported(worker: Worker, holds: Callable[[StoreReport], bool]) -> StoreReport:
    """Return the first report for which the condition holds."""
    async with asyncio.timeout(20):
        while worker.report is None or not holds(worker.report):  # noqa: ASYNC110 a report is read, never sent
            await asyncio.sleep(0.02)
    return worker.report


def want(worker: Worker, *plans: CollectionPlan, **more: object) -> None:
    worker.want(Wanted(SPEC, StorePlan(plans, **more)))  # type: ignore[arg-type]


async def fill_all(database: Database, made: CollectionPlan = PLAN) -> None:
    async with ShardStore(database.owner_dsn) as store:
        work = [Work(made.name, shard, made.fingerprint) for shard in range(made.shards)]
        await asyncio.gather(*[fill(one, store, FakeEmbedder(made.fingerprint)) for one in work])


def state(name: str, expected: str) -> Callable[[StoreReport], bool]:
    return lambda report: any(one.name == name and one.state == expected for one in report.collections)


def verified(report: StoreReport) -> bool:
    return all(one.state == "Indexed" and one.verified and one.owed == 0 for one in report.collections)


def unmeasured(report: StoreReport) -> StoreReport:
    """Return the report without what is measured."""
    unmeasured = tuple(replace(one, size=None, recall=None) for one in report.collections)
    return replace(report, collections=unmeasured, database=None, left=None, texts=None)


async def test_a_collection_is_made_filled_and_indexed(database: Database) -> None:
    Documents(database).create(200)
    async with working(database) as worker:
        want(worker, PLAN)
        await reported(worker, state("c_new", "Filling"))
        await fill_all(database)
        want(worker, INDEXED)
        report = await reported(worker, verified)
    nothing = timedelta(0)
    made = CollectionReport("c_new", "fp-new", 8, "Indexed", 4, 4, 200, 0, 200, 0.0, owed=0, lag=nothing, verified=True)
    assert unmeasured(report) == StoreReport(
        problem=None,
        pointer=None,
        documents=200,
        collections=(made,),
        dropped=frozenset(),
        lag=nothing,
        inspections=(),
    )


@pytest.mark.parametrize(
    ("answering", "expected"),
    [pytest.param(frozenset(), (48, 200), id="of nobody"), pytest.param({"c_new"}, (2, 4), id="of gateways")],
)
async def test_an_index_that_finds_too_little_is_built_again_as_its_owner_asks_unless_it_is(
    database: Database, answering: frozenset[str], expected: tuple[int, int]
) -> None:
    documents = Documents(database).create(3000)
    poor, better = VectorIndex(m=2, ef_construction=4), VectorIndex(m=48, ef_construction=200, min_recall=1.0)
    made = plan(desired=Desired.INDEXED, dimensions=48)
    async with working(database) as worker:
        worker.want(Wanted(replace(SPEC, vector_index=poor), StorePlan((made,))))
        await reported(worker, state("c_new", "Filling"))
        async with ShardStore(database.owner_dsn) as store:
            work = [Work("c_new", shard, "fp-new") for shard in range(4)]
            await asyncio.gather(*[fill(one, store, FakeEmbedder(dimensions=48)) for one in work])
        first = await reported(worker, state("c_new", "Indexed"))
        worker.want(Wanted(replace(SPEC, vector_index=better), StorePlan((made,)), answering=frozenset(answering)))
        if not answering:
            await reported(worker, lambda report: (report.collections[0].recall or 0.0) > 0.9)
        else:
            await reported(worker, lambda report: report is not first and report.collections[0].state == "Indexed")
    assert first.collections[0].recall is not None
    assert first.collections[0].recall < 0.9
    assert documents.rows("SELECT m, ef_construction FROM reembed.collection") == [expected]


async def test_the_pointer_follows_only_to_a_collection_that_answers(database: Database) -> None:
    Documents(database).create(50)
    pointer = PointerPlan("c_new", "fp-new", 1)
    async with working(database) as worker:
        want(worker, INDEXED, pointer=pointer)
        early = await reported(worker, state("c_new", "Filling"))
        await fill_all(database)
        late = await reported(worker, lambda report: report.pointer is not None)
    assert (early.pointer, late.pointer) == (None, pointer)


async def test_a_rollback_moves_the_pointer_back_and_withdraws(database: Database) -> None:
    Documents(database).create(50)
    async with working(database) as worker:
        want(worker, OLD, INDEXED, pointer=PointerPlan("c_new", "fp-new", 1))
        await reported(worker, lambda report: len(report.collections) == 2)
        await fill_all(database, OLD)
        await fill_all(database)
        await reported(worker, lambda report: report.pointer is not None)
        await reported(worker, state("c_old", "Indexed"))
        want(worker, OLD, plan(desired=Desired.WITHDRAWN), pointer=PointerPlan("c_old", "fp-old", 2))
        report = await reported(worker, state("c_new", "Withdrawn"))
    assert report.pointer == PointerPlan("c_old", "fp-old", 2)


async def test_a_dropped_collection_leaves_nothing(database: Database) -> None:
    documents = Documents(database).create(50)
    async with working(database) as worker:
        want(worker, PLAN)
        await reported(worker, state("c_new", "Filling"))
        want(worker, plan(desired=Desired.DROPPED))
        await reported(worker, lambda report: not report.collections)
    assert documents.rows(
        "SELECT to_regclass('reembed.c_new'), (SELECT count(*) FROM reembed.shard),"
        " (SELECT count(*) FROM reembed.collection)"
    ) == [(None, 0, 0)]


async def test_a_collection_that_the_pointer_names_is_not_dropped(database: Database) -> None:
    Documents(database).create(50)
    async with working(database) as worker:
        want(worker, INDEXED, pointer=PointerPlan("c_new", "fp-new", 1))
        await reported(worker, state("c_new", "Filling"))
        await fill_all(database)
        await reported(worker, lambda report: report.pointer is not None)
        want(worker, plan(desired=Desired.DROPPED))
        report = await reported(worker, lambda report: report.collections[0].problem is not None)
    assert report.collections[0].problem == Problem(
        "StoreRefused", "collection c_new was not dropped: the pointer names it; move the pointer first"
    )


async def test_a_restart_goes_on_from_the_store_alone(database: Database) -> None:
    Documents(database).create(200)
    async with working(database) as worker:
        want(worker, INDEXED)
        await reported(worker, state("c_new", "Filling"))
    await fill_all(database)
    async with working(database) as worker:
        want(worker, INDEXED)
        report = await reported(worker, state("c_new", "Indexed"))
    assert report.collections[0].written == 200


async def test_dimensions_that_cannot_be_indexed_are_refused_for_their_collection(database: Database) -> None:
    Documents(database).create(5)
    async with working(database) as worker:
        want(worker, plan(dimensions=4001))
        report = await reported(worker, lambda report: bool(report.collections))
    assert report.collections[0].problem == Problem(
        "DimensionsTooLarge",
        "4001 dimensions are above the 4000 that pgvector can index, so the collection was not made; choose a model "
        "with fewer, or cut its vectors with spec.model.dimensions",
    )


async def test_what_is_on_disk_is_reported_with_what_a_deleted_index_left(database: Database) -> None:
    documents = Documents(database).create(50)
    async with working(database, uid="an-index-of-before") as worker:
        want(worker, OLD)
        await reported(worker, state("c_old", "Filling"))
    documents.run("DELETE FROM reembed.claim")
    async with working(database) as worker:
        want(worker, PLAN)
        report = await reported(worker, lambda report: report.left is not None)
    assert report.left is not None
    assert [(one.name, one.state, (one.size or 0) > 0) for one in report.left] == [("c_old", "Filling", True)]
    assert report.database is not None
    assert report.database > 1_000_000


async def test_a_problem_is_reported_and_heals_by_itself(database: Database) -> None:
    documents = Documents(database)
    async with working(database) as worker:
        want(worker, PLAN)
        broken = await reported(worker, lambda report: report.problem is not None)
        documents.create(10)
        healed = await reported(worker, lambda report: report.problem is None and bool(report.collections))
    assert broken.problem is not None
    assert (broken.problem.reason, healed.collections[0].total) == ("SourceTableMissing", 10)


async def test_an_evaluation_compares_both_models_as_users_would_meet_them(database: Database) -> None:
    label(Documents(database).create(400), 400)
    evaluation = EvaluationPlan("e1", Arm("text-v1", "c_old", "fp-old"), Arm("text-v2", "c_new", "fp-new"), LABELS)
    async with working(database) as worker:
        want(worker, OLD, INDEXED, evaluation=evaluation)
        await reported(worker, lambda report: len(report.collections) == 2)
        await fill_all(database, OLD)
        await fill_all(database)
        report = await reported(worker, lambda report: report.evaluation is not None)
    found = report.evaluation
    assert found is not None
    assert (found.verdict, found.queries, round(found.mrr_candidate, 2)) == ("Better", 400, 1.0)
    assert found.message.endswith("; 1 labels name documents that are not in the source and were left out")


async def test_a_first_model_is_evaluated_without_a_baseline(database: Database) -> None:
    label(Documents(database).create(60), 60)
    evaluation = EvaluationPlan("e1", None, Arm("text-v2", "c_new", "fp-new"), LABELS)
    async with working(database) as worker:
        want(worker, INDEXED, evaluation=evaluation)
        await reported(worker, state("c_new", "Filling"))
        await fill_all(database)
        report = await reported(worker, lambda report: report.evaluation is not None)
    assert report.evaluation is not None
    assert (report.evaluation.verdict, report.evaluation.mrr_serving) == ("NoBaseline", None)


async def test_labelled_queries_are_watched_for_as_long_as_the_candidate_answers(database: Database) -> None:
    label(Documents(database).create(400), 400)
    live = EvaluationPlan("e1", Arm("text-v1", "c_old", "fp-old"), Arm("text-v2", "c_new", "fp-new"), LABELS, live=True)
    async with working(database) as worker:
        want(worker, OLD, INDEXED)
        await reported(worker, lambda report: len(report.collections) == 2)
        await fill_all(database, OLD)
        await fill_all(database)
        await reported(worker, lambda report: {one.state for one in report.collections} == {"Indexed"})
        want(worker, OLD, INDEXED, evaluation=live)
        report = await reported(worker, lambda report: report.retrieval is not None and report.retrieval.count >= 16)
        want(worker, OLD, INDEXED)
        ended = await reported(worker, lambda report: report.retrieval is None)
    assert report.retrieval is not None
    # The new model finds what the old one misses, so that the loss is negative.
    assert -1.0 <= report.retrieval.total / report.retrieval.count < 0.0
    assert (report.evaluation, ended.problem) == (None, None)


async def test_a_missing_evaluation_table_is_named(database: Database) -> None:
    Documents(database).create(5)
    evaluation = EvaluationPlan("e1", None, Arm("text-v2", "c_new", "fp-new"), LABELS)
    async with working(database) as worker:
        want(worker, INDEXED, evaluation=evaluation)
        await reported(worker, state("c_new", "Filling"))
        await fill_all(database)
        report = await reported(worker, lambda report: report.problem is not None)
    assert report.problem == Problem(
        "EvaluationTableMissing",
        '"public"."labels" does not exist, so the models cannot be compared; create it or correct spec.evaluation',
    )


async def test_an_index_that_is_deleted_gives_its_claim_back(database: Database) -> None:
    documents = Documents(database).create(5)
    async with working(database) as worker:
        want(worker, PLAN)
        await reported(worker, state("c_new", "Filling"))
        worker.want(Wanted(SPEC, StorePlan((plan(desired=Desired.DROPPED),)), deleting=True))
        await reported(worker, lambda report: not report.collections)
        await reported(worker, lambda _: documents.rows("SELECT count(*) FROM reembed.claim") == [(0,)])


def label(documents: Documents, count: int) -> None:
    documents.run("CREATE TABLE labels (query text, doc text)")
    documents.run("INSERT INTO labels SELECT 'what is ' || n, n FROM generate_series(1, %s) n", [count])
    documents.run("INSERT INTO labels VALUES ('what is 1', '999999')")
