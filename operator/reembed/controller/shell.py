"""What a shell hands to the core: the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)
