"""`kubectl reembed get`: the whole of one migration on a screen.

Above what it is and why, then a tree of what it is made of: the index with both sides, rollback triggers, gates, the
states with their times, hooks and commands; below which command helps. A part that the operator does not tell is left
out. Pure: an overview and the time in, a rich renderable out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from reembed.plugin.advice import advice
from reembed.plugin.checks import evaluation, gates, hooks, proposal, triggers
from reembed.plugin.course import course
from reembed.plugin.head import head
from reembed.plugin.overview import Overview, Pods
from reembed.plugin.wording import (
    BROKEN,
    DONE,
    GOOD_STYLE,
    QUIET_STYLE,
    WAITING,
    WAITING_STYLE,
    Row,
    columns,
    count,
    hanging,
    joined,
    mark_of,
    marked,
    spell,
)

# Of the commands that were given; all are in `-o json`.
_LATEST = 3
_PROMOTED = frozenset({"Promoting", "Succeeded"})


def tree(overview: Overview, now: datetime) -> RenderableType:
    """Return the view of one migration."""
    mark = mark_of(overview)
    root = Tree(marked(mark, _move(overview)), guide_style=QUIET_STYLE)
    _branch(root, _index(overview), _sides(overview))
    # What is in danger comes first: a low terminal cuts the end off while it is watched.
    _branch(root, *triggers(overview))
    _branch(root, *proposal(overview, now))
    _branch(root, Text("gates"), gates(overview))
    _branch(root, Text("evaluation"), evaluation(overview))
    attempt = f"attempt {overview.attempt}" if overview.attempt > 1 else ""
    _branch(root, Text(joined("states", attempt)), course(overview, now))
    _branch(root, Text("hooks"), hooks(overview, now))
    _branch(root, Text("commands"), _answers(overview, now))
    parts: list[RenderableType] = [head(overview, now), Text(), root]
    helps = _advice(overview)
    return Group(*parts, *([Text(), *helps] if helps else []))


def _move(overview: Overview) -> Text:
    """Return from where to where."""
    sides = (overview.serving or overview.wanted.from_pool, overview.candidate or overview.wanted.pool)
    move = Text(" → ").join(Text(pool, "bold") for pool in sides if pool)
    return move.append(f", documents {overview.wanted.cut}", QUIET_STYLE) if overview.wanted.cut else move


def _branch(root: Tree, title: Text | None, lines: Sequence[RenderableType]) -> None:
    if title is None or not lines:
        return
    branch = root.add(title)
    for line in lines:
        branch.add(line)


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


def _answers(overview: Overview, now: datetime) -> list[RenderableType]:
    latest = overview.answers[-_LATEST:]
    rows: list[Row] = [
        [
            marked(DONE if one.accepted else BROKEN, one.verb),
            f"{spell(now - one.time)} ago",
            ": ".join(filter(None, ("accepted" if one.accepted else "refused", one.message))),
        ]
        for one in latest
    ]
    rows += [[marked(WAITING, verb), "", "the operator has not answered yet"] for verb in overview.unanswered]
    return hanging(rows)


def _advice(overview: Overview) -> list[RenderableType]:
    found = advice(overview)
    if not found:
        return []
    needed = found[0].needed
    title = Text("Waits for you:" if needed else "You can:", f"bold {WAITING_STYLE}" if needed else "bold")
    rows: list[Row] = [[Text(f"  {one.command}", GOOD_STYLE if one.needed else ""), one.effect] for one in found]
    return [title, *hanging(rows)]
