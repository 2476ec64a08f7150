"""What a state of a migration says, and what several of them wait for: votes, hooks, the store worker.

`states` and `preparing` return it, `core.decide` makes a status of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reembed.core import desired, hooks
from reembed.core.migration import Migration, Seen, Status
from reembed.core.quorum import queen
from reembed.core.quorum.queen import Need
from reembed.core.transitions import Event


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a state says: stay (no event) or go, and why; `status` carries what was recorded on the way."""

    status: Status
    reason: str
    message: str
    event: Event | None = None
    needs: Need | None = None  # what it would go on to, if the panel agreed


def voted(migration: Migration, seen: Seen, need: Need | None) -> Outcome | None:
    """Return what waits for the panel's votes, None once they are there or where no panel decides."""
    if need is None or not queen.votes(seen.index) or queen.certificate(migration, need, seen) is not None:
        return None
    found = queen.waits(migration, seen)
    return Outcome(migration.status, found.reason, found.message, needs=need)


def hooked(migration: Migration, seen: Seen, now: datetime, failing: Event | None) -> Outcome | None:
    """Return what the hooks of the moment hold up, None once they are over; `failing` is what a failed one means."""
    found = hooks.check(desired.hooking(migration, seen), migration.status.hooks, now)
    status = replace(migration.status, hooks=found.runs)
    if found.failure:
        return Outcome(status, "HookFailed", found.failure, failing)
    return Outcome(status, "WaitingForHook", found.waits) if found.waits else None


def waits_for_store(migration: Migration, seen: Seen, reason: str, message: str) -> Outcome:
    """Wait for the store worker; if it has a problem of its own, that is the reason."""
    problem = seen.store.problem if seen.store is not None else None
    if problem is not None:
        return Outcome(migration.status, problem.reason, problem.message)
    return Outcome(migration.status, reason, f"waiting until {message}")
