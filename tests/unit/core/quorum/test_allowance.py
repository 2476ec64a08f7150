"""How many of one agent's proposals count at a time, and until when."""

from __future__ import annotations

from datetime import timedelta

from reembed.core.quorum.allowance import MOST_OPEN, Allowance
from reembed.core.quorum.certificates import LONGEST_OPEN
from tests.panels import NOON

SOON = NOON + timedelta(minutes=2)


def filled(expires: object = SOON) -> Allowance:
    allowance = Allowance()
    assert all(allowance.admits("liar", f"d{number}", expires, NOON) for number in range(MOST_OPEN))  # type: ignore[arg-type]
    return allowance


def test_one_more_is_left_out_and_those_that_were_counted_stay() -> None:
    allowance = filled()
    assert not allowance.admits("liar", "more", SOON, NOON)
    assert allowance.admits("liar", "d0", SOON, NOON)
    assert allowance.admits("other", "more", SOON, NOON)


def test_there_is_room_again_when_their_time_is_over() -> None:
    allowance = filled()
    assert not allowance.admits("liar", "more", SOON, SOON - timedelta(seconds=1))
    assert allowance.admits("liar", "more", SOON + timedelta(minutes=2), SOON)


def test_what_asks_for_years_counts_for_as_long_as_anything_may_be_open() -> None:
    allowance = filled(NOON + timedelta(days=365))
    assert allowance.admits("liar", "more", SOON, NOON + LONGEST_OPEN)
