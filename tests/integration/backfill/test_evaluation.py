"""Labelled queries are read from a real table and from a real ConfigMap, and what is wrong with them is named."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reembed.backfill.evaluation import Evaluator
from reembed.backfill.label_lines import reader
from reembed.backfill.retries import Backoff, Retrying
from reembed.backfill.shard import Work, fill
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core.model import (
    Arm,
    ConfigMapKey,
    EvaluationPlan,
    EvaluationReport,
    EvaluationSpec,
    MetricReport,
    Problem,
    SliceReport,
)
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Labels, Unfit
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

TABLE = EvaluationSpec("public", "labels", "query", "doc", slice_column="tenant")


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Keeper]:
    """The store of an index with documents 1 to 9 and three labels."""
    documents = Documents(database).create(9)
    documents.run("CREATE TABLE labels (query text, doc text, tenant text)")
    documents.run("INSERT INTO labels VALUES ('a', '1', 'x'), ('a', '2', 'y'), ('b', '3', NULL), ('c', '99', 'x')")
    async with Keeper(database.owner_dsn, KEY, UID) as keeper:
        yield keeper


async def test_a_column_names_the_slices_of_a_query(store: Keeper) -> None:
    assert await store.labels(TABLE, SPEC) == Labels(
        {"a": frozenset("12"), "b": frozenset("3")}, 1, {"a": frozenset("xy"), "b": frozenset()}
    )


async def test_without_a_column_no_query_has_a_slice(store: Keeper) -> None:
    found = await store.labels(replace(TABLE, slice_column=None), SPEC)
    assert found.slices == {"a": frozenset(), "b": frozenset()}


async def test_a_slice_column_that_is_missing_is_named(store: Keeper) -> None:
    with pytest.raises(Unfit) as caught:
        await store.labels(replace(TABLE, slice_column="language"), SPEC)
    assert caught.value.problem == Problem(
        "EvaluationColumnMissing",
        '"public"."labels" has no column "language", so the models cannot be compared; add it or correct '
        "spec.evaluation",
    )


async def test_labels_name_groups_where_rows_are_grouped(store: Keeper, database: Database) -> None:
    """Rows 1 to 4 are of pages p1 and p2, row 5 of a page outside the filter; the others stand alone."""
    Documents(database).run(
        "ALTER TABLE docs ADD page text;"
        "UPDATE docs SET page = CASE WHEN id < 3 THEN 'p1' WHEN id < 5 THEN 'p2' WHEN id = 5 THEN 'hidden' END;"
        "INSERT INTO labels VALUES ('a', 'p1'), ('a', 'p2'), ('b', 'hidden'), ('b', '9')"
    )
    spec = replace(SPEC, group_column="page", filter="id <> 5")
    found = await store.labels(TABLE, spec)
    there = await store.present(spec, ["p1", "p2", "hidden", "1", "9"])
    assert (found.relevant, found.vanished) == ({"a": frozenset(("p1", "p2")), "b": frozenset("9")}, 5)
    assert there == {"p1", "p2", "9"}


async def test_models_are_compared_by_groups(store: Keeper, database: Database) -> None:
    """The old model finds another row of the right page, the new one a row of another page."""
    spec = replace(SPEC, group_column="page")
    Documents(database).run(
        "ALTER TABLE docs ADD page text; UPDATE docs SET page = 'p' || (id - 1) / 3; TRUNCATE labels;"
        "INSERT INTO labels SELECT 'text ' || id, page FROM docs WHERE id % 3 = 1"
    )
    await store.prepare(spec)
    for arm in ARMS:
        await store.create(spec, plan(name=arm.collection, fingerprint=arm.fingerprint, shards=1))
        async with ShardStore(database.owner_dsn) as pods:
            await fill(Work(arm.collection, 0, arm.fingerprint), pods, FakeEmbedder(arm.fingerprint))
        await store.build_index(arm.collection)
    report = await Evaluator(store, asking, Retrying(Backoff(0.001, 0.01), random.Random(1))).run(
        EvaluationPlan("e1", *ARMS, replace(TABLE, slice_column=None, k=1)), spec
    )
    assert (report.queries, report.mrr_serving, report.mrr_candidate) == (3, 1.0, 0.0)


ARMS = (Arm("text-v1", "c_old", "fp-old"), Arm("text-v2", "c_new", "fp-new"))


@asynccontextmanager
async def asking(arm: Arm) -> AsyncIterator[FakeEmbedder]:
    """Embed a query as the text of the next row on the page, or of one on the next page."""
    step = 1 if arm == ARMS[0] else 3

    def vector(text: str, dimensions: int) -> bytes:
        number = int(text.removeprefix("text "))
        return vector_of(f"text {(number + step - 1) % 9 + 1}", dimensions)

    yield FakeEmbedder(arm.fingerprint, vector=vector)


async def test_documents_outside_the_sources_filter_are_vanished(store: Keeper) -> None:
    await store.prepare(SPEC)
    spec = replace(SPEC, filter="CASE WHEN id = 9 THEN 1 / (id - 9) = 1 ELSE id <> 2 END")
    found = await store.labels(TABLE, spec)
    assert (found.relevant, found.vanished) == ({"a": frozenset("1"), "b": frozenset("3")}, 2)
    assert await store.present(spec, {"1", "2"}) == frozenset({"1"})


async def test_documents_that_exist_are_told_from_others(store: Keeper) -> None:
    assert await store.present(SPEC, {"1", "9", "10", "x"}) == frozenset({"1", "9"})
    assert await store.present(SPEC, set()) == frozenset()


async def test_an_outcome_is_kept_with_its_metrics_and_slices(store: Keeper) -> None:
    report = EvaluationReport(
        "e1",
        "Better",
        200,
        10,
        0.8,
        0.9,
        0.05,
        0.15,
        "better",
        metrics=(MetricReport("MRR@10", 0.8, 0.9, 0.05, 0.15), MetricReport("Recall@10", None, 0.9)),
        slices=(SliceReport("de", "TooFewQueries", 7, 0.7, 0.8, None, None, "7 queries, below the 30 asked for"),),
    )
    await store.prepare(SPEC)
    await store.record(report)
    assert await store.evaluation("e1") == report


async def config_map(kubeconfig: Path, namespace: str, data: dict[str, str], wanted: ConfigMapKey) -> str:
    """Make ConfigMap `questions` and read what is wanted."""
    async with Cluster.connect(str(kubeconfig)) as cluster:
        made: dict[str, Any] = {"metadata": {"name": "questions", "namespace": namespace}, "data": data}
        await cluster.apply(kinds.CONFIG_MAP, made, manager="test")
        return await reader(cluster, namespace)(wanted)


async def test_a_config_map_is_read_as_it_is(apiserver: Path, namespace: str) -> None:
    text = "\n".join(json.dumps({"query": f"query {n}", "relevant": [str(n)]}) for n in range(10_000))
    assert await config_map(apiserver, namespace, {"labels": text}, ConfigMapKey("questions", "labels")) == text


async def test_a_config_map_that_is_missing_is_named(apiserver: Path, namespace: str) -> None:
    with pytest.raises(Unfit) as caught:
        await config_map(apiserver, namespace, {}, ConfigMapKey("answers", "labels"))
    assert caught.value.problem == Problem(
        "EvaluationConfigMapMissing",
        "ConfigMap 'answers' does not exist, so the models cannot be compared; create it, or another "
        "EmbeddingMigration that names the right one",
    )


async def test_a_key_that_is_missing_is_named_with_those_that_are_there(apiserver: Path, namespace: str) -> None:
    with pytest.raises(Unfit) as caught:
        await config_map(apiserver, namespace, {"de": "", "en": ""}, ConfigMapKey("questions", "labels"))
    assert caught.value.problem == Problem(
        "EvaluationConfigMapMissing",
        "ConfigMap 'questions' has no key 'labels' (its keys: 'de', 'en'), so the models cannot be compared; add it",
    )


async def test_a_config_map_that_may_not_be_read_is_named(apiserver: Path, namespace: str, tmp_path: Path) -> None:
    async with Cluster.connect(str(nobody(apiserver, tmp_path / "kubeconfig"))) as cluster:
        with pytest.raises(Unfit) as caught:
            await reader(cluster, namespace)(ConfigMapKey("questions", "labels"))
    assert caught.value.problem.reason == "PrivilegesMissing"
    assert caught.value.problem.message.startswith("the store worker may not read ConfigMap 'questions' (")


def nobody(administrator: Path, written: Path) -> Path:
    """Write the administrator's kubeconfig without its certificate."""
    written.write_text("\n".join(line for line in administrator.read_text().splitlines() if "client-" not in line))
    return written
