"""What must hold of hooks: who is asked, when, how often, and what nobody does before they answered.

All of it is told from the calls that arrived, and from the specs that users wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reembed.cluster import kinds
from tests.sim.api_server import Object
from tests.sim.history import History, status_of
from tests.sim.hooks import Call, is_hook
from tests.sim.world import Event

_BEFORE_THE_FACT = {"Pre", "EachStep"}


def what_hooks_are_asked_waits_for_their_answer(history: History, event: Event) -> str:
    """No way is gone before the hooks that may forbid it agreed, and all others were called."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.before is None:
        return ""
    before, after = status_of(change.before), status_of(change.after)
    if before.get("at") == after.get("at") or not after:
        return ""
    for hook, key in _due(change.before, before, after):
        if _counts(hook) and not history.world.hooks.succeeded(key):
            return f"{before.get('at')} was left for {after.get('at')}, and hook {key} did not agree"
        if not history.world.hooks.called(key) and not _hopeless(history, hook):
            return f"{before.get('at')} was left for {after.get('at')}, and hook {key} was never called"
    return ""


def hooks_are_called_by_one_key_each(history: History, event: Event) -> str:
    """However often a hook is called at a moment, it is by the same key, in the same Job, and at that moment."""
    call = _call(history, event)
    if call is None:
        return ""
    known = history.keys.setdefault((call.migration, call.name, _moment(call)), (call.key, call.job))
    if known != (call.key, call.job):
        return f"hook {call.name} was called as {known}, and then as {(call.key, call.job)}"
    raw = _migration(history, call.migration)
    # A pod that was starting when the migration went another way may still call.
    late = event.at - history.moved_at.get(call.migration, 0.0) > history.patience
    if raw is not None and late and not _is_at(status_of(raw), _moment(call)):
        return f"hook {call.key} is called while its migration is at {status_of(raw).get('at')}"
    return ""


def calls_are_recorded_before_they_are_made(history: History, event: Event) -> str:
    """Whoever comes after a crash finds in the status that a hook may have been called."""
    change = event.change
    made = change is not None and change.kind == kinds.JOB and change.before is None
    if change is None or not made or change.after is None or not is_hook(change.after):
        return ""
    raw = _migration(history, change.after["metadata"]["ownerReferences"][0]["uid"])
    runs = status_of(raw).get("hooks") or ()
    if raw is None or any(run["job"] == change.name and run["state"] == "Running" for run in runs):
        return ""
    return f"Job {change.name} was made, and no run in the status names it: {runs}"


def rollback_hooks_come_after_the_queries_went_back(history: History, event: Event) -> str:
    """Who is told that a candidate is rolled back finds no query on it any more."""
    call, now = _call(history, event), event.at
    if call is None or call.when != "Rollback" or history.world.routing().get("candidate") is None:
        return ""
    left = [one.pod.name for one in history.world.gateways.live.values() if one.routing(now).weight]
    return f"hook {call.key} was called while {left} send queries to the candidate" if left else ""


def hooks_start_nothing_while_paused(history: History, event: Event) -> str:
    """What is paused calls nobody whom it had not called before."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.before is None:
        return ""
    before, after = status_of(change.before), status_of(change.after)
    paused = before.get("paused") and after.get("paused") and before.get("at") == after.get("at")
    new = {run["job"] for run in after.get("hooks") or ()} - {run["job"] for run in before.get("hooks") or ()}
    pausable = after.get("state") not in {"RollingBack", "Unwinding", "Promoting"}
    return f"it is paused, and {sorted(new)} begin" if paused and pausable and new else ""


RULES = (
    what_hooks_are_asked_waits_for_their_answer,
    hooks_are_called_by_one_key_each,
    calls_are_recorded_before_they_are_made,
    rollback_hooks_come_after_the_queries_went_back,
    hooks_start_nothing_while_paused,
)


def _due(raw: Object, before: Object, after: Object) -> Iterator[tuple[Object, str]]:
    """Yield the hooks that a way asks, with the keys by which they are called."""
    moment = _asked(before.get("state"), after)
    if moment is None:
        return
    uid, attempt = raw["metadata"]["uid"], before.get("attempt", 1)
    for hook in raw["spec"].get("hooks") or ():
        if hook["when"] == moment.partition("/")[0]:
            yield hook, f"{uid}/{attempt}/{moment}/{hook['name']}"


def _asked(state: Any, after: Object) -> str | None:
    """Return the moment whose hooks are asked on the way from a state."""
    ways = {("Preflight", "Backfilling"): "Pre", ("Promoting", "Succeeded"): "Post"}
    ways[("RollingBack", "RolledBack")] = "Rollback"
    if after.get("state") == "Canary":
        return f"EachStep/{after.get('step', 0)}"
    return ways.get((state, after.get("state")))


def _counts(hook: Object) -> bool:
    return hook["when"] in _BEFORE_THE_FACT and hook.get("failurePolicy", "Fail") == "Fail"


def _hopeless(history: History, hook: Object) -> bool:
    """Return whether a hook may be given up without ever having been called: nothing could start it for long."""
    return "job" in hook and not history.world.hooked_by_cron_job


def _call(history: History, event: Event) -> Call | None:
    return history.world.hooks.calls[-1] if event.what == "hook is called" else None


def _moment(call: Call) -> str:
    """Return a key's moment, with its attempt."""
    return call.key.removeprefix(f"{call.migration}/").removesuffix(f"/{call.name}")


def _is_at(status: Object, moment: str) -> bool:
    """Return whether a migration is where hooks of a moment may be called."""
    attempt, when, *step = moment.split("/")
    states = {"Pre": "Preflight", "Post": "Promoting", "Rollback": "RollingBack"}
    if str(status.get("attempt", 1)) != attempt:
        return False
    if when != "EachStep":
        return bool(status.get("state") == states[when])
    before = f"Canary/{int(step[0]) - 1}" if step[0] != "0" else "Evaluating"
    return bool(status.get("at") == f"{attempt}/{before}")


def _migration(history: History, uid: str) -> Object | None:
    return next((one for one in history.world.migrations() if one["metadata"]["uid"] == uid), None)
