"""When a source that fails is asked again."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from reembed.embedder.breaker import Breaker, State, pause

CLOSED = Breaker(threshold=3, seconds=10.0)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    after = CLOSED.failed(1.0).failed(2.0).failed(3.0)
    assert after == Breaker(3, 10.0, State.OPEN, failures=3, openings=1, until=13.0)


def test_what_is_open_tries_once_when_its_rest_is_over_and_rests_twice_as_long_after_another_failure() -> None:
    opened = CLOSED.failed(1.0).failed(2.0).failed(3.0)
    assert (opened.at(12.9).state, opened.at(13.0).state) == (State.OPEN, State.HALF_OPEN)
    assert opened.at(13.0).failed(13.5) == Breaker(3, 10.0, State.OPEN, failures=4, openings=2, until=33.5)


def test_a_try_that_brings_something_closes_it_and_forgets() -> None:
    opened = CLOSED.failed(1.0).failed(2.0).failed(3.0)
    assert opened.at(13.0).succeeded() == CLOSED


def test_what_was_under_way_when_it_opened_makes_it_rest_no_longer() -> None:
    opened = CLOSED.failed(1.0).failed(2.0).failed(3.0)
    for _ in range(10):
        opened = opened.failed(4.0)
    assert (opened.until, opened.openings) == (13.0, 1)


def test_a_night_of_failures_makes_a_rest_no_longer_than_the_longest() -> None:
    breaker, now = Breaker(threshold=1, seconds=1.0, longest=30.0), 0.0
    for _ in range(2000):
        breaker = breaker.at(now).failed(now)
        assert breaker.until - now <= 30.0
        now = breaker.until
    assert breaker.succeeded() == Breaker(threshold=1, seconds=1.0, longest=30.0)


@given(failures=st.integers(0, 5000), wished=st.floats(0, 1e6), seed=st.integers(0, 1 << 20))
def test_no_pause_is_longer_than_a_minute_or_shorter_than_the_server_wishes(
    failures: int, wished: float, seed: int
) -> None:
    found = pause(0.5, failures, Random(seed), wished)
    assert min(wished, 30.0) <= found <= 45.0


def test_pods_that_lost_one_server_come_back_at_different_times() -> None:
    found = {round(pause(0.5, 3, Random(seed)), 2) for seed in range(50)}
    assert len(found) > 40
    assert (min(found) >= 2.0, max(found) <= 6.0) == (True, True)
