"""Requests shrink under pressure and with long texts."""

import pytest

from reembed.core.batching import batch_pages, fitting, pages


@pytest.mark.parametrize(
    ("memory", "cpu", "expected"),
    [
        pytest.param(0.81, 0.1, 1, id="memory above 80 %"),
        pytest.param(0.81, 0.95, 1, id="memory comes before CPU"),
        pytest.param(0.2, 0.91, 2, id="CPU above 90 %"),
        pytest.param(0.49, 0.59, 8, id="both low"),
        pytest.param(0.5, 0.1, 4, id="memory not low"),
        pytest.param(0.1, 0.6, 4, id="CPU not low"),
        pytest.param(0.8, 0.9, 4, id="on the limits"),
        pytest.param(None, None, 4, id="nothing known"),
        pytest.param(None, 0.1, 4, id="memory not known"),
        pytest.param(None, 0.95, 2, id="CPU alone is enough to shrink"),
    ],
)
def test_pressure_decides_the_batch(memory: float | None, cpu: float | None, expected: int) -> None:
    assert batch_pages(memory, cpu) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [pytest.param(0, 1, id="empty"), pytest.param(2000, 1, id="one page"), pytest.param(2001, 2, id="a little more")],
)
def test_a_text_counts_by_its_pages(length: int, expected: int) -> None:
    assert pages("x" * length) == expected


def test_a_long_text_leaves_less_room_for_others() -> None:
    assert fitting(["short", "x" * 6000, "short"], 4) == 2


def test_a_text_longer_than_a_batch_goes_alone() -> None:
    assert fitting(["x" * 50_000, "short"], 8) == 1
