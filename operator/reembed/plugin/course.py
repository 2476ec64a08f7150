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
        yield _row(mark, visit, spell(after.entered_at - visit.entered_at), _detail(visit, overview), overview)
    if visits:
        last = visits[-1]
        lasted = spell(now - last.entered_at)
        mark = mark_of(overview) if overview.ended or mark_of(overview) is not DONE else BUSY
        detail = _hold(overview, now) if overview.in_canary else _detail(last, overview)
        yield _row(mark, last, f"{lasted} ago" if overview.ended else lasted, detail, overview)


def _row(mark: Mark, visit: Visit, lasted: str, detail: str, overview: Overview) -> Row:
    label = Text.assemble((mark.sign, mark.style), " ", _label(visit.state, visit.step, overview))
    return [label, lasted, detail]


def _label(state: str, step: int | None, overview: Overview) -> str:
    if step is None:
        return state
    steps = overview.wanted.steps
    weight = f" ({steps[step].weight} %)" if 0 <= step < len(steps) else ""
    return f"{state} {step + 1}/{len(steps)}{weight}"


def _detail(visit: Visit, overview: Overview) -> str:
    return overview.evaluation.verdict if visit.state == "Evaluating" and overview.evaluation is not None else ""


def _hold(overview: Overview, now: datetime) -> str:
    """Return how long the present step was held of how long it is to be; it counts once every gateway follows."""
    if not 0 <= overview.step < len(overview.wanted.steps):
        return ""
    step, since = overview.wanted.steps[overview.step], overview.acknowledged_at
    held = f"held {spell(min(now - since, step.hold))} of" if since is not None else "to be held for"
    return joined(f"{held} {spell(step.hold)}", "then needs approval" if step.approval else "")


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
