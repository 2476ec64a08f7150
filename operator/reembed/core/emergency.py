"""Emergency protection: what can wait stops before the queries have to go back.

It begins when a rollback trigger is past half of its time or a pool's memory is above 85 % of its limit, and ends when
neither has been so for a minute. While it holds, the backfill and shadow queries stop, traffic moves no further, and
the embedders of both sides work with the conservative limits of `core.emergency_limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.core.migration import Migration, Seen
from reembed.core.model import Emergency, TriggerState
from reembed.core.transitions import FINISHED

# The mission's numbers.
_MEMORY = 0.85
_PART_OF_HOLD = 0.5
# Long enough for the memory of what was stopped to be given back and measured again.
_CLEAR_FOR = timedelta(minutes=1)


def track(migration: Migration, seen: Seen, states: Mapping[str, TriggerState], now: datetime) -> Emergency | None:
    """Return the emergency that holds after a pass, None if none does."""
    before = migration.status.emergency
    if migration.status.state in FINISHED:
        return None
    found = _cause(migration, seen, states, now)
    if found is not None:
        return found if before is None else replace(before, clear_since=None)
    if before is None:
        return None
    clear_since = before.clear_since or now
    return None if now - clear_since >= _CLEAR_FOR else replace(before, clear_since=clear_since)


def _cause(migration: Migration, seen: Seen, states: Mapping[str, TriggerState], now: datetime) -> Emergency | None:
    for name, pool in (("candidate", seen.target), ("serving", seen.source)):
        memory = pool.report.memory if pool is not None else None
        if pool is not None and memory is not None and memory > _MEMORY:
            text = f"memory of the {name} pool {pool.meta.name!r} is at {memory:.0%} of its limit, above {_MEMORY:.0%}"
            return Emergency(now, "Memory", text)
    for reason, state in states.items():
        if not state.dry_run and timedelta(0) < state.hold * _PART_OF_HOLD <= state.held:
            text = f"{reason} has held for {state.held.total_seconds():.0f} s of {state.hold.total_seconds():.0f} s"
            return Emergency(now, reason, text)
    return None
