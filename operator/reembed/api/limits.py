"""Rollback triggers as their user wrote them: `spec.rollback.triggers` to `core.model.Limits`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from reembed.api.fields import Fields
from reembed.api.values import parse_duration, parse_factor, parse_share
from reembed.core.model import Limit, Limits, NoData, Operator, PrometheusLimit

_DEFAULT = Limits()
_ZERO, _TWO, _FIVE = timedelta(0), timedelta(minutes=2), timedelta(minutes=5)


def parse_limits(triggers: Fields) -> Limits:
    """Return the triggers' limits; what is not written has the default of `core.model.Limits`."""
    found = {name: triggers.maybe(name) for name in ("memory", "errorRate", "latency", "pointer")}
    memory, errors, latency, pointer = found.values()
    retrieval, agents, consensus = (triggers.maybe(name) for name in ("retrieval", "agents", "consensus"))
    lag = triggers.maybe("followerLag")
    return Limits(
        memory=_share(memory, _DEFAULT.memory) if memory is not None else _DEFAULT.memory,
        error_rate=_share(errors, _DEFAULT.error_rate) if errors is not None else _DEFAULT.error_rate,
        latency=_latency(latency) if latency is not None else _DEFAULT.latency,
        retrieval=_retrieval(retrieval) if retrieval is not None else None,
        pointer=_timed(pointer, _DEFAULT.pointer.hold) if pointer is not None else _DEFAULT.pointer,
        agents=_timed(agents, _TWO) if agents is not None else None,
        consensus=_timed(consensus, _ZERO) if consensus is not None else None,
        follower_lag=_lag(lag) if lag is not None else None,
        prometheus=tuple(_prometheus(one) for one in triggers.each("prometheus")),
    )


def _timed(limit: Fields, hold: timedelta, **threshold: Any) -> Limit:
    """Return what every limit has: how long, what missing data means, and whether anything follows from it."""
    return Limit(
        hold=limit.parsed("for", parse_duration, hold),
        no_data=limit.choice("noData", NoData, NoData.HOLD),
        dry_run=limit.flag("dryRun", default=False),
        hysteresis=limit.parsed("hysteresis", parse_share, 0.1),
        **threshold,
    )


def _share(limit: Fields, default: Limit) -> Limit:
    return _timed(limit, default.hold, share=limit.parsed("threshold", parse_share, default.share))


def _latency(limit: Fields) -> Limit:
    default = _DEFAULT.latency
    threshold = limit.text("threshold", f"{default.factor:g}x")
    if threshold.endswith("x"):
        return _timed(limit, default.hold, factor=limit.parsed("threshold", parse_factor, default.factor))
    return _timed(limit, default.hold, absolute=limit.parsed("threshold", parse_duration))


def _retrieval(limit: Fields) -> Limit:
    return _timed(limit, _ZERO, number=limit.maybe_real("threshold"))


def _lag(limit: Fields) -> Limit:
    return _timed(limit, _FIVE, absolute=limit.parsed("threshold", parse_duration, _FIVE))


def _prometheus(one: Fields) -> PrometheusLimit:
    operator = one.choice("operator", Operator, Operator.ABOVE)
    limit = _timed(one, _TWO, number=one.real("threshold"))
    return PrometheusLimit(one.text("name"), one.text("query"), operator, limit)
