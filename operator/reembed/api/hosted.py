"""What a pool's status and its pods say of an endpoint."""

from __future__ import annotations

from typing import Any

from reembed.api.fields import Fields, InvalidField, Raw
from reembed.core.hosted import HostedStatus, PodSaid


def parse_hosted_status(raw: Raw) -> HostedStatus:
    """Return what a pool remembers of its endpoint; nothing, if somebody wrote into it what it is not."""
    try:
        found = Fields(raw.get("status") or {}, "status").into("external")
        cosine = found.maybe_text("cosine")
        return HostedStatus(
            spent=found.number("spentTokens", 0),
            probes=found.text("probes", ""),
            cosine=float(cosine) if cosine is not None else None,
            failed_checks=found.number("failedChecks", 0),
            pods={
                one.text("name"): PodSaid(one.number("spentTokens", 0), one.number("check", 0))
                for one in found.each("pods")
            },
        )
    except (InvalidField, ValueError):
        return HostedStatus()


def render_hosted_status(status: HostedStatus) -> dict[str, Any]:
    """Return `status.external`."""
    pods = [{"name": name, "spentTokens": one.spent, "check": one.check} for name, one in sorted(status.pods.items())]
    return {
        "spentTokens": status.spent,
        "probes": status.probes,
        "failedChecks": status.failed_checks,
        "pods": pods,
        **({"cosine": f"{status.cosine:.5f}"} if status.cosine is not None else {}),
    }


def parse_pod_said(raw: Any) -> PodSaid:
    """Return what a pod said of its endpoint.

    Raises:
        InvalidField: it is not what pods say.

    """
    said = Fields(raw, "hosted")
    return PodSaid(
        spent=max(said.number("spentTokens"), 0),
        check=max(said.number("check"), 0),
        probes=said.text("probes", "")[:_LONGEST_SKETCH],
        error=said.text("error", "")[:_LONGEST_ERROR],
        short=max(said.number("shortTokens", 0), 0),
    )


# As the CRD takes it: five probes have 856.
_LONGEST_SKETCH = 8192
_LONGEST_ERROR = 1024
