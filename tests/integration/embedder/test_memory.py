"""Memory of the whole process tree that can't be reclaimed, after long texts and full pages went through it."""

from __future__ import annotations

from tests.bench.embedder.machine import memory
from tests.fixtures.embedders import Embedder

_GOAL = 300 << 20
_PAGE = ["some words of a document that is being embedded " * 40] * 24


def test_anonymous_memory_stays_below_the_goal_and_is_what_metrics_say(
    running: tuple[str, Embedder],
) -> None:
    _, embedder = running
    assert embedder.ask(_PAGE).status_code == 200
    used = memory([embedder.process.pid, embedder.child()])[0]
    assert used < _GOAL
    assert embedder.metric("reembed_memory_used_bytes") >= used * 0.9
    assert embedder.metric("reembed_memory_mapped_bytes") > 30 << 20
