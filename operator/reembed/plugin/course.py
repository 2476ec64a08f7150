"""The states of an attempt as lines: which are done and how long they took, which runs, and which are ahead."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from rich.console import RenderableType
from rich.text import Text

from reembed.core.transitions import TRANSITIONS, Event, State
from reembed.plugin.overview import BAD, ENDED, SUCCEEDED, Overview, Visit
from reembed.plugin.wording import AHEAD, BROKEN, BUSY, DONE, QUIET_STYLE, Mark, Row, hanging, joined, mark_of, spell


def course(overview: Overview, now: datetime) -> list[RenderableType]:
    """Return a line for each state of the present attempt, and for those that follow if all goes well."""
    return hanging([*_visited(overview, now), *_ahead(overview)])


def _visited(overview: Overview, now: datetime) -> Iterator[Row]:
    visits = overview.attempt_timeline
    for visit, after in pairwise(visits):
        # What the attempt was taken back from is where it went wrong.
        mark = BROKEN if after.state in BAD and visit.state not in BAD else DONE
        yield _row(mark, visit, overview, spell(after.entered_at - visit.entered_at))
    if visits:
        last = visits[-1]
        lasted = spell(now - last.entered_at)
        mark = mark_of(overview) if overview.ended or mark_of(overview) is not DONE else BUSY
        yield _row(mark, last, overview, f"{lasted} ago" if overview.ended else lasted)


def _row(mark: Mark, visit: Visit, overview: Overview, lasted: str) -> Row:
    label = Text.assemble((mark.sign, mark.style), " ", _label(visit.state, visit.step, overview))
    return [label, lasted, _detail(visit, overview)]


def _label(state: str, step: int | None, overview: Overview) -> str:
    if step is None:
        return state
    steps = overview.wanted.steps
    weight = f" ({steps[step].weight} %)" if 0 <= step < len(steps) else ""
    return f"{state} {step + 1}/{len(steps)}{weight}"


def _detail(visit: Visit, overview: Overview) -> str:
    if visit.state == "Evaluating" and overview.evaluation is not None:
        return overview.evaluation.verdict
    present = visit is overview.timeline[-1]
    if visit.step is not None and 0 <= visit.step < len(overview.wanted.steps) and present:
        step = overview.wanted.steps[visit.step]
        return joined(f"to be held for {spell(step.hold)}", "then approved" if step.approval else "")
    return ""


def _ahead(overview: Overview) -> Iterator[Row]:
    if overview.state in ENDED | BAD or overview.deleting:
        return
    for state, step in _path(overview):
        label = _label(state, step, overview)
        yield [Text(f"{AHEAD.sign} {label}", QUIET_STYLE), "", ""]


def _path(overview: Overview) -> Iterator[tuple[str, int | None]]:
    """Yield what follows the present state and step if all goes well."""
    names = [state.value for state in State]
    if overview.state and overview.state not in names:
        return
    here = State(overview.state) if overview.state else None
    if here is None:
        yield State.PREFLIGHT.value, None
        here = State.PREFLIGHT
    if here is State.CANARY:
        yield from ((here.value, step) for step in range(overview.step + 1, len(overview.wanted.steps)))
    while (following := _next(here, overview)) is not None:
        here = following
        if here is State.CANARY:
            yield from ((here.value, step) for step in range(len(overview.wanted.steps)))
        else:
            yield here.value, None


def _next(state: State, overview: Overview) -> State | None:
    moves = TRANSITIONS[state]
    first_fill = overview.candidate is not None and overview.serving is None
    if first_fill and Event.NOTHING_SERVES in moves:
        return moves[Event.NOTHING_SERVES]
    if state.value == SUCCEEDED:
        return None
    return moves.get(Event.PASSED) or moves.get(Event.CONFIRMED)
