"""Deadlines count what a migration does, not what it waits for of people and of other migrations."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reembed.core.decide import decide
from reembed.core.migration import Migration, Neighbour, Status, Visit
from reembed.core.model import Excused
from reembed.core.transitions import State
from tests import builders as b

DAY = 24 * 3600
BUILDING = b.seen(store=b.store(b.collection("Filled")))


def within(hours: float, state: State = State.INDEXING, **changes: object) -> Migration:
    spec = {"deadline": timedelta(hours=hours), "progress_deadline": timedelta(days=30)}
    return b.migration(state, spec=spec, **changes)


@pytest.mark.parametrize(("hours", "state"), [(9.9, State.INDEXING), (10.1, State.FAILED)])
def test_a_migration_that_takes_longer_than_its_deadline_ends(hours: float, state: State) -> None:
    status = decide(within(10), BUILDING, b.after(3600 * hours)).status
    assert status.state is state


def test_the_deadline_gives_queries_back_that_the_candidate_has() -> None:
    migration = within(10, State.CANARY, acknowledged_at=b.NOON, weight=10)
    status = decide(migration, b.seen(b.index(10)), b.after(3600 * 11)).status
    assert (status.state, status.reason) == (State.ROLLING_BACK, "DeadlineExceeded")
    assert status.message.startswith("the migration took longer than its deadline (10:00:00), in Canary")


def test_the_deadline_ends_no_retention() -> None:
    migration = within(10, State.RETAINING, acknowledged_at=b.NOON, weight=100)
    assert decide(migration, b.seen(b.index(100)), b.after(3600 * 11)).status.reason != "DeadlineExceeded"


def test_time_spent_in_pauses_is_taken_off() -> None:
    migration = within(10, excused=Excused(timedelta(hours=5), timedelta(0)))
    found = [decide(migration, BUILDING, b.after(3600 * hours)).status.state for hours in (14, 16)]
    assert found == [State.INDEXING, State.FAILED]


def test_a_new_attempt_has_the_whole_deadline_again() -> None:
    visits = (Visit(State.PREFLIGHT, b.NOON), Visit(State.FAILED, b.after(DAY)), Visit(State.PREFLIGHT, b.after(DAY)))
    migration = within(10, timeline=(*visits, Visit(State.INDEXING, b.after(DAY))), attempt=2)
    assert decide(migration, BUILDING, b.after(DAY + 3600)).status.state is State.INDEXING


def test_moving_on_ends_what_is_excused_in_a_state_and_keeps_the_sum() -> None:
    migration = b.migration(State.INDEXING, excused=Excused(timedelta(hours=2), timedelta(hours=1)))
    status = decide(migration, b.seen(), b.NOON).status
    assert (status.state, status.excused) == (State.EVALUATING, Excused(timedelta(hours=2)))


def waiting(*depends_on: str, **neighbours: Neighbour) -> Status:
    world = b.seen(b.index(held=False, candidate=None), neighbours=neighbours)
    return decide(b.migration(spec={"depends_on": depends_on}), world, b.NOON).status


@pytest.mark.parametrize(
    ("neighbours", "message"),
    [
        pytest.param({}, "waiting for EmbeddingMigration 'first': it does not exist", id="absent"),
        pytest.param(
            {"first": Neighbour(State.CANARY)}, "waiting for EmbeddingMigration 'first', which is in", id="on"
        ),
        pytest.param({"first": Neighbour(State.FAILED)}, "EmbeddingMigration 'first' ended as Failed", id="failed"),
    ],
)
def test_a_migration_waits_for_those_it_depends_on(neighbours: dict[str, Neighbour], message: str) -> None:
    status = waiting("first", **neighbours)
    assert (status.state, status.reason) == (State.PREFLIGHT, "WaitingForDependency")
    assert status.message.startswith(message)
    assert status.excused.since == b.NOON


def test_a_migration_whose_dependencies_succeeded_begins() -> None:
    assert waiting("first", first=Neighbour(State.SUCCEEDED)).reason == "ClaimingIndex"


@pytest.mark.parametrize(
    "neighbours",
    [
        pytest.param({"first": Neighbour(State.PREFLIGHT, ("move",))}, id="of two"),
        pytest.param(
            {"first": Neighbour(State.PREFLIGHT, ("second",)), "second": Neighbour(State.PREFLIGHT, ("move",))},
            id="of three",
        ),
    ],
)
def test_a_circle_of_dependencies_is_refused(neighbours: dict[str, Neighbour]) -> None:
    status = waiting("first", **neighbours)
    assert (status.state, status.reason) == (State.FAILED, "DependencyCycle")


def test_a_circle_that_does_not_come_back_here_only_waits() -> None:
    circle = {"first": Neighbour(State.PREFLIGHT, ("second",)), "second": Neighbour(State.PREFLIGHT, ("first",))}
    assert waiting("first", **circle).reason == "WaitingForDependency"
