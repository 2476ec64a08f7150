"""Emergency protection: what can wait stops before the queries have to go back.

It begins when a rollback trigger is past half of its time or a pool's memory is above 85 % of its limit, and ends when
neither has been so for a minute. While it holds, the backfill and shadow queries stop, traffic moves no further, and
the embedders of both sides work with the conservative limits of `core.emergency_limits`.

Memory that a process has once used is mostly kept by its allocator, so that it may stay above 85 % for ever although
nothing asks for more. Once it has stayed below the trigger's own limit for some minutes of protection, what was stopped
is shown not to be what holds it: the level is tolerated, protection ends, and begins again half-way from there to the
trigger. Else a migration would wait for its deadline for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.core.migration import Migration, Seen
from reembed.core.model import Emergency, TriggerState
from reembed.core.transitions import FINISHED
from reembed.core.triggers import first_running

# The mission's numbers.
_MEMORY = 0.85
_PART_OF_HOLD = 0.5
# Long enough for the memory of what was stopped to be given back and measured again.
_CLEAR_FOR = timedelta(minutes=1)
# As long as the memory trigger's own time: memory that still grows would have fired it.
_SETTLED_AFTER = timedelta(minutes=5)
# Well below, so that a level around 85 % is not forgotten and found anew every few minutes.
_FORGOTTEN_BELOW = 0.80


def track(
    migration: Migration, seen: Seen, states: Mapping[str, TriggerState], now: datetime
) -> tuple[Emergency | None, int | None]:
    """Return the emergency that holds after a pass, and the percentage of memory that is tolerated."""
    before, tolerated = migration.status.emergency, _remembered(migration, seen)
    if migration.status.state in FINISHED:
        return None, None
    settled = _settled(migration, seen, states, now)
    if settled is not None:
        return None, settled
    found = _cause(migration, seen, states, tolerated, now)
    if found is not None:
        return (found if before is None else replace(before, clear_since=None)), tolerated
    if before is None:
        return None, tolerated
    clear_since = before.clear_since or now
    return (None if now - clear_since >= _CLEAR_FOR else replace(before, clear_since=clear_since)), tolerated


def _settled(migration: Migration, seen: Seen, states: Mapping[str, TriggerState], now: datetime) -> int | None:
    """Return the level, in percent, at which memory has stayed although what can wait has stopped for long enough."""
    before, highest = migration.status.emergency, _highest(seen)
    if before is None or before.clear_since is not None or now - before.since < _SETTLED_AFTER:
        return None
    if first_running(states) is not None or highest is None or not _MEMORY < highest < _limit(migration):
        return None
    return math.ceil(highest * 100)


def _remembered(migration: Migration, seen: Seen) -> int | None:
    highest = _highest(seen)
    return None if highest is not None and highest < _FORGOTTEN_BELOW else migration.status.tolerated


def begins_above(migration: Migration, tolerated: int | None) -> float:
    """Return the share of memory above which protection begins, where `tolerated` percent are no reason for it."""
    return _MEMORY if tolerated is None else max(_MEMORY, (tolerated / 100 + _limit(migration)) / 2)


def _limit(migration: Migration) -> float:
    share = migration.spec.limits.memory.share
    return share if share is not None else 1.0


def _highest(seen: Seen) -> float | None:
    found = (pool.report.memory for pool in (seen.target, seen.source) if pool is not None)
    return max((memory for memory in found if memory is not None), default=None)


def _cause(
    migration: Migration, seen: Seen, states: Mapping[str, TriggerState], tolerated: int | None, now: datetime
) -> Emergency | None:
    limit = begins_above(migration, tolerated)
    for name, pool in (("candidate", seen.target), ("serving", seen.source)):
        memory = pool.report.memory if pool is not None else None
        if pool is not None and memory is not None and memory > limit:
            text = f"memory of the {name} pool {pool.meta.name!r} is at {memory:.0%} of its limit"
            return Emergency(now, "Memory", f"{text}, above {limit * 100:.3g}%")
    for reason, state in states.items():
        if not state.dry_run and timedelta(0) < state.hold * _PART_OF_HOLD <= state.held:
            text = f"{reason} has held for {state.held.total_seconds():.0f} s of {state.hold.total_seconds():.0f} s"
            return Emergency(now, reason, text)
    return None
