"""How fast an endpoint is asked: as fast as the pool and the endpoint allow, and never faster for long."""

from __future__ import annotations

import pytest

from reembed.embedder.hosted.throttle import Throttle


def sends(throttle: Throttle, seconds: float, tokens: int = 1, *, answered: bool = False) -> tuple[int, Throttle]:
    """Send whenever it may be sent; return how often that was."""
    now, count = 0.0, 0
    while (now := now + throttle.wait(now)) < seconds and count < 10_000:
        throttle, count = throttle.sent(now, tokens), count + 1
        throttle = throttle.succeeded(now) if answered else throttle
        now += 1e-9
    return count, throttle


def test_nothing_is_held_back_before_anybody_minded() -> None:
    assert sends(Throttle(), 1.0)[0] == 10_000


@pytest.mark.parametrize("rate", [0.5, 2.0, 20.0])
def test_a_stated_rate_of_requests_is_kept_and_used(rate: float) -> None:
    assert sends(Throttle(most_requests=rate), 60.0)[0] == pytest.approx(rate * 60, abs=rate + 1)


def test_a_stated_rate_of_tokens_is_kept_and_used() -> None:
    assert sends(Throttle(most_tokens=1000.0), 60.0, tokens=500)[0] == pytest.approx(120, abs=3)


def test_a_request_larger_than_the_rate_is_sent_and_paid_for_afterwards() -> None:
    assert Throttle(most_tokens=100.0).sent(0.0, 1000).wait(0.0) == 9.0


def test_nothing_is_sent_for_as_long_as_the_endpoint_wishes() -> None:
    assert [Throttle().refused(10.0, wished).wait(12.0) for wished in (30.0, 1.0, None)] == [28.0, 0.0, 0.0]


@pytest.mark.parametrize("wished", [0.0, 0.1, None])
def test_a_wish_of_nothing_is_no_leave_to_ask_again_at_once(wished: float | None) -> None:
    throttle, now, asked = Throttle(), 0.0, 0
    while (now := now + throttle.wait(now)) < 60:
        throttle, asked = throttle.sent(now, 1).refused(now + 0.01, wished), asked + 1
        now += 0.01
    assert asked < 10


def test_a_wish_has_a_limit() -> None:
    assert Throttle().refused(0.0, 1e9).wait(0.0) == 600.0


def test_after_a_refusal_the_rate_is_seven_tenths_of_what_was_borne() -> None:
    _, driven = sends(Throttle(most_requests=10.0), 60.0, answered=True)
    assert driven.refused(60.0, 1.0).rate == pytest.approx(7.0, rel=0.1)


def test_refusals_of_what_was_under_way_count_as_one() -> None:
    _, driven = sends(Throttle(most_requests=10.0), 60.0, answered=True)
    once = driven.refused(60.0, 5.0)
    again = once.refused(60.1, 5.0)
    assert (again.rate, again.paused_until, again.refusals) == (once.rate, 65.1, 2)


def test_the_rate_grows_quickly_until_it_nears_what_was_too_much() -> None:
    _, driven = sends(Throttle(most_requests=10.0), 60.0, answered=True)
    slow = driven.refused(60.0, 0.0)
    rates, now = [slow.requests], 60.0
    for _ in range(120):
        now += 1.0
        slow = slow.succeeded(now)
        rates.append(slow.requests)
    assert 0.9 < rates[10] / 10 < 1.0
    assert 1.0 < rates[60] / rates[10] < 1.3


def test_a_refusal_by_mistake_is_forgotten_within_minutes() -> None:
    """A 429 in a quiet minute, as by somebody else with the same key; then a backfill, for which there is room."""
    throttle, now = Throttle().succeeded(0.0).refused(50.0, 1.0), 60.0
    while (now := now + throttle.wait(now)) < 360:
        throttle = throttle.sent(now, 1).succeeded(now)
        now += 1e-6
    assert throttle.rate > 50


def test_a_refusal_in_a_quiet_minute_does_not_make_it_slow() -> None:
    assert Throttle().succeeded(0.0).refused(50.0, 1.0).rate == 1.0


def test_pauses_of_its_own_grow_until_there_is_an_answer() -> None:
    throttle, now, pauses = Throttle(), 0.0, []
    for _ in range(7):
        throttle = throttle.refused(now, None)
        pauses.append(throttle.wait(now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert throttle.succeeded(now).refused(now, None).wait(now) == 1


def test_a_night_of_refusals_is_waited_for() -> None:
    throttle, now = Throttle(), 0.0
    for _ in range(2000):
        throttle = throttle.refused(now, None)
        now += throttle.wait(now)
    assert throttle.succeeded(now).refused(now, None).wait(now) == 1


def test_an_endpoint_with_a_limit_of_its_own_is_used_almost_fully() -> None:
    """A window of a minute that takes 300 requests, then says how long it lasts; an hour of it."""
    throttle, now, taken, refused, window = Throttle(), 0.0, 0, 0, {}
    while (now := now + throttle.wait(now)) < 3600:
        minute = int(now // 60)
        throttle = throttle.sent(now, 1)
        if window.get(minute, 0) < 300:
            window[minute] = window.get(minute, 0) + 1
            taken, throttle = taken + 1, throttle.succeeded(now + 0.05)
        else:
            refused, throttle = refused + 1, throttle.refused(now + 0.05, 60 - now % 60)
        now += 0.05
    assert taken / (300 * 60) > 0.8
    assert refused / taken < 0.02
