"""When a replica of the operator may lead, and when it has to stop: pure rules over a Lease and one's own clock.

`controller.leading` puts every look at the Lease through `seen` and asks before every step; `cluster.lease` reads and
writes the object by compare-and-set. Nobody ever compares two clocks: a candidate counts from when it last saw the
Lease change, the leader from when it sent the last renewal that was answered. With `sent` <= the server's change <=
`seen`, the order that has to hold is one of lengths alone:

    sent -- RENEW_DEADLINE --> the last write is sent -- WRITE_SECONDS --> it arrived or never will
    seen ------------------------ LEASE ---------------------------------------------> another replica may write

What is left between the two, a second, is for clocks that do not run equally fast: 7 %, where quartz has 0.01 %.

Seconds are those of the caller's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

# As client-go, and with it Argo Rollouts, has them. A leader that dies without a word is replaced after the first.
LEASE = 15.0
RENEW_DEADLINE = 10.0
RETRY = 2.0
# No write of a leader may be under way for longer.
WRITE_SECONDS = 4.0
# A request about the Lease is given up after this, so that one that hangs leaves time for two others.
ASK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Record:
    """What the Lease says. `version` moves with every change; `holder` is empty after an orderly hand-over."""

    holder: str
    transitions: int = 0
    duration: float = LEASE
    version: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """The newest look at the Lease, None where there is none, and since when it has been as it is."""

    record: Record | None
    since: float


def seen(before: Sight | None, record: Record | None, now: float) -> Sight:
    """Return what is known after a look whose answer came at `now`."""
    return before if before is not None and before.record == record else Sight(record, now)


def until_free(sight: Sight, identity: str, now: float) -> float:
    """Return for how many seconds `identity` may not take the Lease yet.

    Then the server has the last word: of two that take the same version, one gets it.
    """
    record = sight.record
    if record is None:
        # The first replica that there ever was waits as well: nobody can tell that from a Lease that somebody deleted,
        # which its holder learns at its next renewal only.
        return sight.since + LEASE - now
    if record.holder in {"", identity}:
        # A pod runs one operator at a time: whoever held it under our name has ended.
        return 0.0
    return sight.since + max(record.duration, LEASE) - now


def taken(sight: Sight, identity: str) -> Record:
    """Return what the Lease has to say once `identity` holds it."""
    record = sight.record
    if record is None:
        return Record(identity)
    moved = record.holder != identity
    return Record(identity, record.transitions + moved, version=record.version)


def left(renewed: float | None, now: float) -> float:
    """Return for how many seconds a leader may begin writes whose last answered renewal was sent at `renewed`."""
    return 0.0 if renewed is None else renewed + RENEW_DEADLINE - now


def may_write(renewed: float | None, now: float) -> bool:
    return left(renewed, now) > 0
