"""`kubectl reembed list`: one line for each migration, as kubectl writes tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from reembed.plugin.overview import Overview
from reembed.plugin.wording import Row, columns, mark_of, rate, spell

_HEADERS = ("NAME", "INDEX", "FROM", "TO", "STATE", "STEP", "WEIGHT", "EMBEDDED", "DOCS/S", "ETA", "AGE", "REASON")


def table(overviews: Sequence[Overview], now: datetime, *, all_namespaces: bool = False) -> list[Text]:
    """Return the header and a line for each migration, by namespace and name."""
    ordered = sorted(overviews, key=lambda one: (one.namespace, one.name))
    headers = ("NAMESPACE", *_HEADERS) if all_namespaces else _HEADERS
    rows = [_row(one, now, all_namespaces=all_namespaces) for one in ordered]
    header, *lines = columns([list(headers), *rows], gap=3)
    header.stylize("bold")
    return [header, *lines]


def _row(overview: Overview, now: datetime, *, all_namespaces: bool) -> Row:
    cells = [
        overview.wanted.index,
        overview.serving or overview.wanted.from_pool,
        overview.candidate or overview.wanted.pool,
        Text(overview.state or "Pending", mark_of(overview).style),
        overview.step_text,
        _weight(overview),
        f"{overview.embedded}%" if overview.embedded is not None else "",
        *_speed(overview),
        spell(now - overview.created_at),
        overview.reason,
    ]
    place = [overview.namespace] if all_namespaces else []
    return [*place, overview.name, *(cell or "-" for cell in cells)]


def _weight(overview: Overview) -> str:
    """Return the candidate's share; while gateways do not follow, what is so of what is set, as in kubectl's READY."""
    told, actual = overview.weight, overview.weight_actual
    if told is None:
        return ""
    return f"{told}%" if actual is None or actual == told else f"{actual}%/{told}%"


def _speed(overview: Overview) -> tuple[str, str]:
    """Return documents a second and time left; both mean something only while documents are embedded."""
    backfill = overview.backfill
    if backfill is None or overview.state != "Backfilling":
        return "", ""
    return rate(backfill.documents_per_second), spell(backfill.eta) if backfill.eta is not None else ""
