"""What must hold of users' own triggers, `rollback.triggers.prometheus`."""

from __future__ import annotations

from itertools import pairwise

from reembed.cluster import kinds
from tests.sim.evidence import queries
from tests.sim.history import PASS, History, status_of
from tests.sim.world import Event

# Answers are kept for five seconds, and looked at every two.
_SEEN_LATE = 7.0
_ON = frozenset(pairwise(("Evaluating", "Canary", "Canary", "Retaining", "Promoting")))


def a_query_beyond_its_threshold_takes_the_queries_back(history: History, event: Event) -> str:
    """What was exceeded for its whole time, and can be seen, leads back within a pass."""
    if not history.evidence.exceeded:
        return ""
    for one in queries(history.holder() or {"spec": {"rollback": {"triggers": {}}}}):
        stretch = history.evidence.exceeded.get(one["name"])
        lasted = stretch.lasted(event.at) if stretch is not None else 0.0
        if not one.get("dryRun") and lasted > float(one["for"].rstrip("s")) + _SEEN_LATE + PASS:
            return f"query {one['query']} was beyond {one['threshold']} for {lasted:.1f} s, and nothing goes back"
    return ""


def a_query_without_a_value_holds_the_step(history: History, event: Event) -> str:
    """No query goes to the candidate, or more of them, while one of the user's own has no value."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.before is None:
        return ""
    before, after = status_of(change.before), status_of(change.after)
    if before.get("at") == after.get("at") or (before.get("state"), after.get("state")) not in _ON:
        return ""
    for one in queries(change.before):
        unknown = event.at - history.evidence.known.get(one["name"], 0.0)
        if not one.get("dryRun") and unknown > _SEEN_LATE + history.patience:
            return f"{before.get('at')} was left for {after.get('at')}; {one['query']} had no value for {unknown:.1f} s"
    return ""


def only_what_was_beyond_takes_the_queries_back(history: History, event: Event) -> str:
    """Nobody goes back for a query that was within its threshold, or that is only tried out."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.before is None:
        return ""
    before, after = status_of(change.before), status_of(change.after)
    if after.get("state") != "RollingBack" or before.get("state") == "RollingBack":
        return ""
    for one in queries(change.after):
        if after.get("reason") != f"Prometheus_{one['name']}":
            continue
        fine = event.at - history.evidence.beyond.get(one["name"], -1e9)
        if one.get("dryRun") or fine > _SEEN_LATE + history.patience:
            return f"it went back for {one['query']}, which is {one} and was within its threshold for {fine:.1f} s"
    return ""


RULES = (
    a_query_beyond_its_threshold_takes_the_queries_back,
    a_query_without_a_value_holds_the_step,
    only_what_was_beyond_takes_the_queries_back,
)
