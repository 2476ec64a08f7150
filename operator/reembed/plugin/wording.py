"""How durations, numbers, states and columns are written for people; every view uses these and no other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from reembed.core import reasons
from reembed.plugin.overview import BAD, SUCCEEDED, Overview

GOOD_STYLE, BAD_STYLE, WAITING_STYLE, BUSY_STYLE, QUIET_STYLE = "green", "red", "yellow", "cyan", "dim"

Row = list[str | Text]

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


class Mark(NamedTuple):
    """A sign of one column's width, and its colour."""

    sign: str
    style: str


DONE = Mark("✔", GOOD_STYLE)
BUSY = Mark("▶", BUSY_STYLE)
WAITING = Mark("‖", WAITING_STYLE)
BACK = Mark("↩", BAD_STYLE)
BROKEN = Mark("✖", BAD_STYLE)
ALARM = Mark("!", BAD_STYLE)
AHEAD = Mark("·", QUIET_STYLE)


def marked(mark: Mark, text: str | Text) -> Text:
    """Return a text behind its sign."""
    return Text.assemble((mark.sign, mark.style), " ", text)


def mark_of(overview: Overview) -> Mark:
    """Return the sign of a migration as a whole."""
    if overview.state == SUCCEEDED:
        return DONE
    if overview.state in BAD:
        return BROKEN if overview.ended else BACK
    if overview.deleting:
        return BACK
    if overview.reason in reasons.FOR_PEOPLE or overview.wanted.paused or overview.paused:
        return WAITING
    if overview.reason in reasons.ALARMS or overview.emergency is not None:
        return ALARM
    return BUSY if overview.state else AHEAD


def spell(duration: timedelta) -> str:
    """Return a duration in its two largest units, as `4m10s`; clocks that differ make none negative."""
    left = max(int(duration.total_seconds()), 0)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2]) or "0s"


def count(number: int, what: str) -> str:
    """Return `1 document` or `8,674 documents`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def weight_of(overview: Overview) -> str:
    """Return the candidate's share of the queries; where gateways do not follow yet, both numbers."""
    told, actual = overview.weight, overview.weight_actual
    if told is None:
        return ""
    return f"{told} %" if actual is None or actual == told else f"{told} % ({actual} % actual)"


def joined(*parts: str) -> str:
    """Return the parts that say something, with commas."""
    return ", ".join(part for part in parts if part)


def columns(rows: Sequence[Row], gap: int = 2) -> list[Text]:
    """Return rows of cells with each column as wide as its widest cell; the last column is left as it is."""
    if not rows:
        return []
    texts = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [max(row[place].cell_len for row in texts if place < len(row)) for place in range(max(map(len, texts)))]
    return [_line(row, widths, gap) for row in texts]


def hanging(rows: Sequence[Row]) -> list[RenderableType]:
    """Return the same for rows of equal length, but the last cell, a text of any length, is wrapped below itself."""
    lines = columns([row[:-1] for row in rows])
    left = max((line.cell_len for line in lines), default=0)
    return [_hung(line, row[-1], left) for line, row in zip(lines, rows, strict=True)]


def _hung(line: Text, last: str | Text, left: int) -> RenderableType:
    if not last:
        return line
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, min_width=left)
    grid.add_column(overflow="fold")
    grid.add_row(line, Text(last) if isinstance(last, str) else last)
    return grid


def _line(row: Sequence[Text], widths: Sequence[int], gap: int) -> Text:
    line = Text()
    for place, cell in enumerate(row):
        line.append_text(cell)
        if place + 1 < len(row) and widths[place]:
            line.append(" " * (widths[place] - cell.cell_len + gap))
    line.rstrip()
    return line
