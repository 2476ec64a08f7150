"""Waits grow, spread, and respect what the server asked for."""

from __future__ import annotations

import pytest

from reembed.backfill.retries import Backoff

BACKOFF = Backoff(first=0.2, longest=15.0)


@pytest.mark.parametrize(
    ("attempt", "chance", "least", "expected"),
    [
        pytest.param(1, 0.5, 0.0, 0.2, id="first"),
        pytest.param(4, 0.5, 0.0, 1.6, id="doubled"),
        pytest.param(1000, 0.5, 0.0, 15.0, id="bounded"),
        pytest.param(1, 0.0, 0.0, 0.1, id="shortest"),
        pytest.param(1, 1.0, 0.0, 0.3, id="longest"),
        pytest.param(1, 0.0, 3.0, 3.0, id="never sooner than asked"),
        pytest.param(1, 1.0, 3.0, 4.5, id="spread behind what was asked"),
    ],
)
def test_the_wait_after_a_failure(attempt: int, chance: float, least: float, expected: float) -> None:
    assert BACKOFF.delay(attempt, chance, least) == pytest.approx(expected)
