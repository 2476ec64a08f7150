"""The life of a migration: which event leads from which state to which, and no other.

`core.decide` finds the event of a pass and asks `move` where it leads; docs/reference/states.md is drawn from the same
table, and a test walks every pair of state and event. Two things are said here alone: what deletion means in each
state (it is an event like any other), and which states are the end of a migration.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """What is being done, or how it ended."""

    PREFLIGHT = "Preflight"  # everything the migration needs is looked for; nothing has been made yet
    BACKFILLING = "Backfilling"  # the Job embeds every document into a new collection
    INDEXING = "Indexing"  # the vector index is built over the filled collection
    EVALUATING = "Evaluating"  # labelled queries are put to both models
    CANARY = "Canary"  # a step's share of the queries goes to the candidate
    RETAINING = "Retaining"  # all queries go to the candidate; the old side stays ready to take them back
    PROMOTING = "Promoting"  # the candidate becomes what serves; the old side is let go once nobody uses it
    ROLLING_BACK = "RollingBack"  # weight 0; what was made is withdrawn once nobody uses it
    UNWINDING = "Unwinding"  # as RollingBack, for a deleted migration: what was made is dropped
    SUCCEEDED = "Succeeded"
    ROLLED_BACK = "RolledBack"
    FAILED = "Failed"
    GONE = "Gone"  # nothing is left to undo; the finalizer goes


class Event(Enum):
    """Why a migration leaves a state."""

    PASSED = "Passed"  # everything the state waits for is true
    NOTHING_SERVES = "NothingServes"  # there is no old side to compare with or to move traffic from
    ALREADY_THERE = "AlreadyThere"  # the target serves already
    NEXT_STEP = "NextStep"
    REFUSED = "Refused"  # waiting cannot heal what was found
    TRIGGERED = "Triggered"  # a rollback trigger held for its whole time
    DEADLINE = "Deadline"
    ABORTED = "Aborted"  # somebody commanded to go back
    RETRIED = "Retried"  # somebody commanded to begin anew
    DELETED = "Deleted"
    CONFIRMED = "Confirmed"  # gateways and store say that it is done


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.PREFLIGHT: {
        Event.PASSED: State.BACKFILLING,
        Event.ALREADY_THERE: State.SUCCEEDED,
        Event.REFUSED: State.FAILED,
        Event.DEADLINE: State.FAILED,
        Event.ABORTED: State.ROLLING_BACK,
        Event.DELETED: State.UNWINDING,
    },
    State.BACKFILLING: {
        Event.PASSED: State.INDEXING,
        Event.REFUSED: State.FAILED,
        Event.DEADLINE: State.FAILED,
        Event.ABORTED: State.ROLLING_BACK,
        Event.DELETED: State.UNWINDING,
    },
    State.INDEXING: {
        Event.PASSED: State.EVALUATING,
        Event.REFUSED: State.FAILED,
        Event.DEADLINE: State.FAILED,
        Event.ABORTED: State.ROLLING_BACK,
        Event.DELETED: State.UNWINDING,
    },
    State.EVALUATING: {
        Event.PASSED: State.CANARY,
        Event.NOTHING_SERVES: State.PROMOTING,
        Event.REFUSED: State.ROLLING_BACK,
        Event.DEADLINE: State.ROLLING_BACK,
        Event.ABORTED: State.ROLLING_BACK,
        Event.DELETED: State.UNWINDING,
    },
    State.CANARY: {
        Event.NEXT_STEP: State.CANARY,
        Event.PASSED: State.RETAINING,
        Event.TRIGGERED: State.ROLLING_BACK,
        Event.DEADLINE: State.ROLLING_BACK,
        Event.ABORTED: State.ROLLING_BACK,
        Event.DELETED: State.UNWINDING,
    },
    State.RETAINING: {
        Event.PASSED: State.PROMOTING,
        Event.TRIGGERED: State.ROLLING_BACK,
        Event.ABORTED: State.ROLLING_BACK,
        Event.DELETED: State.UNWINDING,
    },
    # The new side serves from here on: a deletion waits until it is confirmed and then undoes nothing.
    State.PROMOTING: {Event.CONFIRMED: State.SUCCEEDED, Event.REFUSED: State.FAILED},
    State.ROLLING_BACK: {Event.CONFIRMED: State.ROLLED_BACK, Event.DELETED: State.UNWINDING},
    State.UNWINDING: {Event.CONFIRMED: State.GONE},
    State.SUCCEEDED: {Event.DELETED: State.GONE},
    # What a failed migration left for inspection goes with it.
    State.ROLLED_BACK: {Event.RETRIED: State.PREFLIGHT, Event.DELETED: State.UNWINDING},
    State.FAILED: {Event.RETRIED: State.PREFLIGHT, Event.DELETED: State.UNWINDING},
    State.GONE: {},
}

# Nothing is left to do but to wait for deletion, or for the command to begin anew.
FINISHED = frozenset({State.SUCCEEDED, State.ROLLED_BACK, State.FAILED, State.GONE})

# The candidate may answer queries.
WITH_TRAFFIC = frozenset({State.CANARY, State.RETAINING})


class IllegalMove(Exception):
    """`decide` asked for a move that the table does not list: a mistake in the core, not in the world."""


def move(state: State, event: Event) -> State:
    """Return where `event` leads from `state`.

    Raises:
        IllegalMove: the table does not list it.

    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalMove(f"{event.value} means nothing in {state.value}") from None
