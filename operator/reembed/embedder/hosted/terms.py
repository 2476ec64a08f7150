"""On which terms an endpoint is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from reembed.embedder.hosted.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a live and a background text may wait for their turn, and how often the model is checked."""

    live: float = 5.0
    background: float = 20.0
    check_every: float = 3600.0
    check_again: float = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms an endpoint is asked; `budgeted` means that background texts need what the operator grants."""

    throttle: Throttle = field(default_factory=Throttle)
    budgeted: bool = False
    patience: Patience = field(default_factory=Patience)
