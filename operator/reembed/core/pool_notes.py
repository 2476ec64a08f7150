"""What of a pool's pass a person wants to be told, as Kubernetes events, and when a status says something new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.core.model import PoolStatus, Problem, VariantStatus
from reembed.core.notes import Note
from reembed.core.scaling import pods

# A reason that comes and goes with every measurement is told this often.
_SELDOM = timedelta(seconds=30)


def told(before: PoolStatus, after: PoolStatus, now: datetime) -> PoolStatus:
    """Return `after` with what was said before, unless it is news: numbers in words move with every measurement."""
    same = _pods(before) == _pods(after) and before.recycling == after.recycling
    if same and before.at is not None:
        lately = timedelta(0) <= now - before.at < _SELDOM
        if lately or before.reason == after.reason:
            return replace(after, reason=before.reason, message=before.message, at=before.at)
    return replace(after, at=now)


def notes(before: PoolStatus, after: PoolStatus, problems: dict[str, Problem], why: str = "") -> tuple[Note, ...]:
    """Return the events of a pass; `problems` say by variant why it has no room, `why` why a pod is replaced."""
    found = (*_scaled(before, after), *_problems(before, after, problems), *_recycled(before, after, why))
    return tuple(
        _together([one for one in found if one.reason == reason])
        for reason in dict.fromkeys(one.reason for one in found)
    )


def _together(notes: list[Note]) -> Note:
    """Return one event for all of a reason: their names would be the same."""
    return replace(notes[0], message="; ".join(one.message for one in notes))


def _pods(status: PoolStatus) -> dict[str, int]:
    return {one.name: one.desired for one in status.variants}


def _scaled(before: PoolStatus, after: PoolStatus) -> Iterator[Note]:
    known, blocked = _pods(before), False
    for one in after.variants:
        was = known.get(one.name)
        if was is not None and was != one.desired:
            yield _moved(one, was, after.message, overflow=blocked)
        blocked |= bool(one.reason)


def _moved(variant: VariantStatus, was: int, why: str, *, overflow: bool) -> Note:
    text = f"variant {variant.name!r} goes from {was} to {pods(variant.desired)}: {why}"
    if variant.desired < was:
        return Note("ScaledDown", text)
    if overflow:
        return Note("Overflow", f"{text}; variants before it have no room")
    return Note("ScaledUp", text)


def _problems(before: PoolStatus, after: PoolStatus, problems: dict[str, Problem]) -> Iterator[Note]:
    known = {one.name: one.reason for one in before.variants}
    for one in after.variants:
        if one.reason and known.get(one.name) != one.reason and one.name in problems:
            yield Note(one.reason, f"variant {one.name!r}: {problems[one.name].message}", warning=True)


def is_recycled(before: PoolStatus, after: PoolStatus) -> bool:
    """Return whether a pod that was being replaced is gone."""
    return before.recycling is not None and after.recycling != before.recycling


def _recycled(before: PoolStatus, after: PoolStatus, why: str) -> Iterator[Note]:
    if after.recycling is not None and after.recycling != before.recycling:
        yield Note("Recycling", f"{why}; another pod is made, and then it goes", warning=True)
    if is_recycled(before, after):
        yield Note("Recycled", f"pod {before.recycling} was replaced after another was made")
