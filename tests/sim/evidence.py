"""What is true of a step's gates and of users' own queries, and since when: what their rules remember.

It counts from the world's own totals, and knows nothing of confidence sequences: only how few observations can never
show a limit to hold, and whether what a gate is about was well at any moment of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reembed.cluster import kinds
from tests.sim.api_server import Change, Object

if TYPE_CHECKING:
    from tests.sim.world import World

# The chance of a wrong word that all gates of a migration share.
_ALPHA = 0.01
# A p95 is judged by the share of answers that are slower.
_SLOWER = 0.05


class Stretch:
    """For how long something holds, and what was counted when that began."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.counted = 0.0

    def take(self, now: float, count: Callable[[], float] = lambda: 0.0, *, holds: bool) -> None:
        if not holds:
            self.since = None
        elif self.since is None:
            self.since, self.counted = now, count()

    def lasted(self, now: float) -> float:
        return now - self.since if self.since is not None else 0.0


class Evidence:
    """Of the step that the index's routing is at."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._routed: tuple[str, int] = ("", 0)
        self._began = 0.0
        self._counted: Mapping[str, float] = {}
        self.fine: dict[str, float] = {}  # by gate: when what it is about was well last
        self.failing: dict[str, Stretch] = {}  # by gate: while everybody could see that
        self.known: dict[str, float] = {}  # by trigger: when its query had a value last
        self.beyond: dict[str, float] = {}  # by trigger: when its query was beyond the threshold last
        self.exceeded: dict[str, Stretch] = {}  # by trigger: while everybody could see that

    def take(self, now: float, change: Change | None, holder: Object | None, *, clear: bool) -> None:
        if change is not None and change.kind == kinds.INDEX:
            self._step(now, change)
        if holder is None or not self._routed[1]:
            self.failing.clear()
            self.exceeded.clear()
        if holder is not None:
            self._gates(now, holder, clear=clear)
            self._queries(now, holder, clear=clear)

    def counted(self, gate: Object) -> float:
        """Return how many observations there were of what a gate is about since the step's weight was told."""
        return self._counts()[gate["type"]] - self._counted.get(gate["type"], 0.0)

    def never_well(self, gate: Object) -> bool:
        """Return whether what a gate is about was beyond its limit ever since it is judged."""
        return self.fine.get(gate["name"], -1.0) < self._began

    def _step(self, now: float, change: Change) -> None:
        """Begin to count anew where the candidate, or its weight, is another one."""
        routing = (change.after or {}).get("status", {}).get("routing") or {}
        routed = ((routing.get("candidate") or {}).get("collection", ""), routing.get("weight", 0))
        if routed != self._routed:
            self._began, self._routed = now, routed
            self._counted = self._counts()
            self.failing.clear()
            self.exceeded.clear()

    def _counts(self) -> dict[str, float]:
        """Return what there was of the candidate."""
        self._world.gateways.count()
        total, plan = self._world.gateways.callers.of(self._routed[0]), self._plan()
        labelled = self._world.worker.labelled.count(plan["id"]) if plan is not None else 0.0
        found = {"ErrorRate": total.answered, "Latency": total.answered, "ShadowOverlap": total.compared}
        return {**found, "Retrieval": labelled}

    def _plan(self) -> Object | None:
        plan: Object | None = ((self._world.index() or {}).get("status", {}).get("plan") or {}).get("evaluation")
        return plan

    def _gates(self, now: float, holder: Object, *, clear: bool) -> None:
        for gate in holder["spec"].get("gates") or ():
            name, well = gate["name"], self._well(gate, holder)
            if well:
                self.fine[name] = now
            stretch = self.failing.setdefault(name, Stretch())
            stretch.take(now, lambda gate=gate: self.counted(gate), holds=clear and not well)  # type: ignore[misc]

    def _well(self, gate: Object, holder: Object) -> bool:
        """Return whether what a gate is about is within its limit now."""
        candidate, limit = holder.get("status", {}).get("candidate"), gate["threshold"]
        if candidate is None:
            return True
        health = self._world.gateways.health(candidate["pool"])
        if gate["type"] == "Latency":
            return health.seconds <= _seconds(limit)
        if gate["type"] == "ShadowOverlap":
            return health.overlap >= share(limit)
        found = health.errors if gate["type"] == "ErrorRate" else self._world.worker.labelled.loss
        return found <= share(limit)

    def _queries(self, now: float, holder: Object, *, clear: bool) -> None:
        state = holder.get("status", {}).get("state")
        watched = clear and state in {"Canary", "Retaining"} and bool(self._routed[1])
        for one in queries(holder):
            value = self._world.prometheus.of(one["query"])
            over = is_beyond(one, value)
            if value is not None:
                self.known[one["name"]] = now
            if over:
                self.beyond[one["name"]] = now
            self.exceeded.setdefault(one["name"], Stretch()).take(now, holds=watched and over)


def queries(holder: Object) -> list[Object]:
    """Return the user's own triggers."""
    found: list[Object] = holder["spec"]["rollback"]["triggers"].get("prometheus") or []
    return found


def is_beyond(trigger: Object, value: float | None) -> bool:
    if value is None:
        return bool(trigger.get("noData") == "RollBack")
    below = trigger.get("operator") == "Below"
    return bool(value < trigger["threshold"] if below else value > trigger["threshold"])


def fewest(gate: Object, gates: int) -> float:
    """Return below how many observations a gate cannot be shown to hold, even if all of them are well."""
    limit = _SLOWER if gate["type"] == "Latency" else share(gate["threshold"])
    well = limit if gate["type"] == "ShadowOverlap" else 1 - limit
    return math.log(_ALPHA / gates) / math.log(well)


def share(text: str) -> float:
    return float(text.rstrip("%")) / 100


def _seconds(text: str) -> float:
    return float(text.removesuffix("ms")) / 1000
