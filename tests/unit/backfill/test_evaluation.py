"""An evaluation asks both sides the same queries, reports every metric and slice, and is recorded once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from reembed.backfill.evaluation import Evaluator
from reembed.backfill.label_lines import ReadKey
from reembed.backfill.retries import Backoff, Retrying
from reembed.core.model import (
    Arm,
    ConfigMapKey,
    EvaluationPlan,
    EvaluationReport,
    EvaluationSpec,
    IndexSpec,
    Problem,
)
from reembed.stores.protocol import Filter, Hit, Labels, Unfit
from tests.fixtures.stores import SPEC, FakeEmbedder

OLD, NEW = Arm("text-v1", "c_old", "fp-old"), Arm("text-v2", "c_new", "fp-new")
TABLE = EvaluationSpec("public", "labels", "query", "id", k=3, min_queries=10)
CONFIG_MAP = replace(TABLE, table="", config_map=ConfigMapKey("questions", "labels"))
TENANTS = ("acme", "bolt")


@dataclass
class FakeStore:
    """Documents 0 to 599; each answers its own query first, but for what a side is bad at, which it finds third."""

    bad: dict[str, frozenset[int]] = field(default_factory=dict)  # by fingerprint
    recorded: dict[str, EvaluationReport] = field(default_factory=dict)

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        del spec, index
        queries = range(600)
        return Labels(
            {f"query {n}": frozenset({str(n)}) for n in queries},
            0,
            {f"query {n}": frozenset({TENANTS[n % 2]}) for n in queries},
        )

    async def present(self, index: IndexSpec, ids: Collection[str]) -> frozenset[str]:
        del index
        return frozenset(one for one in ids if int(one) < 600)

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        del collection, k
        number = int(vector.decode())
        before = ["x", "y"] if number in self.bad.get(fingerprint, ()) else []
        return [Hit(one, 1.0) for one in [*before, str(number), "z"]]

    async def evaluation(self, evaluation_id: str) -> EvaluationReport | None:
        return self.recorded.get(evaluation_id)

    async def record(self, report: EvaluationReport) -> None:
        self.recorded.setdefault(report.id, report)


def evaluator(store: FakeStore, read: ReadKey | None = None) -> Evaluator:
    @asynccontextmanager
    async def embedders(arm: Arm) -> AsyncIterator[FakeEmbedder]:
        yield FakeEmbedder(arm.fingerprint, vector=lambda text, _: text.split()[-1].encode())

    retrying = Retrying(Backoff(0.001, 0.01), random.Random(1))
    given = (store, embedders, retrying)
    return Evaluator(*given, read) if read is not None else Evaluator(*given)  # type: ignore[arg-type]


def reading(text: str) -> ReadKey:
    async def read(reference: ConfigMapKey) -> str:
        assert reference == ConfigMapKey("questions", "labels")
        return text

    return read


def plan(spec: EvaluationSpec = TABLE, serving: Arm | None = OLD) -> EvaluationPlan:
    return EvaluationPlan("e1", serving, NEW, spec)


async def test_every_metric_of_both_sides_is_reported() -> None:
    store = FakeStore({OLD.fingerprint: frozenset(range(0, 600, 4))})
    report = await evaluator(store).run(plan(), SPEC)
    found = [(one.name, one.serving, one.candidate) for one in report.metrics]
    assert (report.verdict, report.queries, report.k) == ("Better", 600, 3)
    assert (report.mrr_serving, report.mrr_candidate) == (pytest.approx(1 - 2 / 3 / 4), 1.0)
    assert found == [
        ("MRR@3", pytest.approx(1 - 2 / 3 / 4), 1.0),
        ("Recall@3", 1.0, 1.0),
        ("nDCG@3", pytest.approx(1 - 1 / 2 / 4), 1.0),
    ]


async def test_a_tenant_that_loses_stops_a_model_that_is_better_on_average() -> None:
    tenant = frozenset(range(1, 200, 2))  # a third of bolt's queries
    old = frozenset(range(0, 600, 2))  # all of acme's
    report = await evaluator(FakeStore({OLD.fingerprint: old, NEW.fingerprint: tenant})).run(plan(), SPEC)
    assert report.mrr_serving is not None
    assert report.mrr_candidate > report.mrr_serving
    assert (report.verdict, [(one.name, one.verdict) for one in report.slices]) == (
        "Inferior",
        [("bolt", "Inferior"), ("acme", "NoHarmSeen")],
    )


async def test_labels_of_a_config_map_are_judged_like_those_of_a_table() -> None:
    lines = [f'{{"query": "query {n}", "relevant": [{n}, 600], "slice": "{TENANTS[n % 2]}"}}' for n in range(50)]
    report = await evaluator(FakeStore(), reading("\n".join(lines))).run(plan(CONFIG_MAP, None), SPEC)
    assert (report.verdict, report.queries, report.mrr_candidate) == ("NoBaseline", 50, 1.0)
    assert report.message.endswith("; 50 labels name documents that are not in the source and were left out")


async def test_an_outcome_is_recorded_once_and_the_first_one_holds() -> None:
    store = FakeStore()
    first = await evaluator(store).run(plan(), SPEC)
    store.bad = {NEW.fingerprint: frozenset(range(600))}
    assert await evaluator(store).run(plan(), SPEC) == first


async def test_without_an_api_server_a_config_map_is_refused() -> None:
    with pytest.raises(Unfit) as caught:
        await evaluator(FakeStore()).run(plan(CONFIG_MAP), SPEC)
    assert caught.value.problem == Problem(
        "EvaluationConfigMapUnread",
        "ConfigMap 'questions' was not read, since this process knows no API server; name a table instead",
    )
