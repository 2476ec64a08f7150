"""What statuses and reports may hold, for Hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from reembed.core.gates import Verdict
from reembed.core.migration import Backfill, Baseline, Status, Visit
from reembed.core.model import (
    Arm,
    CollectionPlan,
    CollectionReport,
    ConfigMapKey,
    Device,
    EvaluationPlan,
    EvaluationReport,
    EvaluationSpec,
    Finding,
    GatewayReport,
    IndexStatus,
    InspectionReport,
    LeftReport,
    MetricReport,
    Norms,
    PointerPlan,
    PoolStatus,
    Problem,
    Recommendation,
    RefusedRaise,
    Reproduced,
    Routing,
    SliceReport,
    StorePlan,
    StoreReport,
    TextSizes,
    TriggerState,
    VariantStatus,
)

reals = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(min_value=0, max_value=2**53)
weights = st.integers(min_value=0, max_value=100)
names = st.text(min_size=1, max_size=20)
# The API writes milliseconds.
durations = st.integers(min_value=0, max_value=10**12).map(lambda count: timedelta(milliseconds=count))
times = st.integers(min_value=0, max_value=10**13).map(
    lambda count: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=count)
)
arms = st.builds(Arm, names, names, names)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


def several(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


evaluation_specs = st.builds(
    EvaluationSpec,
    names,
    names,
    names,
    names,
    k=counts,
    margin=reals,
    min_queries=counts,
    slice_column=maybe(names),
    config_map=maybe(st.builds(ConfigMapKey, names, names)),
    slice_margin=reals,
    slice_min_queries=counts,
)
metric_reports = st.builds(MetricReport, names, maybe(reals), reals, maybe(reals), maybe(reals))
slice_reports = st.builds(SliceReport, names, names, counts, reals, reals, maybe(reals), maybe(reals), names)
evaluation_reports = st.builds(
    EvaluationReport,
    id=names,
    verdict=st.sampled_from(Verdict).map(lambda verdict: verdict.value),
    queries=counts,
    k=counts,
    mrr_serving=maybe(reals),
    mrr_candidate=reals,
    low=maybe(reals),
    high=maybe(reals),
    message=names,
    metrics=several(metric_reports),
    slices=several(slice_reports),
)
pointers = st.builds(PointerPlan, names, names, counts)

index_statuses = st.builds(
    IndexStatus,
    routing=st.builds(Routing, counts, maybe(arms), maybe(arms), weights),
    plan=st.builds(
        StorePlan,
        collections=several(st.from_type(CollectionPlan)),
        pointer=maybe(pointers),
        evaluation=maybe(st.builds(EvaluationPlan, names, maybe(arms), arms, evaluation_specs)),
    ),
)
inspections = st.builds(
    InspectionReport,
    at=times,
    findings=several(st.builds(Finding, share=reals, examples=st.lists(names, max_size=3).map(tuple))),
    reproduced=maybe(st.builds(Reproduced, counts, reals, reals, reals)),
    norms=maybe(st.builds(Norms, reals, reals, reals)),
)
store_reports = st.builds(
    StoreReport,
    problem=maybe(st.from_type(Problem)),
    pointer=maybe(pointers),
    documents=maybe(counts),
    collections=several(st.builds(CollectionReport, documents_per_second=reals, recall=maybe(reals))),
    dropped=maybe(st.frozensets(names)),
    evaluation=maybe(evaluation_reports),
    database=maybe(counts),
    left=maybe(several(st.from_type(LeftReport))),
    inspections=maybe(several(inspections)),
    texts=maybe(several(st.from_type(TextSizes))),
)
pool_statuses = st.builds(
    PoolStatus,
    variants=several(st.builds(VariantStatus, names, counts, counts, st.text(max_size=9))),
    reason=names,
    message=st.text(max_size=9),
    at=maybe(times),
    floor=counts,
    recycling=maybe(names),
    standing=several(st.builds(Recommendation, names, counts, times)),
    images=st.dictionaries(st.sampled_from(Device), names),
)
gateway_reports = st.builds(
    GatewayReport, serving=maybe(arms), candidate=maybe(arms), refused=maybe(st.from_type(RefusedRaise))
)
migration_statuses = st.builds(
    Status,
    acknowledged_at=maybe(times),
    serving=maybe(arms),
    candidate=maybe(arms),
    # A baseline of no time at all is written as one millisecond: see api.status.
    baseline=maybe(st.builds(Baseline, durations.map(lambda p95: p95 + timedelta(milliseconds=1)), counts, times)),
    backfill=maybe(st.builds(Backfill, documents_per_second=reals, eta=maybe(durations), bottleneck=maybe(names))),
    evaluation=maybe(evaluation_reports),
    triggers=st.dictionaries(names, st.builds(TriggerState, times, durations, times), max_size=3),
    weight=weights,
    weight_acknowledged=maybe(weights),
    timeline=several(st.builds(Visit, entered_at=times, step=maybe(counts))),
)
