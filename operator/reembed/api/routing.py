"""The part of an EmbeddingIndex's status that the migration's controller writes and gateways and workers read."""

from __future__ import annotations

from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw, parse_meta
from reembed.api.panel import parse_certificate
from reembed.api.specs import parse_evaluation_spec, parse_index_spec, render_evaluation_spec
from reembed.core.model import (
    Arm,
    CollectionPlan,
    Desired,
    EvaluationPlan,
    Holder,
    IndexSpec,
    IndexStatus,
    Meta,
    PointerPlan,
    Routing,
    StorePlan,
)
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import Certificate


def parse_index(raw: Raw) -> tuple[Meta, IndexSpec, IndexStatus]:
    """Return an EmbeddingIndex.

    Raises:
        InvalidField: a field does not hold what the CRD asks for.

    """
    status = Fields(raw.get("status") or {}, "status")
    holder = status.maybe("activeMigration")
    parsed = IndexStatus(
        active_migration=Holder(holder.text("name"), holder.text("uid")) if holder is not None else None,
        routing=_parse_routing(status.into("routing")),
        plan=_parse_plan(status.into("plan")),
    )
    return parse_meta(raw), parse_index_spec(raw), parsed


def render_index_status(status: IndexStatus) -> dict[str, Any]:
    """Return holder, routing and plan for the API; what is None is left out, which removes it."""
    rendered: dict[str, Any] = {"routing": _render_routing(status.routing), "plan": _render_plan(status.plan)}
    if status.active_migration is not None:
        rendered["activeMigration"] = {"name": status.active_migration.name, "uid": status.active_migration.uid}
    return rendered


def parse_arm(arm: Fields | None) -> Arm | None:
    if arm is None:
        return None
    return Arm(arm.text("pool"), arm.text("collection"), arm.text("fingerprint"))


def render_arm(arm: Arm | None) -> dict[str, str] | None:
    if arm is None:
        return None
    return {"pool": arm.pool, "collection": arm.collection, "fingerprint": arm.fingerprint}


def parse_pointer(pointer: Fields | None) -> PointerPlan | None:
    if pointer is None:
        return None
    return PointerPlan(pointer.text("collection"), pointer.text("fingerprint"), pointer.number("generation"))


def render_pointer(pointer: PointerPlan) -> dict[str, Any]:
    return {
        "collection": pointer.collection,
        "fingerprint": pointer.fingerprint,
        "generation": pointer.generation,
    }


def _parse_routing(routing: Fields) -> Routing:
    return Routing(
        epoch=routing.number("epoch", 0),
        serving=parse_arm(routing.maybe("serving")),
        candidate=parse_arm(routing.maybe("candidate")),
        weight=routing.number("weight", 0),
        shadow=routing.real("shadow", 0.0),
        certificate=_parse_certificate(routing.maybe("certificate")),
    )


def _parse_certificate(fields: Fields | None) -> Certificate | None:
    """Return the panel's certificate; what is none certifies nothing, and keeps nobody from reading the rest."""
    try:
        return parse_certificate(fields) if fields is not None else None
    except InvalidField:
        return None


def _render_routing(routing: Routing) -> dict[str, Any]:
    arms = {"serving": render_arm(routing.serving), "candidate": render_arm(routing.candidate)}
    return {
        "epoch": routing.epoch,
        "weight": routing.weight,
        **({"shadow": routing.shadow} if routing.shadow else {}),
        **{side: arm for side, arm in arms.items() if arm is not None},
        **({"certificate": certificates.to_json(routing.certificate)} if routing.certificate is not None else {}),
    }


def _parse_plan(plan: Fields) -> StorePlan:
    return StorePlan(
        collections=tuple(_parse_collection(one) for one in plan.each("collections")),
        pointer=parse_pointer(plan.maybe("pointer")),
        evaluation=_parse_evaluation(plan.maybe("evaluation")),
    )


def _render_plan(plan: StorePlan) -> dict[str, Any]:
    rendered: dict[str, Any] = {"collections": [_render_collection(one) for one in plan.collections]}
    if plan.pointer is not None:
        rendered["pointer"] = render_pointer(plan.pointer)
    if plan.evaluation is not None:
        rendered["evaluation"] = _render_evaluation(plan.evaluation)
    return rendered


def _parse_collection(one: Fields) -> CollectionPlan:
    return CollectionPlan(
        name=one.text("name"),
        pool=one.text("pool"),
        fingerprint=one.text("fingerprint"),
        dimensions=one.number("dimensions"),
        shards=one.number("shards"),
        desired=one.choice("desired", Desired),
    )


def _render_collection(one: CollectionPlan) -> dict[str, Any]:
    return {
        "name": one.name,
        "pool": one.pool,
        "fingerprint": one.fingerprint,
        "dimensions": one.dimensions,
        "shards": one.shards,
        "desired": one.desired.value,
    }


def _parse_evaluation(plan: Fields | None) -> EvaluationPlan | None:
    if plan is None:
        return None
    candidate = parse_arm(plan.into("candidate"))
    if candidate is None:  # `into` never returns None; said for the type checker
        return None
    serving, spec = parse_arm(plan.maybe("serving")), parse_evaluation_spec(plan)
    return EvaluationPlan(plan.text("id"), serving, candidate, spec, plan.flag("live", default=False))


def _render_evaluation(plan: EvaluationPlan) -> dict[str, Any]:
    serving = render_arm(plan.serving)
    return {
        "id": plan.id,
        **({"live": True} if plan.live else {}),
        "candidate": render_arm(plan.candidate),
        **({"serving": serving} if serving is not None else {}),
        **render_evaluation_spec(plan.spec),
    }
