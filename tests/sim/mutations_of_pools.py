"""Mistakes in how many pods a pool has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from reembed.controller import classes as classes_module
from reembed.controller import sizes as sizes_module
from reembed.controller.classes import Classes
from reembed.core import leaks, scaling
from reembed.core.forecast import line

Original = Callable[..., Any]


def _no_window(_: Original) -> Original:
    return lambda variant, wanted, *_: (wanted, ())


def _blind_is_idle(original: Original) -> Original:
    """Judge a pool by the pods that answer."""

    def measured(spec: Any, load: Any, *args: Any) -> Any:
        known = {pod: one for pod, one in load.readings.items() if one.queue is not None}
        return original(spec, replace(load, readings=known), *args)

    return measured


def _never_paused(original: Original) -> Original:
    return lambda spec, *args: original(replace(spec, scaling=replace(spec.scaling, paused=False)), *args)


def _without_metric(reason: str) -> Callable[[Any], Any]:
    return lambda metrics: tuple(one for one in metrics if one.reason != reason)


def _goes_at_once(original: Original) -> Original:
    def recycle(*args: Any) -> Any:
        found = original(*args)
        return replace(found, goes=True) if found is not None else None

    return recycle


def _bounds(**other: int) -> Callable[[Original], Original]:
    """Divide pods among variants with other bounds."""
    return lambda original: lambda variants, *args: original([replace(one, **other) for one in variants], *args)


def _never(_: Original) -> Original:
    async def keep(*_: Any) -> bool:
        return False

    return keep


def _without_probes(original: Original) -> Original:
    """Keep nothing of what a pod's vectors are."""

    def first(said: Any, fingerprint: str) -> Any:
        found = original(said, fingerprint)
        return replace(found, probes="") if found is not None else None

    return first


MUTATIONS: Mapping[str, tuple[Any, Any, Callable[[Any], Any]]] = {
    "pods go without a window": (scaling, "stabilised", _no_window),
    "a pod that is not measured is idle": (scaling, "_measured", _blind_is_idle),
    "a pool's pause means nothing": (scaling, "_wished", _never_paused),
    "queues bring no pods": (scaling, "_METRICS", _without_metric(scaling.QUEUE)),
    "slow answers bring no pods": (scaling, "_METRICS", _without_metric(scaling.LATENCY)),
    "memory brings no pods": (scaling, "_METRICS", _without_metric(scaling.MEMORY)),
    "leaks are not looked at": (sizes_module, "worst", lambda _: lambda *args: None),
    "a pod that leaks goes at once": (sizes_module, "recycle", _goes_at_once),
    "migrations need no pods": (sizes_module, "floor", lambda _: lambda *args: 0),
    "pods go before others take their place": (scaling, "_answered", lambda _: lambda variants, crews, wanted: wanted),
    "what somebody makes of a Deployment is believed": (sizes_module.Sizes, "gave", lambda _: lambda *args: None),
    "a step is a leak": (leaks, "_late", lambda original: lambda points: (line(points), line(points))),
    "variants have no minimum": (scaling, "_filled", _bounds(min_replicas=0)),
    "variants have no maximum": (scaling, "_filled", _bounds(max_replicas=99)),
    "classes are not kept": (Classes, "_keep", _never),
    "a class has no probes": (classes_module, "first", _without_probes),
    "pods never go": (scaling, "stabilised", lambda _: lambda variant, wanted, present, *_: (max(wanted, present), ())),
}
