"""What holds a migration up or takes it back, as branches of the tree: triggers, gates, evaluation, hooks."""

from __future__ import annotations

from datetime import datetime

from rich.console import RenderableType
from rich.text import Text

from reembed.plugin.overview import Gate, Hook, Metric, Overview, Slice, Trigger
from reembed.plugin.wording import (
    AHEAD,
    ALARM,
    BAD_STYLE,
    BROKEN,
    BUSY,
    DONE,
    QUIET_STYLE,
    WAITING,
    WAITING_STYLE,
    Mark,
    Row,
    columns,
    count,
    hanging,
    joined,
    marked,
    spell,
)

_BAR = 10


def triggers(overview: Overview) -> tuple[Text | None, list[Text]]:
    if overview.triggers is None or overview.ended:
        return None, []
    title = Text("rollback triggers")
    if not overview.triggers:
        return title, [marked(DONE, "none exceeds its limit")]
    lines = columns([_trigger(one) for one in overview.triggers])
    for line in lines:
        # Where the terminal ends, a part of the bar is missed least.
        line.no_wrap, line.overflow = True, "crop"
    return title, lines


def _trigger(trigger: Trigger) -> Row:
    style = QUIET_STYLE if trigger.dry_run else BAD_STYLE if _part(trigger) >= 0.5 else WAITING_STYLE
    held = f"{spell(trigger.held)} of {spell(trigger.hold)}" if trigger.hold is not None else spell(trigger.held)
    name = f"{trigger.name} (dry run)" if trigger.dry_run else trigger.name
    return [marked(Mark(ALARM.sign, style), name), exceeded(trigger), Text(held, style), _bar(trigger, style)]


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


def proposal(overview: Overview, now: datetime) -> tuple[Text | None, list[RenderableType]]:
    """Return what was last put to the panel, with who said what."""
    found = overview.proposal
    if found is None or overview.ended:
        return None, []
    epoch = f"epoch {found.epoch}" if found.epoch is not None else ""
    left = remaining(found.expires, now) if found.standing in {"", "Open"} else ""
    title = joined(f"panel: {found.standing or 'Open'}", found.kind, epoch, left)
    rows: list[Row] = [
        [marked(mark if agents else AHEAD, f"{word}: {len(agents)}"), ", ".join(agents)]
        for mark, word, agents in (
            (DONE, "approved", found.approved),
            (BROKEN, "refused", found.refused),
            (WAITING, "silent", found.missing),
        )
        if agents or mark is DONE
    ]
    return Text(title).append(f"  {found.decision[:13]}", QUIET_STYLE), [
        *hanging(rows),
        *(Text(one) for one in found.reasons),
    ]


def remaining(expires: datetime | None, now: datetime) -> str:
    if expires is None:
        return ""
    return f"{spell(expires - now)} left" if expires > now else f"expired {spell(now - expires)} ago"


_STANDINGS = {"Holds": DONE, "Undecided": WAITING, "Fails": BROKEN}
_RUNS = {"Succeeded": DONE, "Running": BUSY, "Failed": BROKEN}


def gates(overview: Overview) -> list[RenderableType]:
    """Return a line for each gate."""
    return hanging([_gate(one) for one in overview.gates])


def _gate(gate: Gate) -> Row:
    mark = _STANDINGS.get(gate.standing, ALARM)
    return [marked(mark, gate.name), gate.standing, gate.message]


def hooks(overview: Overview, now: datetime) -> list[RenderableType]:
    """Return the runs of the present attempt; those of earlier ones are in `-o json`."""
    of_attempt = [one for one in overview.hooks if one.at.startswith(f"{overview.attempt}/")]
    return hanging([_hook(one, now) for one in of_attempt])


def _hook(hook: Hook, now: datetime) -> Row:
    mark = _RUNS.get(hook.state, ALARM)
    _, moment, *step = hook.at.split("/")
    when = f"{moment}, step {int(step[0]) + 1}" if step and step[0].isdigit() else moment
    started = f"{spell(now - hook.started_at)} ago" if hook.started_at is not None else ""
    job = f"job {hook.job}" if hook.job else ""
    return [marked(mark, hook.name), when, hook.state, started, joined(job, hook.message)]


_SLICES = {"Inferior": BROKEN, "Suspect": WAITING, "TooFewQueries": WAITING, "NoHarmSeen": DONE}


def evaluation(overview: Overview) -> list[RenderableType]:
    """Return metrics, slices that stand in the way, and how many do not; nothing where only a verdict is told."""
    found = overview.evaluation
    if found is None:
        return []
    loud = [one for one in found.slices if one.verdict != "NoHarmSeen"]
    quiet = len(found.slices) - len(loud)
    rest = [marked(DONE, f"{count(quiet, 'slice')} without harm seen")] if quiet else []
    metrics = columns([_metric(one) for one in found.metrics])
    return [*metrics, *hanging([_slice(one) for one in loud]), *rest]


def _metric(metric: Metric) -> Row:
    between = f"{metric.low:+.3f} to {metric.high:+.3f}" if metric.low is not None and metric.high is not None else ""
    return [f"  {metric.name}", _from_to(metric.serving, metric.candidate), between]


def _slice(one: Slice) -> Row:
    mark = _SLICES.get(one.verdict, ALARM)
    return [marked(mark, f"slice {one.name}"), _from_to(one.serving, one.candidate), one.verdict, one.message]


def _from_to(serving: float | None, candidate: float | None) -> str:
    return " → ".join(f"{value:.3f}" for value in (serving, candidate) if value is not None)
