"""What a migration's status remembers from one pass to the next, and what people command."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


@dataclass(frozen=True, slots=True)
class GateStanding:
    """Where a gate stands: Holds, Undecided or Fails, with the numbers."""

    name: str
    standing: str
    message: str


@dataclass(frozen=True, slots=True)
class TriggerState:
    """How long a trigger has been exceeded, in observed time: gaps between looks do not count."""

    since: datetime
    held: timedelta
    last_seen: datetime
    hold: timedelta = timedelta(0)  # what `held` has to reach
    value: str = ""  # the last one seen, and its limit, for people
    threshold: str = ""
    dry_run: bool = False
    shared_at: datetime | None = None  # when both sides were beyond the limit last


class Verb(Enum):
    """What a person can command, each by an annotation of its own."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asks for, for one object at one point of its life, once."""

    verb: Verb
    uid: str
    at: str  # `Status.at` when it was given
    nonce: str
    problem: str = ""  # why it cannot be read


@dataclass(frozen=True, slots=True)
class Consumed:
    """A command that was answered."""

    verb: Verb
    nonce: str
    at: str
    time: datetime
    accepted: bool
    message: str


@dataclass(frozen=True, slots=True)
class Emergency:
    """Protection of pods that are short of memory or near a rollback: what can wait does, until it is clear again."""

    since: datetime
    reason: str
    message: str
    clear_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lowered:
    """Fewer pods than the user allows fill a collection, since when, and for whose sake: `store` or `queries`."""

    pods: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Excused:
    """Time that no deadline counts: altogether, in the present state, and since when it runs."""

    total: timedelta = timedelta(0)
    in_state: timedelta = timedelta(0)
    since: datetime | None = None
