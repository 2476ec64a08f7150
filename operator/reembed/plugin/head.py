"""What `get` shows first: which migration, where it is and why, and its figures."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table
from rich.text import Text

from reembed.plugin.overview import Overview
from reembed.plugin.wording import BAD_STYLE, joined, mark_of, rate, spell


def head(overview: Overview, now: datetime) -> Table:
    """Return a line for each thing that is told."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    rows: list[tuple[str, str | Text]] = [
        ("Name", overview.name),
        ("Namespace", overview.namespace),
        ("State", _state(overview, now)),
        ("Why", _why(overview)),
        ("Waits for", overview.waiting_for),
        ("Protection", _protection(overview, now)),
        ("Way back", Text(overview.no_way_back, BAD_STYLE) if overview.no_way_back else ""),
        ("Documents", _documents(overview)),
        ("Evaluation", _evaluation(overview)),
        ("Queries", _queries(overview)),
    ]
    for name, told in rows:
        if told:
            grid.add_row(f"{name}:", told if isinstance(told, Text) else Text(told))
    return grid


def _state(overview: Overview, now: datetime) -> Text:
    mark = mark_of(overview)
    step = f"step {overview.step_text}" if overview.step_text else ""
    entered = overview.entered_at
    lasted = (spell(now - entered) + " ago" if overview.ended else f"for {spell(now - entered)}") if entered else ""
    rest = joined(overview.state or "Pending", step, lasted, "being deleted" if overview.deleting else "")
    return Text(f"{mark.sign} {rest}", mark.style)


def _why(overview: Overview) -> Text:
    if not overview.state:
        return Text("no operator has looked at it yet; `kubectl get pods -A -l app.kubernetes.io/component=operator`")
    return Text.assemble((overview.reason, "bold"), f": {overview.message}" if overview.message else "")


def _protection(overview: Overview, now: datetime) -> Text | str:
    emergency = overview.emergency
    if emergency is None:
        return ""
    clear = f"; clear for {spell(now - emergency.clear_since)} of 1m" if emergency.clear_since is not None else ""
    since = f"for {spell(now - emergency.since)}"
    return Text(f"{emergency.message or emergency.reason} ({since}{clear})", BAD_STYLE)


def _documents(overview: Overview) -> str:
    backfill = overview.backfill
    if backfill is None:
        return ""
    share = f" ({overview.embedded} %)" if overview.embedded is not None else ""
    rejected = f", {backfill.rejected:,} rejected" if backfill.rejected else ""
    parts = [f"{backfill.documents:,} of {backfill.total:,} embedded{share}{rejected}"]
    if overview.state == "Backfilling":
        parts.append(f"{rate(backfill.documents_per_second)} documents/s")
        parts.append(f"{spell(backfill.eta)} left" if backfill.eta is not None else "")
        parts.append(f"slowest stage: {backfill.bottleneck}" if backfill.bottleneck else "")
    return joined(*parts)


def _evaluation(overview: Overview) -> str:
    found = overview.evaluation
    if found is None:
        return ""
    return f"{found.verdict}: {found.message}" if found.message else found.verdict


def _queries(overview: Overview) -> str:
    """Return the candidate's share while it has or is to have one."""
    told, actual = overview.weight, overview.weight_actual
    if told is None or overview.ended or not (told or actual or overview.in_canary):
        return ""
    share = f"{told} % to {overview.candidate or overview.wanted.pool}"
    if actual is None:
        return f"{share} set; no gateway says what it serves"
    return (
        f"{share}, set and actual"
        if actual == told
        else f"{share} set, {actual} % actual: not every gateway follows yet"
    )
