"""`kubectl reembed get`: the whole of one migration on a screen.

Above what it is and why, then a tree of what it is made of: the index with both sides, rollback triggers, gates, the
states with their times, hooks and commands; below which command helps. A part that the operator does not tell is left
out. Pure: an overview and the time in, a rich renderable out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from reembed.plugin.advice import advice
from reembed.plugin.course import course
from reembed.plugin.overview import Gate, Hook, Overview, Pods, Trigger
from reembed.plugin.wording import (
    ALARM,
    BAD_STYLE,
    BROKEN,
    BUSY,
    DONE,
    GOOD_STYLE,
    QUIET_STYLE,
    WAITING,
    WAITING_STYLE,
    Mark,
    Row,
    columns,
    count,
    hanging,
    joined,
    mark_of,
    rate,
    spell,
)

# Of the commands that were given; all are in `-o json`.
_LATEST = 3
_PROMOTED = frozenset({"Promoting", "Succeeded"})
_BAR = 10


def tree(overview: Overview, now: datetime) -> RenderableType:
    """Return the view of one migration."""
    mark = mark_of(overview)
    root = Tree(_marked(mark, _move(overview)), guide_style=QUIET_STYLE)
    _branch(root, _index(overview), _sides(overview))
    # What is in danger comes first: a low terminal cuts the end off while it is watched.
    _branch(root, *_triggers(overview))
    _branch(root, Text("gates"), hanging([_gate(one) for one in overview.gates]))
    attempt = f"attempt {overview.attempt}" if overview.attempt > 1 else ""
    _branch(root, Text(joined("states", attempt)), course(overview, now))
    _branch(root, Text("hooks"), _hooks(overview, now))
    _branch(root, Text("commands"), _answers(overview, now))
    parts: list[RenderableType] = [_head(overview, now), Text(), root]
    helps = _advice(overview)
    return Group(*parts, *([Text(), *helps] if helps else []))


def _move(overview: Overview) -> Text:
    """Return from where to where."""
    sides = (overview.serving or overview.wanted.from_pool, overview.candidate or overview.wanted.pool)
    return Text(" → ").join(Text(pool, "bold") for pool in sides if pool)


def _branch(root: Tree, title: Text | None, lines: Sequence[RenderableType]) -> None:
    if title is None or not lines:
        return
    branch = root.add(title)
    for line in lines:
        branch.add(line)


def _head(overview: Overview, now: datetime) -> Table:
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


def _index(overview: Overview) -> Text:
    index = overview.surroundings.index
    title = f"index {overview.wanted.index}"
    if index is None:
        return Text(title)
    parts = [Text(title)]
    if index.documents is not None:
        parts.append(Text(count(index.documents, "document")))
    if index.gateway is not None:
        parts.append(_pods(index.gateway, "gateway pods"))
    return Text(", ").join(parts)


def _sides(overview: Overview) -> list[Text]:
    """Return a line for each pool; who is promoted is no candidate any more."""
    roles = ("before", "serving") if overview.state in _PROMOTED else ("serving", "candidate")
    pools = (overview.serving or overview.wanted.from_pool, overview.candidate or overview.wanted.pool)
    found = overview.surroundings.pools
    rows: list[Row] = [
        [role, pool, _pods(found[pool], "pods") if pool in found else Text("pods unknown", QUIET_STYLE), share]
        for role, pool, share in zip(roles, pools, _shares(overview), strict=True)
        if pool is not None
    ]
    hidden = overview.surroundings.hidden
    return [*columns(rows), *([Text(hidden, QUIET_STYLE)] if hidden else [])]


def _shares(overview: Overview) -> tuple[str, str]:
    """Return who answers how much, for serving and candidate; nothing where it is not told or nobody serves yet."""
    if overview.state in _PROMOTED:
        return "", "100 % of queries"
    actual = overview.weight_actual if overview.weight_actual is not None else overview.weight
    if actual is None or overview.serving is None:
        return "", ""
    return f"{100 - actual} % of queries", f"{actual} % of queries"


def _pods(pods: Pods, what: str) -> Text:
    if not pods.ready and not pods.desired:
        return Text(f"no {what}", QUIET_STYLE)
    short = pods.ready < pods.desired
    return Text(f"{pods.ready}/{pods.desired} {what} ready", WAITING_STYLE if short else "")


_STANDINGS = {"Holds": DONE, "Undecided": WAITING, "Fails": BROKEN}
_RUNS = {"Succeeded": DONE, "Running": BUSY, "Failed": BROKEN}


def _gate(gate: Gate) -> Row:
    mark = _STANDINGS.get(gate.standing, ALARM)
    return [_marked(mark, gate.name), gate.standing, gate.message]


def _hooks(overview: Overview, now: datetime) -> list[RenderableType]:
    """Return the runs of the present attempt; those of earlier ones are in `-o json`."""
    of_attempt = [one for one in overview.hooks if one.at.startswith(f"{overview.attempt}/")]
    return hanging([_hook(one, now) for one in of_attempt])


def _hook(hook: Hook, now: datetime) -> Row:
    mark = _RUNS.get(hook.state, ALARM)
    _, moment, *step = hook.at.split("/")
    when = f"{moment}, step {int(step[0]) + 1}" if step and step[0].isdigit() else moment
    started = f"{spell(now - hook.started_at)} ago" if hook.started_at is not None else ""
    job = f"job {hook.job}" if hook.job else ""
    return [_marked(mark, hook.name), when, hook.state, started, joined(job, hook.message)]


def _marked(mark: Mark, text: str | Text) -> Text:
    return Text.assemble((mark.sign, mark.style), " ", text)


def _triggers(overview: Overview) -> tuple[Text | None, list[Text]]:
    if overview.triggers is None or overview.ended:
        return None, []
    title = Text("rollback triggers")
    if not overview.triggers:
        return title, [_marked(DONE, "none exceeds its limit")]
    lines = columns([_trigger(one) for one in overview.triggers])
    for line in lines:
        # Where the terminal ends, a part of the bar is missed least.
        line.no_wrap, line.overflow = True, "crop"
    return title, lines


def _trigger(trigger: Trigger) -> Row:
    style = QUIET_STYLE if trigger.dry_run else BAD_STYLE if _part(trigger) >= 0.5 else WAITING_STYLE
    held = f"{spell(trigger.held)} of {spell(trigger.hold)}" if trigger.hold is not None else spell(trigger.held)
    name = f"{trigger.name} (dry run)" if trigger.dry_run else trigger.name
    return [_marked(Mark(ALARM.sign, style), name), exceeded(trigger), Text(held, style), _bar(trigger, style)]


def exceeded(trigger: Trigger) -> str:
    """Return the measurement beside its limit; what is only true or false needs no numbers."""
    if trigger.threshold in {"yes", "no"}:
        return ""
    if not trigger.value:
        return f"not measured, limit {trigger.threshold}" if trigger.threshold else ""
    sign = "<" if trigger.below else ">"
    return f"{trigger.value} {sign} {trigger.threshold}" if trigger.threshold else trigger.value


def _part(trigger: Trigger) -> float:
    if trigger.hold is None:
        return 0.0
    return min(trigger.held / trigger.hold, 1.0) if trigger.hold else 1.0


def _bar(trigger: Trigger, style: str) -> Text:
    if trigger.hold is None:
        return Text()
    full = int(_part(trigger) * _BAR)
    return Text("■" * full, style).append("□" * (_BAR - full), QUIET_STYLE)


def _answers(overview: Overview, now: datetime) -> list[RenderableType]:
    latest = overview.answers[-_LATEST:]
    rows: list[Row] = [
        [
            _marked(DONE if one.accepted else BROKEN, one.verb),
            f"{spell(now - one.time)} ago",
            ": ".join(filter(None, ("accepted" if one.accepted else "refused", one.message))),
        ]
        for one in latest
    ]
    rows += [[_marked(WAITING, verb), "", "the operator has not answered yet"] for verb in overview.unanswered]
    return hanging(rows)


def _advice(overview: Overview) -> list[RenderableType]:
    found = advice(overview)
    if not found:
        return []
    needed = found[0].needed
    title = Text("Waits for you:" if needed else "You can:", f"bold {WAITING_STYLE}" if needed else "bold")
    rows: list[Row] = [[Text(f"  {one.command}", GOOD_STYLE if one.needed else ""), one.effect] for one in found]
    return [title, *hanging(rows)]
