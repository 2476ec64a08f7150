"""What pods that have no model yet say of its file, as the pool's status tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reembed.core import reasons
from reembed.core.model import Problem

# Shares are told in such steps, so that a status is not written with every block.
_STEP = 10


@dataclass(frozen=True, slots=True)
class Loading:
    """How far a pod is with its file; `error` is why the last try ended, empty while it goes well."""

    source: str
    done: int  # bytes
    size: int  # bytes, 0 as long as nobody said it
    breaker: str  # closed, open or half_open
    error: str


def problem(said: Mapping[str, Loading]) -> Problem | None:
    """Return what holds a pool up, by what its pods said; a source that fails comes first."""
    if not said:
        return None
    pod, one = min(said.items(), key=lambda item: (not item[1].error, item[0]))
    if not one.error:
        return Problem(reasons.MODEL_LOADING, f"pod {pod} fetches {one.source}: {_share(one)}")
    text = (
        f"pod {pod} gets nothing of {one.source} ({one.error}; circuit breaker {one.breaker.replace('_', ' ')}); "
        f"{_share(one)}; it goes on by itself: look at the server, the address and the credentials"
    )
    return Problem(reasons.MODEL_SOURCE_FAILING, text)


def _share(one: Loading) -> str:
    if one.size <= 0:
        return "nothing is here yet"
    return f"{100 * one.done // one.size // _STEP * _STEP} % of {one.size} bytes are here"
