"""What cannot be honoured is said before anything is made: refused for good, or waited for where it can still come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from reembed.core import desired, names, preflight
from reembed.core.decide import decide
from reembed.core.effects import SetIndexStatus
from reembed.core.fingerprint import of_collection
from reembed.core.inspection import NOT_REPRODUCED, of_attempt
from reembed.core.migration import Migration, Status
from reembed.core.model import (
    Arm,
    ArmMeasure,
    CanaryGate,
    Chunking,
    GateKind,
    Hosted,
    InspectionReport,
    JobReport,
    Limit,
    Limits,
    Operator,
    Problem,
    PrometheusLimit,
    Reproduced,
    Routing,
    Store,
    StorePlan,
    TriggerState,
)
from reembed.core.transitions import State
from tests import builders as b

HOLD = Limit(timedelta(minutes=2))
FREE = b.index(held=False, candidate=None)
CLAIMED = b.index(candidate=None)
CLICKS = PrometheusLimit("clicks", "sum(x)", Operator.BELOW, replace(HOLD, number=100.0))


def limited(**limits: object) -> Migration:
    return b.migration(spec={"limits": replace(Limits(), **limits)})  # type: ignore[arg-type]


def gated(kind: GateKind, **spec: object) -> Migration:
    return b.migration(spec={"gates": (CanaryGate("gate", kind, share=0.5),), **spec})


@pytest.mark.parametrize(
    ("migration", "reason"),
    [
        pytest.param(limited(agents=HOLD), "PanelMissing", id="agents of no panel"),
        pytest.param(limited(consensus=HOLD), "PanelMissing", id="a quorum of no panel"),
        pytest.param(limited(retrieval=HOLD), "LabelsMissing", id="retrieval without labelled queries"),
        pytest.param(limited(follower_lag=HOLD), "FollowerMissing", id="the lag of no follower"),
        pytest.param(gated(GateKind.RETRIEVAL), "LabelsMissing", id="a gate without labelled queries"),
        pytest.param(gated(GateKind.SHADOW_OVERLAP, shadow=0.0), "ShadowMissing", id="a gate without shadow queries"),
    ],
)
def test_a_trigger_or_gate_that_nobody_can_measure_is_refused(migration: Migration, reason: str) -> None:
    status = decide(migration, b.seen(CLAIMED, store=b.store()), b.NOON).status
    assert (status.state, status.reason) == (State.FAILED, reason)


@pytest.mark.parametrize(
    ("queries", "reason"),
    [
        pytest.param(None, "PrometheusMissing", id="no Prometheus"),
        pytest.param({}, "QueryWithoutValue", id="no value, or NaN"),
    ],
)
def test_a_query_of_ones_own_has_to_have_a_value_before_anything_begins(
    queries: dict[str, float] | None, reason: str
) -> None:
    status = decide(limited(prometheus=(CLICKS,)), b.seen(CLAIMED, queries=queries), b.NOON).status
    assert (status.state, status.reason) == (State.PREFLIGHT, reason)


def test_a_new_attempt_waits_until_the_job_of_the_last_one_is_gone() -> None:
    world = b.seen(FREE, job=JobReport("job", 2, 0, complete=False, exhausted=False))
    status = decide(b.migration(), world, b.NOON).status
    assert (status.state, status.reason) == (State.PREFLIGHT, "JobLeftOver")


def cut_to(max_tokens: int, prefix: str = "", hosted: Hosted | None = None) -> Status:
    """Preflight of parts of so many tokens, for a model that reads 256."""
    target = b.pool("new")
    model = replace(target.spec.model, document_prefix=prefix, hosted=hosted)
    world = replace(b.seen(FREE), target=replace(target, spec=replace(target.spec, model=model)))
    return decide(b.migration(spec={"chunking": Chunking(max_tokens)}), world, b.NOON).status


@pytest.mark.parametrize(("most", "prefix"), [(254, ""), (245, "passage: ")])
def test_parts_that_the_model_would_not_read_to_their_end_are_refused(most: int, prefix: str) -> None:
    assert cut_to(most, prefix).state is State.PREFLIGHT
    status = cut_to(most + 1, prefix)
    assert (status.state, status.reason) == (State.FAILED, "ChunksTooLong")
    assert f"maxTokens is {most + 1}, and of the 256 tokens that the model reads 2 are its own" in status.message
    assert f"set {most} or less" in status.message


def test_where_nobody_has_the_tokenizer_nothing_is_cut() -> None:
    status = cut_to(64, hosted=Hosted("text-embedding-3-small", 8000))
    assert (status.state, status.reason) == (State.FAILED, "TokenizerMissing")


def test_a_store_that_holds_one_vector_of_a_document_cuts_none() -> None:
    chroma = replace(FREE, spec=replace(FREE.spec, store=Store.CHROMA))
    status = decide(b.migration(spec={"chunking": Chunking(64)}), b.seen(chroma), b.NOON).status
    assert (status.state, status.reason) == (State.FAILED, "ChunkingUnsupported")


def test_rows_that_are_parts_of_documents_are_not_cut_again() -> None:
    grouped = replace(FREE, spec=replace(FREE.spec, group_column="page"))
    status = decide(b.migration(spec={"chunking": Chunking(64)}), b.seen(grouped), b.NOON).status
    assert (status.state, status.reason) == (State.FAILED, "ChunkingUnsupported")
    assert status.message == (
        "target.chunking cuts documents, and rows of index 'docs' are parts already (source.groupColumn is 'page'): the"
        " text that they were cut from is not there, and parts of parts would lose what stands between them; remove"
        " chunking, or create an EmbeddingIndex over a table of whole documents"
    )
    assert decide(b.migration(), b.seen(grouped), b.NOON).status.state is State.PREFLIGHT


def test_a_pool_that_serves_is_the_target_only_of_who_asks_for_the_same_parts() -> None:
    arm = replace(b.OLD, pool="new", fingerprint=of_collection(b.NEW.fingerprint, Chunking(64)))
    world = b.seen(b.index(held=False, candidate=None, routing=Routing(3, arm)))

    def there(chunking: Chunking | None) -> bool:
        return preflight.target_serves(b.migration(spec={"chunking": chunking}), world)

    assert (there(Chunking(64)), there(Chunking(64, 8)), there(None)) == (True, False, False)


def test_a_candidate_in_parts_has_a_fingerprint_of_its_own_and_the_same_pool() -> None:
    whole, cut = (
        desired.candidate_arm(b.migration(spec={"chunking": chunking}), b.pool("new"))
        for chunking in (None, Chunking(128, 16))
    )
    assert (whole, cut) == (b.NEW, replace(b.NEW, fingerprint=f"{b.NEW.fingerprint}+128-16-Sentence"))


CRDS = Path(__file__).parents[3] / "crds"
OLDER = names.SCHEMA - 1
HELD = {"acknowledged_at": b.NOON, "weight": 10}
DUE = {"ErrorRate": TriggerState(b.NOON, timedelta(minutes=3), b.after(598))}


def test_on_older_crds_nothing_begins() -> None:
    status = decide(b.migration(), b.seen(FREE, schema=OLDER), b.NOON).status
    assert (status.state, status.reason) == (State.PREFLIGHT, "CrdsTooOld")


@pytest.mark.parametrize(
    ("state", "weight"), [pytest.param(State.EVALUATING, 0, id="first"), pytest.param(State.CANARY, 10, id="next")]
)
def test_on_older_crds_no_weight_rises(state: State, weight: int) -> None:
    verdict = decide(b.migration(state, **HELD), b.seen(b.index(weight), schema=OLDER), b.after(600))
    assert (verdict.status.state, verdict.status.step, verdict.status.reason) == (state, 0, "CrdsTooOld")
    assert not any(isinstance(one, SetIndexStatus) for one in (*verdict.before, *verdict.after))


def test_on_older_crds_a_weight_is_lowered_all_the_same() -> None:
    world = b.seen(b.index(10), schema=OLDER)
    failing = replace(world, arms={**world.arms, b.NEW.collection: ArmMeasure(100, 80, timedelta(milliseconds=40))})
    verdict = decide(b.migration(State.CANARY, triggers=DUE, **HELD), failing, b.after(600))
    (effect,) = verdict.before
    assert isinstance(effect, SetIndexStatus)
    assert (verdict.status.state, effect.status.routing.weight) == (State.ROLLING_BACK, 0)


@pytest.mark.parametrize("schema", [names.SCHEMA, names.SCHEMA + 1, None], ids=["same", "newer", "unreadable"])
def test_crds_that_are_not_known_to_be_older_hold_nothing_up(schema: int | None) -> None:
    assert decide(b.migration(), b.seen(FREE, schema=schema), b.NOON).status.reason == "ClaimingIndex"


def test_the_crds_carry_the_number_that_the_operator_asks_for() -> None:
    crds = [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]
    found = [crd["metadata"]["annotations"][names.ANNOTATION_SCHEMA] for crd in crds]
    assert found == [str(names.SCHEMA)] * 6


def inspected(cosine: float | None, *, own: bool = True, arm: Arm = b.OLD) -> tuple[InspectionReport, ...]:
    """Return what the store has of an inspection of `arm`: the migration's own one, or one of an hour before it."""
    name = of_attempt("uid-docs", "uid-move", 1, b.OLD) if own else "another"
    reproduced = Reproduced(200, cosine, cosine, 1.0) if cosine is not None else None
    at = b.NOON if own else b.NOON - timedelta(hours=1)
    return (InspectionReport(name, at, arm.collection, arm.fingerprint, 9, 9, (), reproduced),)


ACKNOWLEDGED = b.migration(spec={"acknowledge": (NOT_REPRODUCED,)})


@pytest.mark.parametrize(
    ("migration", "reports", "comes_to"),
    [
        pytest.param(b.migration(), None, (State.BACKFILLING, "Ready"), id="a store that nothing inspects"),
        pytest.param(b.migration(), (), (State.PREFLIGHT, "Inspecting"), id="nobody looked yet"),
        pytest.param(b.migration(), inspected(0.999), (State.BACKFILLING, "Ready"), id="its pool made them"),
        pytest.param(b.migration(), inspected(None), (State.BACKFILLING, "Ready"), id="nothing to embed again"),
        pytest.param(b.migration(), inspected(0.97), (State.FAILED, NOT_REPRODUCED), id="its pool did not"),
        pytest.param(
            b.migration(), inspected(0.97, own=False), (State.PREFLIGHT, "Inspecting"), id="it did not an attempt ago"
        ),
        pytest.param(
            b.migration(), inspected(0.999, arm=b.NEW), (State.PREFLIGHT, "Inspecting"), id="of another collection"
        ),
        pytest.param(ACKNOWLEDGED, (), (State.BACKFILLING, "Ready"), id="acknowledged before anybody looked"),
        pytest.param(ACKNOWLEDGED, inspected(0.97), (State.BACKFILLING, "Ready"), id="acknowledged"),
    ],
)
def test_nobody_moves_away_from_vectors_that_their_pool_did_not_make(
    migration: Migration, reports: tuple[InspectionReport, ...] | None, comes_to: tuple[State, str]
) -> None:
    status = decide(migration, b.seen(CLAIMED, store=b.store(inspections=reports)), b.NOON).status
    assert (status.state, status.reason) == comes_to


def test_a_first_fill_moves_away_from_nothing() -> None:
    found = b.index(candidate=None, routing=Routing(), plan=StorePlan())
    first = b.migration(spec={"from_pool": None})
    store = b.store(inspections=(), pointer=None)
    status = decide(first, b.seen(found, store=store, gateways=()), b.NOON).status
    assert status.reason not in {"Inspecting", NOT_REPRODUCED}


def test_a_hosted_model_whose_budget_is_spent_is_what_the_inspection_waits_for_and_no_deadline_counts_that() -> None:
    spent = b.pool("old", problem=Problem("BudgetSpent", "1000 of 1000 tokens are spent"))
    waiting = b.migration(spec={"deadline": timedelta(hours=1), "progress_deadline": timedelta(hours=1)})
    for hours in range(3):
        world = b.seen(CLAIMED, store=b.store(inspections=()), source=spent)
        waiting = replace(waiting, status=decide(waiting, world, b.after(3600 * hours)).status)
    assert (waiting.status.state, waiting.status.reason) == (State.PREFLIGHT, "BudgetSpent")
    assert waiting.status.message == "1000 of 1000 tokens are spent; the inspection of c_old waits for it"


def test_other_reasons_to_wait_are_told_before_the_inspection() -> None:
    world = b.seen(CLAIMED, store=b.store(inspections=()), target=b.pool("new", ready=0))
    assert decide(b.migration(), world, b.NOON).status.reason == "PoolNotReady"
