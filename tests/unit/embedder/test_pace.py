"""How fast a file is written while memory is short."""

from __future__ import annotations

import pytest

from reembed.embedder.pace import keeps_pages, rate

_MIB = 1 << 20


@pytest.mark.parametrize(
    ("used", "expected"),
    [(0, None), (699, None), (700, 256 * _MIB), (825, 32 * _MIB), (950, 0.0), (2000, 0.0)],
)
def test_the_rate_falls_with_memory_until_nothing_is_written(used: int, expected: float | None) -> None:
    assert rate(used, 1000) == (pytest.approx(expected) if expected else expected)


def test_a_container_without_a_known_limit_writes_nothing() -> None:
    assert rate(1, 0) == 0.0


@pytest.mark.parametrize(("size", "keeps"), [(500, True), (599, True), (600, False), (5000, False)])
def test_pages_stay_where_the_whole_file_fits_beside_what_is_used(size: int, *, keeps: bool) -> None:
    assert keeps_pages(size, used=100, limit=1000) is keeps
