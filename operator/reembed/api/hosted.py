"""What a pool's status and its pods say of an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw
from reembed.api.values import format_time, parse_time
from reembed.core.hosted import HostedStatus, PodSaid


def parse_hosted_status(raw: Raw) -> HostedStatus:
    """Return what a pool remembers of its endpoint; nothing, if somebody wrote into it what it is not."""
    try:
        found = Fields(raw.get("status") or {}, "status").into("external")
        cosine, change = found.maybe_text("cosine"), found.maybe("lastChange")
        return HostedStatus(
            spent=found.number("spentTokens", 0),
            probes=found.text("probes", ""),
            cosine=float(cosine) if cosine is not None else None,
            failed_checks=found.number("failedChecks", 0),
            passed=_time(found, "lastPassed"),
            change=(_time(change, "after"), _time(change, "before")) if change is not None else None,
            pods={one.text("name"): _pod(one) for one in found.each("pods")},
        )
    except (InvalidField, ValueError):
        return HostedStatus()


def render_hosted_status(status: HostedStatus) -> dict[str, Any]:
    """Return `status.external`."""
    pods = [
        {"name": name, "spentTokens": one.spent, "grantedTokens": one.granted, "check": one.check}
        for name, one in sorted(status.pods.items())
    ]
    change = status.change
    return {
        "spentTokens": status.spent,
        "probes": status.probes,
        "failedChecks": status.failed_checks,
        "pods": pods,
        **({"cosine": f"{status.cosine:.5f}"} if status.cosine is not None else {}),
        **({"lastPassed": _stamp(status.passed)} if status.passed else {}),
        **({"lastChange": {"after": _stamp(change[0]), "before": _stamp(change[1])}} if change is not None else {}),
    }


def parse_pod_said(raw: Any) -> PodSaid:
    """Return what a pod said of its endpoint.

    Raises:
        InvalidField: it is not what pods say.

    """
    said = Fields(raw, "hosted")
    return PodSaid(
        spent=max(said.number("spentTokens"), 0),
        check=min(max(said.number("check"), 0), _LATEST),
        probes=said.text("probes", "")[:LONGEST_SKETCH],
        error=said.text("error", "")[:_LONGEST_ERROR],
        short=max(said.number("shortTokens", 0), 0),
    )


def _pod(one: Fields) -> PodSaid:
    return PodSaid(one.number("spentTokens", 0), one.number("check", 0), granted=one.number("grantedTokens", 0))


def _time(fields: Fields, name: str) -> int:
    """Return a time in seconds since 1970, 0 if it is not there."""
    return int(fields.parsed(name, parse_time, datetime.fromtimestamp(0, UTC)).timestamp())


def _stamp(seconds: int) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))


# The year 4147: later is not a time but a mistake.
_LATEST = 1 << 36
# As the CRD takes it: five probes have 856.
LONGEST_SKETCH = 8192
_LONGEST_ERROR = 1024
