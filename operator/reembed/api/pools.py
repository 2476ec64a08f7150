"""What a pool's status holds of its variants, its size and its images."""

from __future__ import annotations

from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw
from reembed.api.values import format_time, parse_time
from reembed.core.model import Device, PoolStatus, Recommendation, VariantStatus

_IMAGES = {Device.CPU: "embedder", Device.GPU: "embedderGpu"}


def parse_pool_status(raw: Raw) -> PoolStatus:
    """Return what a pool remembers; nothing, if somebody wrote into it what it is not."""
    try:
        return _parsed(Fields(raw.get("status") or {}, "status"))
    except InvalidField:
        return PoolStatus()


def _parsed(status: Fields) -> PoolStatus:
    scaling = status.into("scaling")
    return PoolStatus(
        variants=tuple(_variant(one) for one in status.each("variants")),
        reason=scaling.text("reason", ""),
        message=scaling.text("message", ""),
        at=scaling.parsed("at", parse_time) if scaling.maybe_text("at") is not None else None,
        floor=scaling.number("floor", 0),
        recycling=scaling.maybe_text("recycling"),
        standing=tuple(_recommendation(one) for one in scaling.each("recommendations")),
        images={device: found for device, name in _IMAGES.items() if (found := _image(status, name)) is not None},
    )


def render_pool_status(status: PoolStatus) -> dict[str, Any]:
    """Return the fields; empty ones are None, and so are those of a pool that nobody uses."""
    scaling = {
        "reason": status.reason,
        "message": status.message,
        "at": format_time(status.at) if status.at is not None else None,
        "floor": status.floor or None,
        "recycling": status.recycling,
        "recommendations": [_render_recommendation(one) for one in status.standing] or None,
    }
    images = {_IMAGES[device]: image for device, image in status.images.items()}
    return {
        "variants": [_render_variant(one) for one in status.variants] or None,
        "scaling": {name: value for name, value in scaling.items() if value is not None} if status.reason else None,
        "images": images or None,
    }


def _image(status: Fields, name: str) -> str | None:
    return status.into("images").maybe_text(name)


def _variant(one: Fields) -> VariantStatus:
    return VariantStatus(
        name=one.text("name"),
        desired=one.number("desiredReplicas"),
        ready=one.number("readyReplicas"),
        reason=one.text("reason", ""),
        weight_types=tuple(found.split(", ")) if (found := one.text("weightType", "")) else (),
    )


def _render_variant(one: VariantStatus) -> dict[str, Any]:
    return {
        "name": one.name,
        "desiredReplicas": one.desired,
        "readyReplicas": one.ready,
        "reason": one.reason,
        **({"weightType": ", ".join(one.weight_types)} if one.weight_types else {}),
    }


def _recommendation(one: Fields) -> Recommendation:
    return Recommendation(one.text("variant"), one.number("replicas"), one.parsed("at", parse_time))


def _render_recommendation(one: Recommendation) -> dict[str, Any]:
    return {"variant": one.variant, "replicas": one.replicas, "at": format_time(one.at)}
