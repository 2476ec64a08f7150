"""The specs of the three kinds, as their users wrote them."""

from __future__ import annotations

from datetime import timedelta

from reembed.api.fields import Fields, Raw, parse_meta
from reembed.api.values import parse_duration, parse_factor, parse_share
from reembed.core.model import (
    EvaluationSpec,
    IndexSpec,
    InputType,
    Limit,
    Limits,
    Meta,
    Metric,
    MigrationSpec,
    Model,
    NoData,
    Pooling,
    PoolSpec,
    SecretKey,
    Step,
    Truncate,
    Variant,
)


def parse_pool(raw: Raw) -> tuple[Meta, PoolSpec]:
    """Return an EmbedderPool.

    Raises:
        InvalidField: a field does not hold what the CRD asks for.

    """
    spec = Fields(raw["spec"], "spec")
    model = spec.into("model")
    input_type = spec.maybe_text("defaultInputType")
    return parse_meta(raw), PoolSpec(
        model=_model(model),
        variants=tuple(_variant(one) for one in spec.each("variants")),
        claim_name=model.maybe_text("claimName"),
        default_input_type=spec.choice("defaultInputType", InputType) if input_type is not None else None,
    )


def parse_index_spec(raw: Raw) -> IndexSpec:
    """Return the spec of an EmbeddingIndex."""
    spec = Fields(raw["spec"], "spec")
    store, source, gateway = spec.into("store"), spec.into("source"), spec.into("gateway")
    resources = gateway.into("resources")
    return IndexSpec(
        owner_secret=_secret_key(store.into("ownerSecretRef")),
        gateway_secret=_secret_key(store.into("gatewaySecretRef")),
        gateway_role=store.maybe_text("gatewayRole"),
        schema=source.text("schema", "public"),
        table=source.text("table"),
        id_column=source.text("idColumn"),
        text_column=source.text("textColumn"),
        metric=spec.choice("metric", Metric, Metric.COSINE),
        gateway_replicas=gateway.number("replicas", 2),
        gateway_requests=resources.mapping("requests"),
        gateway_limits=resources.mapping("limits"),
    )


def parse_migration(raw: Raw) -> tuple[Meta, MigrationSpec]:
    """Return an EmbeddingMigration without its status (`reembed.api.status`)."""
    spec = Fields(raw["spec"], "spec")
    backfill, retention = spec.into("backfill"), spec.into("retention")
    evaluation = spec.maybe("evaluation")
    source = spec.maybe("from")
    return parse_meta(raw), MigrationSpec(
        index=spec.into("indexRef").text("name"),
        pool=spec.into("target").into("poolRef").text("name"),
        from_pool=source.into("poolRef").text("name") if source is not None else None,
        steps=_steps(spec.into("canary")),
        shards=backfill.number("shards", 8),
        parallelism=backfill.number("parallelism", 2),
        rejected_share=backfill.parsed("rejectedLimit", parse_share, 0.01),
        evaluation=parse_evaluation_spec(evaluation) if evaluation is not None else None,
        limits=_limits(spec.into("rollback").into("triggers")),
        retention=retention.parsed("window", parse_duration, timedelta(hours=1)),
        drop=retention.flag("drop", default=False),
        progress_deadline=spec.parsed("progressDeadline", parse_duration, timedelta(hours=24)),
    )


def parse_evaluation_spec(evaluation: Fields) -> EvaluationSpec:
    """Return `spec.evaluation`, which an index's plan repeats."""
    labels = evaluation.into("labels")
    return EvaluationSpec(
        schema=labels.text("schema", "public"),
        table=labels.text("table"),
        query_column=labels.text("queryColumn", "query"),
        id_column=labels.text("idColumn", "id"),
        k=evaluation.number("k", 10),
        margin=evaluation.real("margin", 0.02),
        min_queries=evaluation.number("minQueries", 100),
    )


def render_evaluation_spec(spec: EvaluationSpec) -> dict[str, object]:
    return {
        "labels": {
            "schema": spec.schema,
            "table": spec.table,
            "queryColumn": spec.query_column,
            "idColumn": spec.id_column,
        },
        "k": spec.k,
        "margin": spec.margin,
        "minQueries": spec.min_queries,
    }


def _model(model: Fields) -> Model:
    return Model(
        uri=model.text("uri"),
        sha256=model.text("sha256"),
        pooling=model.choice("pooling", Pooling),
        dimensions=model.number("dimensions"),
        max_tokens=model.number("maxTokens"),
        truncate=model.choice("truncate", Truncate, Truncate.END),
        query_prefix=model.text("queryPrefix", ""),
        document_prefix=model.text("documentPrefix", ""),
    )


def _variant(variant: Fields) -> Variant:
    resources = variant.into("resources")
    return Variant(
        name=variant.text("name"),
        min_replicas=variant.number("minReplicas", 1),
        requests=resources.mapping("requests"),
        limits=resources.mapping("limits"),
        node_selector=variant.mapping("nodeSelector"),
        tolerations=variant.raws("tolerations"),
    )


def _secret_key(reference: Fields) -> SecretKey:
    return SecretKey(reference.text("name"), reference.text("key"))


# The mission's stages, used where a migration names none.
_DEFAULT_STEPS = tuple(Step(weight, timedelta(minutes=10)) for weight in (10, 50, 100))


def _steps(canary: Fields) -> tuple[Step, ...]:
    steps = tuple(Step(one.number("weight"), one.parsed("hold", parse_duration)) for one in canary.each("steps"))
    return steps or _DEFAULT_STEPS


def _limits(triggers: Fields) -> Limits:
    default = Limits()
    memory, errors, latency = triggers.maybe("memory"), triggers.maybe("errorRate"), triggers.maybe("latency")
    return Limits(
        memory=_share_limit(memory, default.memory) if memory is not None else default.memory,
        error_rate=_share_limit(errors, default.error_rate) if errors is not None else default.error_rate,
        latency=_latency_limit(latency, default.latency) if latency is not None else default.latency,
    )


def _share_limit(limit: Fields, default: Limit) -> Limit:
    return Limit(
        hold=limit.parsed("for", parse_duration, default.hold),
        share=limit.parsed("threshold", parse_share, default.share),
        no_data=limit.choice("noData", NoData, default.no_data),
    )


def _latency_limit(limit: Fields, default: Limit) -> Limit:
    threshold = limit.text("threshold", f"{default.factor:g}x")
    relative = threshold.endswith("x")
    return Limit(
        hold=limit.parsed("for", parse_duration, default.hold),
        factor=limit.parsed("threshold", parse_factor, default.factor) if relative else None,
        absolute=None if relative else limit.parsed("threshold", parse_duration),
        no_data=limit.choice("noData", NoData, default.no_data),
    )
