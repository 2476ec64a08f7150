"""The specs of the three kinds, as their users wrote them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from reembed.api.external import hosted_model, hosted_variant, parse_external
from reembed.api.fields import Fields, Raw, parse_meta
from reembed.api.hooks import parse_hook
from reembed.api.limits import parse_limits
from reembed.api.values import parse_duration, parse_factor, parse_quantity, parse_share
from reembed.core.model import (
    Adopted,
    Approval,
    CanaryGate,
    Chunking,
    ConfigMapKey,
    Consensus,
    CutAt,
    Decides,
    Device,
    DownloadSpec,
    EvaluationSpec,
    GateKind,
    IndexSpec,
    InputType,
    MaintainedBy,
    Meta,
    Metric,
    MigrationSpec,
    Model,
    PanelRef,
    Pooling,
    PoolSpec,
    Scaling,
    SecretKey,
    Step,
    Store,
    Truncate,
    Validation,
    Variant,
    VectorIndex,
    WeightType,
)
from reembed.core.quorum import proposals


def parse_pool(raw: Raw) -> tuple[Meta, PoolSpec]:
    """Return an EmbedderPool.

    Raises:
        InvalidField: a field does not hold what the CRD asks for.

    """
    spec = Fields(raw["spec"], "spec")
    external = spec.maybe("external")
    model = spec.into("model")
    download = spec.into("download")
    input_type = spec.maybe_text("defaultInputType")
    return parse_meta(raw), PoolSpec(
        model=_model(model) if external is None else hosted_model(external),
        variants=tuple(map(_variant, spec.each("variants"))) if external is None else (hosted_variant(external),),
        claim_name=model.maybe_text("claimName"),
        download=DownloadSpec(
            download.maybe_text("secretName"), download.maybe_text("endpoint"), download.maybe_text("region")
        ),
        cache_claim=spec.into("cache").maybe_text("claimName"),
        default_input_type=spec.choice("defaultInputType", InputType) if input_type is not None else None,
        weight_type=spec.choice("weightType", WeightType, WeightType.AUTO),
        text_cache=spec.parsed("textCache", parse_quantity, 32 << 20),
        scaling=_scaling(spec.into("scaling")),
        validation=_validation(spec.into("validation")) if spec.maybe("validation") is not None else None,
        external=parse_external(external) if external is not None else None,
    )


# Asked for where nothing is said. A request of cpu is a weight: with next to none queries wait behind everybody.
_GATEWAY_RESOURCES = {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}


def parse_index_spec(raw: Raw) -> IndexSpec:
    """Return the spec of an EmbeddingIndex."""
    spec = Fields(raw["spec"], "spec")
    store, source, gateway = spec.into("store"), spec.into("source"), spec.into("gateway")
    resources = gateway.maybe("resources") or Fields(_GATEWAY_RESOURCES, "spec.gateway.resources")
    return IndexSpec(
        owner_secret=_secret_key(store.into("ownerSecretRef")),
        gateway_secret=_secret_key(store.into("gatewaySecretRef")),
        gateway_role=store.maybe_text("gatewayRole"),
        schema=source.text("schema", "public"),
        # Empty of Chroma, which has no table: the schema refuses an object that lacks what its store needs.
        table=source.text("table", ""),
        id_column=source.text("idColumn", ""),
        text_column=source.maybe_text("textColumn"),
        text_sql=source.maybe_text("text"),
        filter=source.maybe_text("filter"),
        metric=spec.choice("metric", Metric, Metric.COSINE),
        gateway_replicas=gateway.number("replicas", 2),
        gateway_requests=resources.mapping("requests"),
        gateway_limits=resources.mapping("limits"),
        capacity=store.parsed("capacity", parse_quantity, None),
        vector_index=_vector_index(spec.into("vectorIndex")),
        metadata=source.texts("metadata"),
        group_column=source.maybe_text("groupColumn"),
        adopted=_adopted(spec.maybe("adopted")),
        store=store.choice("type", Store, Store.PGVECTOR),
        panel=_panel(spec.maybe("panelRef")),
        agent_role=store.maybe_text("agentRole"),
    )


def _panel(panel: Fields | None) -> PanelRef | None:
    if panel is None:
        return None
    return PanelRef(panel.text("namespace"), panel.text("name"), panel.text("digest"))


def _adopted(adopted: Fields | None) -> Adopted | None:
    if adopted is None:
        return None
    return Adopted(
        column=adopted.text("vectorColumn"),
        pool=adopted.into("poolRef").text("name"),
        maintained_by=adopted.choice("maintainedBy", MaintainedBy, MaintainedBy.APPLICATION),
    )


def _vector_index(spec: Fields) -> VectorIndex:
    return VectorIndex(spec.number("m", 16), spec.number("efConstruction", 64), spec.real("minRecall", 0.9))


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
        limits=parse_limits(spec.into("rollback").into("triggers")),
        retention=retention.parsed("window", parse_duration, timedelta(hours=1)),
        drop=retention.flag("drop", default=False),
        progress_deadline=spec.parsed("progressDeadline", parse_duration, timedelta(hours=24)),
        deadline=spec.parsed("deadline", parse_duration) if spec.maybe_text("deadline") is not None else None,
        paused=spec.flag("paused", default=False),
        depends_on=tuple(one.text("name") for one in spec.each("dependsOn")),
        gates=tuple(_gate(one) for one in spec.each("gates")),
        hooks=tuple(parse_hook(one) for one in spec.each("hooks")),
        shadow=spec.into("canary").parsed("shadow", parse_share, 0.05),
        chunking=_chunking(spec.into("target").maybe("chunking")),
        acknowledge=spec.texts("acknowledge"),
        consensus=_consensus(spec.into("consensus")),
    )


def _consensus(spec: Fields) -> Consensus:
    mode = spec.choice("mode", Decides) if spec.maybe_text("mode") is not None else None
    return Consensus(mode, spec.parsed("deadline", parse_duration, Consensus().deadline))


def parse_terms(raw: Raw) -> str:
    """Return the digest of what a panel's votes hold for: change any of it, and they are for something else."""
    return proposals.terms(_terms(raw["spec"]))


def _terms(spec: Raw) -> dict[str, Any]:
    canary, rollback = spec.get("canary") or {}, spec.get("rollback") or {}
    return {
        "target": spec["target"],
        "steps": canary.get("steps"),
        "gates": spec.get("gates"),
        "triggers": rollback.get("triggers"),
        "evaluation": spec.get("evaluation"),
    }


def _chunking(chunking: Fields | None) -> Chunking | None:
    if chunking is None:
        return None
    overlap = chunking.number("overlapTokens", 0)
    return Chunking(chunking.number("maxTokens"), overlap, chunking.choice("at", CutAt, CutAt.SENTENCE))


def _gate(gate: Fields) -> CanaryGate:
    name, kind, threshold = gate.text("name"), gate.choice("type", GateKind), gate.text("threshold")
    if threshold.endswith("%"):
        return CanaryGate(name, kind, share=gate.parsed("threshold", parse_share))
    if threshold.endswith("x"):
        return CanaryGate(name, kind, factor=gate.parsed("threshold", parse_factor))
    return CanaryGate(name, kind, absolute=gate.parsed("threshold", parse_duration))


def parse_evaluation_spec(evaluation: Fields) -> EvaluationSpec:
    """Return `spec.evaluation`, which an index's plan repeats."""
    labels, slices = evaluation.into("labels"), evaluation.into("slices")
    config_map = labels.maybe("configMapRef")
    return EvaluationSpec(
        schema=labels.text("schema", "public"),
        table=labels.text("table") if config_map is None else labels.text("table", ""),
        query_column=labels.text("queryColumn", "query"),
        id_column=labels.text("idColumn", "id"),
        slice_column=labels.maybe_text("sliceColumn"),
        config_map=_config_map_key(config_map) if config_map is not None else None,
        k=evaluation.number("k", 10),
        margin=evaluation.real("margin", 0.02),
        min_queries=evaluation.number("minQueries", 100),
        slice_margin=slices.real("margin", 0.05),
        slice_min_queries=slices.number("minQueries", 30),
    )


def render_evaluation_spec(spec: EvaluationSpec) -> dict[str, object]:
    labels: dict[str, object] = {
        "schema": spec.schema,
        "table": spec.table,
        "queryColumn": spec.query_column,
        "idColumn": spec.id_column,
    }
    if spec.slice_column is not None:
        labels["sliceColumn"] = spec.slice_column
    if spec.config_map is not None:
        labels["configMapRef"] = {"name": spec.config_map.name, "key": spec.config_map.key}
    return {
        "labels": labels,
        "k": spec.k,
        "margin": spec.margin,
        "minQueries": spec.min_queries,
        "slices": {"margin": spec.slice_margin, "minQueries": spec.slice_min_queries},
    }


def _config_map_key(reference: Fields, key: str = "labels") -> ConfigMapKey:
    return ConfigMapKey(reference.text("name"), reference.text("key", key))


def _validation(validation: Fields) -> Validation:
    references = _config_map_key(validation.into("configMapRef"), "references.jsonl")
    return Validation(references, validation.real("minCosine", 0.999))


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
    least = variant.number("minReplicas", 1)
    return Variant(
        name=variant.text("name"),
        min_replicas=least,
        max_replicas=variant.number("maxReplicas", least),
        device=variant.choice("device", Device, Device.CPU),
        requests=resources.mapping("requests"),
        limits=resources.mapping("limits"),
        node_selector=variant.mapping("nodeSelector"),
        tolerations=variant.raws("tolerations"),
    )


def _scaling(scaling: Fields) -> Scaling:
    return Scaling(
        memory_target=scaling.parsed("memoryTarget", parse_share, 0.7),
        latency_target=scaling.parsed("latencyTarget", parse_duration, timedelta(milliseconds=500)),
        queue_target=scaling.number("queueTarget", 16_384),
        scale_down_window=scaling.parsed("scaleDownWindow", parse_duration, timedelta(minutes=5)),
        paused=scaling.flag("paused", default=False),
    )


def _secret_key(reference: Fields) -> SecretKey:
    return SecretKey(reference.text("name"), reference.text("key"))


# The mission's stages, used where a migration names none.
_DEFAULT_STEPS = tuple(Step(weight, timedelta(minutes=10)) for weight in (10, 50, 100))


def _steps(canary: Fields) -> tuple[Step, ...]:
    return tuple(_step(one) for one in canary.each("steps")) or _DEFAULT_STEPS


def _step(step: Fields) -> Step:
    approval = step.choice("approval", Approval, Approval.NONE)
    return Step(step.number("weight"), step.parsed("hold", parse_duration), approval)
