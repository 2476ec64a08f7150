"""Why a hosted model gave no vectors, as callers, the operator and Kubernetes are told."""

from __future__ import annotations

from reembed.embedder.failures import EngineBusy, EngineUnavailable
from reembed.embedder.hosted.upstream import Denied, Rejected, Unusable, UpstreamError
from reembed.embedder.refusals import DimensionsMismatch, EndpointRefused, Refusal

# What an endpoint answers for want of a text's vector or of a firewall's liking, as well as for faults of its own.
_PERHAPS_A_TEXT = frozenset({403, 500})


class Throttled(EngineBusy):
    """The endpoint takes no more for now; `retry_after` says in how many seconds it may."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = max(1, round(retry_after))


class BudgetSpent(Throttled):
    """The pool's budget has nothing left for background texts."""


class EndpointFailed(EngineUnavailable):
    """The endpoint fails; `retry_after` says in how many seconds it is asked again."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = max(1, round(retry_after))


def perhaps_a_text(error: EndpointFailed) -> bool:
    """Return whether what failed may be due to what was sent."""
    cause = error.__cause__
    return isinstance(cause, Unusable) or (isinstance(cause, UpstreamError) and cause.status in _PERHAPS_A_TEXT)


def refusal(error: Exception) -> Refusal | None:
    """Return why an endpoint cannot serve this pool at all, None if waiting may help."""
    match error.__cause__ if error.__cause__ is not None else error:
        case Denied() | Rejected() as cause:
            return EndpointRefused(str(cause))
        case Unusable() as cause if "dimensions" in str(cause):
            return DimensionsMismatch(
                f"{cause}; correct external.dimensions, or set sendDimensions where the model can"
            )
        case Unusable() as cause:
            return EndpointRefused(str(cause))
    return None
