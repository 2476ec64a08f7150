"""What is left of an embedder's limits in emergency protection, and how long that holds."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.emergency_limits import Lease, Limits, conservative, renewed

_NORMAL = Limits(
    requests=None,
    body_bytes=16 << 20,
    request_tokens=65_536,
    queue_tokens=65_536,
    background_tokens=32_768,
    contexts=9,
    pack_tokens=256,
    pack_texts=64,
)
_sizes = st.integers(1, 1 << 24)
_limits = st.builds(
    Limits, st.none() | st.integers(1, 1000), _sizes, _sizes, _sizes, _sizes, st.integers(1, 300), _sizes, _sizes
)


def test_memory_is_halved_and_work_is_done_text_by_text() -> None:
    assert conservative(_NORMAL, 8) == Limits(
        requests=10,
        body_bytes=8 << 20,
        request_tokens=32_768,
        queue_tokens=32_768,
        background_tokens=0,
        contexts=4,
        pack_tokens=128,
        pack_texts=1,
    )


@pytest.mark.parametrize(("cpus", "contexts"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (10, 6), (64, 38)])
def test_at_most_sixty_percent_of_the_cpus_compute_but_always_one(cpus: int, contexts: int) -> None:
    assert conservative(replace(_NORMAL, contexts=cpus + 1), cpus).contexts == contexts


def test_a_lower_limit_of_requests_stays() -> None:
    assert conservative(replace(_NORMAL, requests=4), 8).requests == 4


@given(_limits, st.integers(1, 300))
def test_no_limit_is_raised_and_live_work_stays_possible(normal: Limits, cpus: int) -> None:
    found = conservative(normal, cpus)
    pairs = [(getattr(found, field.name), getattr(normal, field.name)) for field in fields(Limits)]
    assert all(before is None or after <= before for after, before in pairs)
    assert all(after >= 1 for after, _ in pairs if after is not found.background_tokens)


@pytest.mark.parametrize(
    ("lease", "seconds", "found"),
    [
        pytest.param(None, 30, Lease(100, 130), id="begun"),
        pytest.param(Lease(90, 120), 30, Lease(90, 130), id="renewed"),
        pytest.param(Lease(90, 120), 5, Lease(90, 105), id="shortened: the last word counts"),
        pytest.param(Lease(50, 100), 30, Lease(100, 130), id="begun anew after its end"),
        pytest.param(Lease(90, 120), 0, None, id="lifted"),
        pytest.param(None, 0, None, id="lifted where there is none"),
    ],
)
def test_a_lease_lasts_from_the_last_word_on(lease: Lease | None, seconds: float, found: Lease | None) -> None:
    assert renewed(lease, seconds, now=100) == found


def test_a_lease_is_over_at_its_end() -> None:
    lease = Lease(0, 30)
    assert [lease.left(now) for now in (0, 29.5, 30, 31)] == [30, 0.5, 0, 0]
