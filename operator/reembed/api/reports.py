"""What store workers and gateways say of themselves over HTTP, as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw
from reembed.api.inspections import parse_inspection, parse_kept, render_inspection, render_kept
from reembed.api.routing import parse_arm, parse_pointer, render_arm, render_pointer
from reembed.core.model import (
    BuildReport,
    CollectionReport,
    EvaluationReport,
    GatewayReport,
    InspectionReport,
    LeftReport,
    MetricReport,
    Problem,
    RefusedRaise,
    SliceReport,
    StoreReport,
    TextSizes,
)
from reembed.core.sequences import Sample

# Thirty years.
_LONGEST_LAG = 1e9


def parse_store_report(raw: Raw) -> StoreReport:
    """Return a store worker's GET /status.

    Raises:
        InvalidField: it is not of this version's form.

    """
    report = Fields(raw, "report")
    evaluation = report.maybe("evaluation")
    return StoreReport(
        problem=_parse_problem(report.maybe("problem")),
        pointer=parse_pointer(report.maybe("pointer")),
        documents=report.number("documents") if raw.get("documents") is not None else None,
        collections=tuple(_parse_collection(one) for one in report.each("collections")),
        dropped=frozenset(report.texts("dropped")) if raw.get("dropped") is not None else None,
        evaluation=parse_evaluation_report(evaluation) if evaluation is not None else None,
        retrieval=_parse_sample(report.maybe("retrieval")),
        lag=_parse_lag(report.maybe_real("lagSeconds")),
        database=report.maybe_number("databaseBytes"),
        left=tuple(map(_parse_left, report.each("left"))) if raw.get("left") is not None else None,
        inspections=_parse_inspections(report) if raw.get("inspections") is not None else None,
        texts=tuple(map(_parse_texts, report.each("texts"))) if raw.get("texts") is not None else None,
    )


def _parse_texts(texts: Fields) -> TextSizes:
    return TextSizes(texts.number("documents"), texts.number("bytes"))


def _parse_inspections(report: Fields) -> tuple[InspectionReport, ...]:
    return tuple(parse_inspection(one) for one in report.each("inspections"))


def _parse_lag(seconds: float | None) -> timedelta | None:
    if seconds is None:
        return None
    if not 0 <= seconds <= _LONGEST_LAG:
        raise InvalidField("report.lagSeconds", seconds, f"seconds up to {_LONGEST_LAG:g}")
    return timedelta(seconds=seconds)


def _render_lag(lag: timedelta | None) -> float | None:
    return lag.total_seconds() if lag is not None else None


def render_store_report(report: StoreReport) -> dict[str, Any]:
    return {
        "problem": _render_problem(report.problem),
        "pointer": render_pointer(report.pointer) if report.pointer is not None else None,
        "documents": report.documents,
        "collections": [_render_collection(one) for one in report.collections],
        "dropped": sorted(report.dropped) if report.dropped is not None else None,
        "evaluation": render_evaluation_report(report.evaluation) if report.evaluation is not None else None,
        "retrieval": _render_sample(report.retrieval),
        "lagSeconds": _render_lag(report.lag),
        "databaseBytes": report.database,
        "left": [_render_left(one) for one in report.left] if report.left is not None else None,
        "inspections": [render_inspection(one) for one in report.inspections]
        if report.inspections is not None
        else None,
        "texts": [asdict(one) for one in report.texts] if report.texts is not None else None,
    }


def parse_gateway_report(raw: Raw, pod: str) -> GatewayReport:
    """Return a gateway's GET /v1/index.

    Raises:
        InvalidField: it is not of this version's form.

    """
    report = Fields(raw, "report")
    return GatewayReport(
        pod=pod,
        epoch=report.number("epoch"),
        weight=report.number("weight"),
        serving=parse_arm(report.maybe("serving")),
        candidate=parse_arm(report.maybe("candidate")),
        refused=_parse_refused(report.maybe("refused")),
    )


def render_gateway_report(report: GatewayReport) -> dict[str, Any]:
    rendered = {
        "pod": report.pod,
        "epoch": report.epoch,
        "weight": report.weight,
        "serving": render_arm(report.serving),
        "candidate": render_arm(report.candidate),
    }
    refused = report.refused
    if refused is not None:
        rendered["refused"] = {"epoch": refused.epoch, "reason": refused.reason, "message": refused.message}
    return rendered


def _parse_refused(refused: Fields | None) -> RefusedRaise | None:
    if refused is None:
        return None
    return RefusedRaise(refused.number("epoch"), refused.text("reason"), refused.text("message"))


def parse_evaluation_report(report: Fields) -> EvaluationReport:
    return EvaluationReport(
        id=report.text("id"),
        verdict=report.text("verdict"),
        queries=report.number("queries"),
        k=report.number("k"),
        mrr_serving=report.maybe_real("mrrServing"),
        mrr_candidate=report.real("mrrCandidate"),
        low=report.maybe_real("low"),
        high=report.maybe_real("high"),
        message=report.text("message"),
        metrics=tuple(parse_metric_report(one) for one in report.each("metrics")),
        slices=tuple(parse_slice_report(one) for one in report.each("slices")),
    )


def render_evaluation_report(report: EvaluationReport) -> dict[str, Any]:
    rendered = {
        "id": report.id,
        "verdict": report.verdict,
        "queries": report.queries,
        "k": report.k,
        "mrrServing": report.mrr_serving,
        "mrrCandidate": report.mrr_candidate,
        "low": report.low,
        "high": report.high,
        "message": report.message,
        "metrics": [render_metric_report(one) for one in report.metrics] or None,
        "slices": [render_slice_report(one) for one in report.slices] or None,
    }
    return _without_none(rendered)


def parse_metric_report(metric: Fields) -> MetricReport:
    return MetricReport(
        name=metric.text("name"),
        serving=metric.maybe_real("serving"),
        candidate=metric.real("candidate"),
        low=metric.maybe_real("low"),
        high=metric.maybe_real("high"),
    )


def render_metric_report(metric: MetricReport) -> dict[str, Any]:
    return _without_none(
        {
            "name": metric.name,
            "serving": metric.serving,
            "candidate": metric.candidate,
            "low": metric.low,
            "high": metric.high,
        }
    )


def parse_slice_report(one: Fields) -> SliceReport:
    return SliceReport(
        name=one.text("name"),
        verdict=one.text("verdict"),
        queries=one.number("queries"),
        serving=one.real("serving"),
        candidate=one.real("candidate"),
        low=one.maybe_real("low"),
        high=one.maybe_real("high"),
        message=one.text("message"),
    )


def render_slice_report(one: SliceReport) -> dict[str, Any]:
    return _without_none(
        {
            "name": one.name,
            "verdict": one.verdict,
            "queries": one.queries,
            "serving": one.serving,
            "candidate": one.candidate,
            "low": one.low,
            "high": one.high,
            "message": one.message,
        }
    )


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _parse_sample(sample: Fields | None) -> Sample | None:
    return Sample(sample.number("count"), sample.real("total"), sample.real("squares")) if sample is not None else None


def _render_sample(sample: Sample | None) -> dict[str, float] | None:
    return {"count": sample.count, "total": sample.total, "squares": sample.squares} if sample is not None else None


def _parse_problem(problem: Fields | None) -> Problem | None:
    return Problem(problem.text("reason"), problem.text("message")) if problem is not None else None


def _render_problem(problem: Problem | None) -> dict[str, str] | None:
    return {"reason": problem.reason, "message": problem.message} if problem is not None else None


def _parse_collection(one: Fields) -> CollectionReport:
    return CollectionReport(
        name=one.text("name"),
        fingerprint=one.text("fingerprint"),
        dimensions=one.number("dimensions"),
        state=one.text("state"),
        shards=one.number("shards"),
        shards_done=one.number("shardsDone"),
        written=one.number("written"),
        rejected=one.number("rejected"),
        total=one.number("total"),
        documents_per_second=one.real("documentsPerSecond"),
        bottleneck=one.maybe_text("bottleneck"),
        problem=_parse_problem(one.maybe("problem")),
        owed=one.maybe_number("owed"),
        lag=_parse_lag(one.maybe_real("lagSeconds")),
        verified=one.maybe_flag("verified"),
        size=one.maybe_number("bytes"),
        building=_parse_build(one.maybe("building")),
        recall=one.maybe_real("recall"),
        requests=one.maybe_real("requests"),
        yields_to=one.maybe_text("yieldsTo"),
        kept=parse_kept(kept) if (kept := one.maybe("kept")) is not None else None,
    )


def _render_collection(one: CollectionReport) -> dict[str, Any]:
    return {
        "name": one.name,
        "fingerprint": one.fingerprint,
        "dimensions": one.dimensions,
        "state": one.state,
        "shards": one.shards,
        "shardsDone": one.shards_done,
        "written": one.written,
        "rejected": one.rejected,
        "total": one.total,
        "documentsPerSecond": one.documents_per_second,
        "bottleneck": one.bottleneck,
        "problem": _render_problem(one.problem),
        "owed": one.owed,
        "lagSeconds": _render_lag(one.lag),
        "verified": one.verified,
        "bytes": one.size,
        "building": _render_build(one.building),
        "recall": one.recall,
        "requests": one.requests,
        "yieldsTo": one.yields_to,
        "kept": render_kept(one.kept) if one.kept is not None else None,
    }


def _parse_build(build: Fields | None) -> BuildReport | None:
    return BuildReport(build.text("phase"), build.number("done"), build.number("total")) if build is not None else None


def _render_build(build: BuildReport | None) -> dict[str, Any] | None:
    return {"phase": build.phase, "done": build.done, "total": build.total} if build is not None else None


def _parse_left(one: Fields) -> LeftReport:
    return LeftReport(one.text("name"), one.text("state"), one.maybe_number("bytes"))


def _render_left(one: LeftReport) -> dict[str, Any]:
    return {"name": one.name, "state": one.state, "bytes": one.size}
