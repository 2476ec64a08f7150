"""Durations, shares, factors, quantities and times are read as people write them, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.api import format_duration, parse_duration, parse_quantity, parse_share
from reembed.api.values import InvalidValue, format_time, parse_factor, parse_time
from tests.unit.api.strategies import durations, times


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "500ms", timedelta(milliseconds=500)),
        (parse_duration, "45s", timedelta(seconds=45)),
        (parse_duration, "1h30m", timedelta(minutes=90)),
        (parse_duration, "1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        (parse_duration, "0s", timedelta(0)),
        (parse_share, "0%", 0.0),
        (parse_share, "0.5%", 0.005),
        (parse_share, "70%", 0.7),
        (parse_share, "100%", 1.0),
        (parse_factor, "10x", 10.0),
        (parse_factor, "1.5x", 1.5),
        (parse_quantity, "512Mi", 512 * 2**20),
        (parse_quantity, "1.5Gi", 3 * 2**29),
        (parse_quantity, "2G", 2 * 10**9),
        (parse_quantity, "250m", 1),
        (parse_quantity, "2", 2),
        (parse_time, "2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_value_is_read(parse: Callable[[str], Any], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_duration, ""),
        (parse_duration, "5"),
        (parse_duration, "5 m"),
        (parse_duration, "-5m"),
        (parse_duration, "1.5h"),
        (parse_duration, "five minutes"),
        (parse_duration, "\u0665m"),  # a digit, but not to the API server
        (parse_duration, "9999999999d"),
        (parse_share, "70"),
        (parse_share, "0.7"),
        (parse_share, "100.1%"),
        (parse_share, "-1%"),
        (parse_factor, "10"),
        (parse_factor, "x10"),
        (parse_quantity, "512MB"),
        (parse_quantity, "-1Gi"),
        (parse_time, "yesterday"),
        (parse_time, "2026-01-01T12:00:00"),  # of which zone?
    ],
)
def test_what_is_no_value_is_refused(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(repr(text))} is not a"):
        parse(text)


@given(durations)
def test_a_duration_is_read_as_it_was_written(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(times)
def test_a_time_is_read_as_it_was_written(time: datetime) -> None:
    assert parse_time(format_time(time)) == time


@given(st.integers(min_value=0, max_value=100_00))
def test_a_share_is_a_hundredth_of_its_percentage(hundredths: int) -> None:
    assert parse_share(f"{hundredths / 100:g}%") == pytest.approx(hundredths / 10_000)
