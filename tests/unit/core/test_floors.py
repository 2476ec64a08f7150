"""A migration's pools have room for all queries before these move, and no longer than the migration lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.floors import floor
from reembed.core.load import Load
from reembed.core.transitions import State
from tests import builders as b

# 100 texts of 20 tokens a second; a pod that is never idle does 1,000 tokens a second, and 700 as it should.
OLD = Load(peaks=((1, 40.0), (2, 100.0), (3, 60.0)), speed=1000.0, tokens_a_text=20.0)
NEW = Load(speed=500.0)
LOADS = {"old": OLD, "new": NEW}


@pytest.mark.parametrize(
    ("pool", "state", "step", "pods"),
    [
        pytest.param("old", State.BACKFILLING, 0, 0, id="nothing moves yet"),
        pytest.param("new", State.EVALUATING, 0, 1, id="the first step of the candidate: 10 %"),
        pytest.param("new", State.CANARY, 0, 3, id="the next step: 50 %"),
        pytest.param("new", State.CANARY, 1, 6, id="the last step: all"),
        pytest.param("new", State.RETAINING, 2, 6, id="all queries are there"),
        pytest.param("old", State.CANARY, 0, 3, id="what serves may get all queries back at once"),
        pytest.param("old", State.RETAINING, 2, 3, id="as long as there is a way back"),
        pytest.param("old", State.SUCCEEDED, 2, 0, id="it has ended"),
        pytest.param("old", State.ROLLING_BACK, 1, 0, id="it is over, and the pods that run stay by another rule"),
        pytest.param("third", State.CANARY, 1, 0, id="nobody's"),
    ],
)
def test_a_side_has_room_for_its_next_step(pool: str, state: State, step: int, pods: int) -> None:
    assert floor(pool, [b.migration(state, step=step)], LOADS, before=0) == pods


def test_what_the_candidate_answers_already_may_come_back() -> None:
    loads = {"old": OLD, "new": Load(peaks=((3, 100.0),), speed=500.0)}
    assert floor("old", [b.migration(State.CANARY, step=1)], loads, before=0) == 6


def test_a_floor_never_falls_while_its_migration_lasts() -> None:
    canary = [b.migration(State.CANARY)]
    assert (floor("old", canary, LOADS, before=9), floor("old", canary, {}, before=9), floor("old", [], LOADS, 9)) == (
        *(9, 9),
        0,
    )


@pytest.mark.parametrize("loads", [{}, {"old": Load()}, {"old": OLD}], ids=["nobody", "nothing", "the other alone"])
def test_what_was_not_measured_makes_no_floor(loads: dict[str, Load]) -> None:
    assert floor("new", [b.migration(State.CANARY)], loads, before=0) == 0


@given(st.floats(0, 1e9), st.floats(0.001, 1e9), st.floats(0.001, 1e6), st.integers(0, 2))
def test_a_floor_is_bounded_whatever_was_measured(rate: float, speed: float, tokens: float, step: int) -> None:
    load = Load(peaks=((1, rate),), speed=speed, tokens_a_text=tokens)
    assert 0 <= floor("old", [b.migration(State.CANARY, step=step)], {"old": load, "new": load}, 0) <= 1000
