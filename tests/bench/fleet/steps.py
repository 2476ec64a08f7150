"""Splits the time of decisions by the operator's own notes (`fleet.traced`)."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path

from tests.bench.fleet import shape
from tests.bench.fleet.changes import Change

_STEPS = ("watch", "queue", "observe", "decide", "write", "back")


def split(trace: Path, made: list[Change]) -> dict[str, list[float]]:
    """Return p50 and p99 of each step in milliseconds; steps of one decision add up to its whole time."""
    passes: dict[str, list[dict[str, float]]] = {}
    for line in trace.read_text().splitlines():
        one = json.loads(line)
        passes.setdefault(one["name"], []).append(one)
    found: dict[str, list[float]] = {step: [] for step in _STEPS}
    for change in made:
        times = _times(change, passes.get(shape.move(change.member), []))
        for step, (before, after) in zip(_STEPS, pairwise(times), strict=bool(times)):
            found[step].append((after - before) * 1000)
    return {step: _told(values) for step, values in found.items() if values}


def _times(change: Change, passes: list[dict[str, float]]) -> list[float]:
    if change.seen is None:
        return []
    own = [one for one in passes if change.sent < one["written"] and one["began"] < change.seen]
    if not own:
        return []
    one = own[0]
    woken = one["woken"] if one["woken"] is not None else one["began"]
    return [change.answered, woken, one["began"], one["observed"], one["decided"], one["written"], change.seen]


def _told(values: list[float]) -> list[float]:
    return [round(statistics.median(values), 1), round(sorted(values)[len(values) * 99 // 100], 1)]
