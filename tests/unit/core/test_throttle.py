"""A backfill asks for less while somebody suffers, for more when nobody does, and always for something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.throttle import FIRST, LEAST, MOST, Reading, Throttle

SECONDS = st.none() | st.floats(0.0, 1e6)
READINGS = st.lists(st.builds(Reading, SECONDS, SECONDS), max_size=200)
CALM = Reading(0.01, 0.03)


def after(*readings: Reading, begin: Throttle | None = None) -> Throttle:
    throttle = begin or Throttle()
    for reading in readings:
        throttle = throttle.judged(reading)
    return throttle


@given(READINGS, st.floats(0.0, 1e3))
def test_it_never_stands_still_and_never_asks_for_more_than_all(readings: list[Reading], seconds: float) -> None:
    throttle = after(*readings)
    assert LEAST <= throttle.limit <= MOST
    assert 1 <= throttle.under_way <= MOST
    assert 0 <= throttle.rest(seconds) <= seconds / LEAST


@given(READINGS)
def test_whatever_happened_it_asks_for_all_again_within_twenty_calm_readings(readings: list[Reading]) -> None:
    assert after(*readings, *[Reading(0.0, 0.0)] * 20).limit == MOST


@given(READINGS, st.floats(0.0, 1e4), st.floats(0.0, 1e4))
def test_a_store_that_stays_slow_whatever_is_done_is_taken_as_it_is(
    readings: list[Reading], commit: float, queries: float
) -> None:
    throttle = after(Reading(0.001, 0.001), *readings)
    for _ in range(2500):
        throttle = throttle.judged(Reading(commit + 0.001, queries + 0.001))
    assert (throttle.by, throttle.limit) == (None, MOST)


def test_a_machine_that_became_sixty_times_slower_is_yielded_to_for_a_minute_or_two() -> None:
    throttle, slow = after(Reading(0.005, None)), 0
    while throttle.limit < MOST:
        throttle = throttle.judged(Reading(0.3, None))
        slow += throttle.by is not None
    assert 60 < slow < 120


def test_the_time_of_rests_counts_as_that_of_judgements() -> None:
    often, rarely = after(CALM, *[Reading(9.0, None)] * 30), after(CALM, *[Reading(9.0, None, 30.0)])
    assert rarely.usual_commit == pytest.approx(0.01 * 1.01**30)
    assert often.usual_commit is not None
    assert often.usual_commit > (rarely.usual_commit or 0)


def test_what_suffers_for_another_reason_says_nothing_of_what_does_not() -> None:
    throttle = after(Reading(0.005, 0.03), *[Reading(9.0, 0.04)] * 40)
    assert throttle.usual_queries == pytest.approx(0.04)
    throttle = after(Reading(0.005, 0.03), *[Reading(9.0, 0.9)] * 8)
    assert throttle.usual_queries == pytest.approx(0.03 * 1.01**8)


@given(READINGS, st.builds(Reading, SECONDS, SECONDS))
def test_it_says_for_what_it_asks_for_less_and_forgets_that_as_it_asks_for_more(
    readings: list[Reading], reading: Reading
) -> None:
    before = after(*readings)
    now = before.judged(reading)
    assert now.by is not None or now.limit >= before.limit
    assert now.by is None or now.limit <= before.limit


@pytest.mark.parametrize(
    "unknown",
    [pytest.param(Reading(0.01, None), id="queries"), pytest.param(Reading(None, 0.03), id="commits")],
)
def test_what_is_not_known_yet_is_no_reason_to_ask_for_more(unknown: Reading) -> None:
    before = after(CALM, Reading(0.01, 0.3))
    now = before.judged(unknown)
    assert (now.limit, now.by) == (before.limit, "queries")


@pytest.mark.parametrize(
    ("reading", "by"),
    [
        pytest.param(Reading(1.0, None), "store", id="commits take a second"),
        pytest.param(Reading(None, 0.25), "queries", id="queries take eight times as long"),
        pytest.param(Reading(1.0, 0.25), "store", id="both"),
        pytest.param(Reading(0.1, 0.08), None, id="the noise of a busy machine"),
        pytest.param(Reading(None, None), None, id="nothing is known"),
    ],
)
def test_it_names_what_suffers(reading: Reading, by: str | None) -> None:
    assert after(CALM, reading).by == by


def test_half_of_it_is_asked_for_each_time_and_then_there_are_rests() -> None:
    suffering = [Reading(None, 0.3)] * 6
    found = [after(CALM, *suffering[:count], begin=Throttle(limit=MOST)) for count in range(7)]
    assert [(one.under_way, one.rest(1.0)) for one in found] == [
        (16, 0),
        (8, 0),
        (4, 0),
        (2, 0),
        (1, 0),
        (1, 1),
        (1, 3),
    ]


def test_a_first_reading_is_what_is_usual() -> None:
    assert after(Reading(5.0, 2.0)) == Throttle(FIRST + 1, None, 5.0, 2.0)
