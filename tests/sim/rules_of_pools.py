"""What must hold of pools that scale, restated from the world's own load and pods (`pool_evidence`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reembed.cluster import kinds
from reembed.core import names
from tests.sim.history import History, status_of
from tests.sim.pool_evidence import KNOWN_AFTER, PoolEvidence
from tests.sim.world import Event

# A pod that was silent for longer is not measured; a look and a pass may have begun before.
_SILENT = 20.0
# Pods need three seconds to start, and numbers at most double at a time.
_COMES_WITHIN = 90.0
# The window is true to a tenth of it.
_TENTH = 0.1
# Without any news a pool is looked at so often.
_LOOKS = 5.0
# For so long a surge outlives the pod that it replaced.
_SURGE = 60.0


@dataclass(frozen=True, slots=True)
class Resized:
    """A Deployment that the operator gave another number of pods."""

    pool: PoolEvidence
    variant: str
    before: int
    after: int
    total: int  # of all variants, afterwards


def no_fewer_than_the_least(history: History, event: Event) -> str:
    """No variant has fewer pods than its minimum, and no pool fewer than its migrations need."""
    found = _resized(history, event)
    if found is None or found.after >= found.before or not found.pool.used() or not found.total:
        return ""  # whether a pool may be let go is told by `what_answers_keeps_its_pods`
    minimum = _variant(found)["minReplicas"]
    if found.after < minimum:
        return f"variant {found.variant} was given {found.after} pods, and its minimum is {minimum}"
    least = found.pool.least()
    return (
        f"pool {found.pool.pool} was given {found.total} pods, and has to have {least}" if found.total < least else ""
    )


def no_more_than_the_most(history: History, event: Event) -> str:
    """No variant has more pods than its maximum, but for the one that replaces a pod that leaks."""
    found = _resized(history, event)
    if found is None:
        return ""
    surge = event.at - found.pool.leaked_at < _SURGE or found.pool.recycling() is not None
    most = _variant(found)["maxReplicas"] + surge
    return f"variant {found.variant} was given {found.after} pods, and may have {most}" if found.after > most else ""


def nobody_goes_unmeasured(history: History, event: Event) -> str:
    """While a ready pod does not say what it carries, no pod goes."""
    found = _lowered(history, event)
    if found is None:
        return ""
    blind = found.pool.unmeasured.lasted(event.at)
    return _told(found, f"a pod was not measured for {blind:.0f} s") if blind > _SILENT + history.patience else ""


def nobody_goes_before_the_window(history: History, event: Event) -> str:
    """Pods go when fewer were enough for the whole window, whatever became of the operator meanwhile."""
    found = _lowered(history, event)
    if found is None:
        return ""
    ago = event.at - found.pool.needed_at.get(found.total, -math.inf)
    due = found.pool.window() * (1 - _TENTH) - KNOWN_AFTER - history.ahead
    return _told(found, f"more were needed {ago:.0f} s ago") if ago < due else ""


def nobody_goes_before_who_takes_its_place(history: History, event: Event) -> str:
    """As long as pods of other variants are not ready, those that answer in their place stay."""
    found = _lowered(history, event)
    if found is None or event.at - found.pool.ready_at < history.patience:
        return ""
    stays, placed = found.pool.stays(), found.pool.placed()
    return _told(found, f"{stays} of {placed} pods answer") if stays < min(placed, found.pool.ready()) else ""


def hands_change_nothing(history: History, event: Event) -> str:
    """A Deployment that somebody else scales is put right, and soon, unless the pool's scaling is paused."""
    wrong = [f"pool {one.pool} {one.put_wrong}" for one in history.pools.values() if one.put_wrong]
    if wrong:
        return wrong[0]
    for one in history.pools.values() if event.what == "tick" else ():
        if one.touched(event.at) > history.patience + _LOOKS:
            return f"pool {one.pool} has {one.desired()} pods since somebody changed that"
    return ""


def paused_pools_stay(history: History, event: Event) -> str:
    """Where scaling is paused, pods come only for the minimum and for migrations, and none goes."""
    found = _resized(history, event)
    if found is None or found.pool.recycling() is not None or not found.pool.used():
        return ""
    paused = found.pool.paused.lasted(event.at)
    if paused <= history.patience or (found.after > found.before and found.total <= found.pool.least()):
        return ""
    return _told(found, f"its scaling was paused {paused:.0f} s ago")


def who_goes_leaks_and_leaves_enough(history: History, event: Event) -> str:
    """Only a pod that leaks is replaced, and only when the others are more than there have to be."""
    if event.what != "evicted":
        return ""
    for one in history.pools.values():
        if names.embedder(one.pool, "") in event.name:
            if event.name not in one.leaks:
                return f"{event.name} was evicted and does not leak"
            short = event.at - one.enough_at
            if short > history.patience:
                return f"{event.name} was evicted with {one.ready()} of {one.least()} pods ready for {short:.0f} s"
    return ""


def who_leaks_is_not_killed(history: History, event: Event) -> str:
    """A slow leak never fills a pod."""
    if event.what != "memory is full":
        return ""
    paused = any(one.paused.since is not None for one in history.pools.values())
    return "" if paused else f"the memory of {event.name} was full before it was replaced"


def what_is_needed_comes(history: History, event: Event) -> str:
    """Where nothing is in the way, pods come soon for what cannot be carried."""
    for one in history.pools.values() if event.what == "tick" else ():
        if one.short.lasted(event.at) > _COMES_WITHIN:
            return f"pool {one.pool} has {one.desired()} pods for a load that needs more"
    return ""


def what_is_not_needed_goes(history: History, event: Event) -> str:
    """Where nothing is in the way, pods go when the window has passed."""
    for one in history.pools.values() if event.what == "tick" else ():
        if one.idle.lasted(event.at) > one.window() + _COMES_WITHIN:
            return f"pool {one.pool} has {one.desired()} pods for a load that needs fewer"
    return ""


def who_gets_queries_has_room_for_them(history: History, event: Event) -> str:
    """Before a candidate gets more, it has the pods for that, and what serves those for everything."""
    change = event.change
    if change is None or change.kind != kinds.INDEX or change.after is None or not history.pools:
        return ""
    before, after = (status_of(one).get("routing") or {} for one in (change.before, change.after))
    weight = after.get("weight", 0)
    if weight <= before.get("weight", 0):
        return ""
    load = history.world.embedders.load
    for side, share in (("serving", 100), ("candidate", weight)):
        one = history.pools.get((after.get(side) or {}).get("pool", ""))
        needed = math.ceil(load * share / 100 - 0.1)
        if one is not None and history.loaded(event.at) > 2 * KNOWN_AFTER and one.ready() < min(needed, one.most()):
            return f"{share} % of a load of {load} go to {one.pool}, which has {one.ready()} pods ready"
    return ""


RULES = (
    no_fewer_than_the_least,
    no_more_than_the_most,
    nobody_goes_unmeasured,
    nobody_goes_before_the_window,
    nobody_goes_before_who_takes_its_place,
    hands_change_nothing,
    paused_pools_stay,
    who_goes_leaks_and_leaves_enough,
    who_leaks_is_not_killed,
    what_is_needed_comes,
    what_is_not_needed_goes,
    who_gets_queries_has_room_for_them,
)


def _resized(history: History, event: Event) -> Resized | None:
    change = event.change
    if change is None or change.kind != kinds.DEPLOYMENT or change.before is None or change.after is None:
        return None
    before, after = (int(one["spec"]["replicas"]) for one in (change.before, change.after))
    if before == after or change.by == "user":
        return None
    for one in history.pools.values():
        for variant in one.spec["variants"]:
            if change.name == names.embedder(one.pool, variant["name"]):
                return Resized(one, variant["name"], before, after, one.desired())
    return None


def _lowered(history: History, event: Event) -> Resized | None:
    """Return what lost pods, but for the surge of one that was replaced, and a pool that nobody uses."""
    found = _resized(history, event)
    if found is None or found.after >= found.before or not found.pool.used() or not found.total:
        return None
    if found.pool.put_right:
        return None
    surged = event.at - found.pool.leaked_at < _SURGE or found.pool.recycling() is not None
    return None if surged and found.before - found.after == 1 else found


def _variant(found: Resized) -> dict[str, int]:
    return next(one for one in found.pool.spec["variants"] if one["name"] == found.variant)


def _told(found: Resized, why: str) -> str:
    return f"variant {found.variant} of pool {found.pool.pool} went from {found.before} to {found.after}, and {why}"
