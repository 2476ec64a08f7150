"""What every part of an agent works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reembed.cluster.client import Cluster
from reembed.panel.heartbeats import Heartbeats
from reembed.panel.keys import KeyStore
from reembed.panel.metrics import Metrics
from reembed.panel.office import Office
from reembed.panel.settings import Settings


def wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Seat:
    """One agent's connection, what it knows of the panel, and its clock, which others need not believe."""

    cluster: Cluster
    settings: Settings
    office: Office
    duties: Heartbeats
    metrics: Metrics
    keys: KeyStore
    clock: Callable[[], datetime] = field(default=wall_clock)
