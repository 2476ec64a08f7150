"""What people command by annotation: which command applies where, and what is answered to it.

A command names the object (UID), the point of its life it was given at, and a nonce, so that it works once and only for
what its sender saw: a manifest with an old annotation that is applied again does nothing. Promoting and retrying are
meant for one state and step; pausing, resuming and aborting for the attempt as a whole, since what is stopped there is
to be stopped wherever it has got to meanwhile. No command replaces a gate: promoting skips the rest of a hold or a
retention window and gives the approval that was asked for; limits, probes and capacity are looked at as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reembed.core import desired, reasons, traffic
from reembed.core.migration import Migration, Seen, Status
from reembed.core.model import Command, Consumed, Verb
from reembed.core.transitions import FINISHED, TRANSITIONS, WITH_TRAFFIC, Event, State

# Answers that are kept, besides those to annotations that are still there: a nonce must not count twice.
_KEPT = 11
# Abort wins: it is answered first, and what else was asked at the same time is refused.
_ORDER = (Verb.ABORT, Verb.RETRY, Verb.PAUSE, Verb.RESUME, Verb.PROMOTE)
_WHOLE_ATTEMPT = frozenset({Verb.ABORT, Verb.PAUSE, Verb.RESUME})


@dataclass(frozen=True, slots=True)
class Answered:
    """The status with every command answered, and the event of the one that moves the migration."""

    status: Status
    event: Event | None = None
    new: tuple[Consumed, ...] = ()


def answer(migration: Migration, seen: Seen, now: datetime) -> Answered:
    """Answer what was asked and not answered yet."""
    status, event = migration.status, None
    new: list[Consumed] = []
    for command in sorted(migration.asked, key=lambda one: _ORDER.index(one.verb)):
        if any((one.verb, one.nonce) == (command.verb, command.nonce) for one in status.commands):
            continue
        asked = replace(migration, status=status)
        refusal = "another command goes first" if event is not None else _refusal(command, asked, seen)
        if not refusal:
            status, event = _done(command, status)
        text = refusal or _DONE[command.verb]
        new.append(Consumed(command.verb, command.nonce, command.at, now, not refusal, text))
        status = replace(status, commands=_kept((*status.commands, new[-1]), migration))
    return Answered(status, event, tuple(new))


def _kept(commands: tuple[Consumed, ...], migration: Migration) -> tuple[Consumed, ...]:
    there = {(one.verb, one.nonce) for one in migration.asked}
    return tuple(
        one
        for place, one in enumerate(commands, start=1)
        if (one.verb, one.nonce) in there or place > len(commands) - _KEPT
    )


def _refusal(command: Command, migration: Migration, seen: Seen) -> str:
    """Return why a command does not apply, empty if it does."""
    status = migration.status
    if command.problem:
        return command.problem
    if command.uid != migration.meta.uid:
        return f"it is meant for UID {command.uid}, and this migration's is {migration.meta.uid}"
    meant, is_at = command.at, status.at
    if command.verb in _WHOLE_ATTEMPT:
        meant, is_at = meant.partition("/")[0], is_at.partition("/")[0]
    if meant != is_at:
        return f"it is meant for {command.at}, and the migration is at {status.at}; look at it, and command again"
    return _APPLIES[command.verb](migration, seen)


def _pause(migration: Migration, seen: Seen) -> str:
    state = migration.status.state
    if state in FINISHED | desired.TAKING_BACK | {State.PROMOTING}:
        return f"{state.value} is not paused: nothing is left to hold up"
    return "it is paused already" if migration.status.paused else ""


def _resume(migration: Migration, seen: Seen) -> str:
    if migration.status.paused:
        return ""
    return "spec.paused is true in the manifest; set it to false there" if migration.spec.paused else "it is not paused"


def _promote(migration: Migration, seen: Seen) -> str:
    status = migration.status
    if status.state in WITH_TRAFFIC or (status.state is State.EVALUATING and status.reason in reasons.UNDECIDED):
        return "it was promoted here already" if status.promoted == status.at else ""
    return f"{status.state.value} has no hold to skip and waits for no approval: {status.reason}"


def _abort(migration: Migration, seen: Seen) -> str:
    status = migration.status
    if Event.ABORTED not in TRANSITIONS[status.state]:
        return f"there is nothing to abort in {status.state.value}"
    dead = traffic.nowhere_to_go(migration, seen) if status.state in WITH_TRAFFIC else None
    if dead is None:
        return ""
    return f"{dead.message}; annotation reembed.dev/force-stable=true on the index takes the queries back all the same"


def _retry(migration: Migration, seen: Seen) -> str:
    if Event.RETRIED not in TRANSITIONS[migration.status.state]:
        return f"{migration.status.state.value} is not retried; only what failed or was rolled back is"
    if seen.index is not None and not desired.settled(migration, seen.index):
        left = traffic.behind(seen)
        why = f": {left.message}" if left is not None else ""
        return f"what the last attempt made is not withdrawn yet{why}"
    return ""


def _done(command: Command, status: Status) -> tuple[Status, Event | None]:
    match command.verb:
        case Verb.PAUSE:
            return replace(status, paused=True), None
        case Verb.RESUME:
            return replace(status, paused=False), None
        case Verb.PROMOTE:
            return replace(status, promoted=status.at), None
        case Verb.ABORT:
            return status, Event.ABORTED
        case Verb.RETRY:
            return status, Event.RETRIED


_APPLIES: Mapping[Verb, Callable[[Migration, Seen], str]] = {
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.PROMOTE: _promote,
    Verb.ABORT: _abort,
    Verb.RETRY: _retry,
}
_DONE: Mapping[Verb, str] = {
    Verb.PAUSE: "paused; rollback triggers are watched as before",
    Verb.RESUME: "it goes on",
    Verb.PROMOTE: "it goes on as soon as every gate holds",
    Verb.ABORT: "queries go back and what was made is withdrawn",
    Verb.RETRY: "a new attempt begins",
}
