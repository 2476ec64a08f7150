"""One life: a world, an operator, a script, and the invariants after every event.

It ends when everything of the script happened and every migration ended, and then goes on for a while in which nothing
may be written. What is wrong is told with the script that leads there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.cluster import kinds
from reembed.controller.web import Metrics
from tests.sim import virtual_time
from tests.sim.actions import act
from tests.sim.chamber import REF
from tests.sim.history import History, status_of
from tests.sim.hooks import CRON_JOB, cron_job
from tests.sim.invariants import INVARIANTS
from tests.sim.manifests import Manifests, manifests
from tests.sim.process import Operators, watched_by
from tests.sim.rules_of_classes import not_kept
from tests.sim.rules_of_inspections import unanswered
from tests.sim.rules_of_names import left_behind
from tests.sim.rules_of_panels import ends_otherwise
from tests.sim.script import Line, Script
from tests.sim.store import INDEX
from tests.sim.world import Event, World

_FINISHED = frozenset({"Succeeded", "RolledBack", "Failed"})
# From the last fault to the end of every migration, in seconds: leases, windows and holds are minutes at most.
_PROGRESS = 600.0
# Gateways and pools settle before nothing is to be written any more, and for so long.
_SETTLES = 40.0
_STEADY = 70.0
_TICK = 5.0
# Whoever commands something may be answered in the next pass.
_ANSWERED = 3.0


class Broken(AssertionError):
    """A life in which something did not hold."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a life ended."""

    seconds: float
    states: tuple[str, ...]  # places in the life of the migration, in order
    reason: str
    weights: tuple[int, ...]
    serves: str | None
    collections: tuple[tuple[str, str], ...]  # by what they are to the migration, with their states
    events: int


class Simulation:
    """One life while it lasts."""

    def __init__(self, script: Script, seed: int | str, metrics: Metrics) -> None:
        self.script = script
        self.seed = seed
        self.world = World(seed)
        self.operators = Operators(self.world, metrics, script.operators)
        self.history = History(self)
        self.manifests: Manifests = manifests(script.replicas, **script.spec)
        self._scale(script.scales)
        if script.panel is not None:
            self.manifests[kinds.INDEX, INDEX]["spec"]["panelRef"] = REF
        self.wrong = ""
        self.happened: list[str] = []  # of the script
        self._waits = [line for line in script.lines if line.reached]
        self._undone = 0  # what is to happen or to be undone yet
        self._last = 0.0
        self._events = 0
        self._lasting: list[Callable[[], None]] = []
        self._stop = asyncio.Event()
        self.world.listeners.append(self._happened)

    async def run(self) -> Outcome:
        world = self.world
        self._prepare()
        with watched_by(world):
            self.start()
            self._every(_TICK, lambda: world.happen("tick"))
            for line in self.script.lines:
                if not line.reached:
                    self._later(line.at, line)
            await self._until_ended()
            if not self.wrong:
                await self._steady()
            outcome = self._outcome()
            self.kill()
            await self.operators.ended()
        if self.wrong:
            raise Broken(self._told())
        return outcome

    def start(self) -> None:
        self.operators.start()

    def kill(self) -> None:
        self.operators.kill()

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self._loop.call_later(seconds, do)

    def apply_manifests(self) -> None:
        for (kind, _), manifest in self.manifests.items():
            self.world.server.apply(kind, manifest, "user")

    def reached(self, name: str, at: str) -> None:
        """Note that a migration came to a place, and set off what waits for that."""
        if name != "move":
            return
        place = at.partition("/")[2]
        due = [line for line in self._waits if line.reached == place]
        self._waits = [line for line in self._waits if line.reached != place]
        for line in due:
            self._later(line.at, line)

    def _scale(self, scales: Mapping[str, Any]) -> None:
        """Have pools scale, and pods that carry what callers ask."""
        for pool, spec in scales.get("pools", {}).items():
            self.manifests[kinds.POOL, pool]["spec"] |= spec
        self.world.embedders.on = bool(scales)
        self.world.embedders.driver = scales.get("driver", "queue")
        self.world.embedders.load = scales.get("load", 0.9)

    def _prepare(self) -> None:
        if self.script.panel is not None:
            self.world.sit(self.script.panel)
        for (kind, name), manifest in self.manifests.items():
            if kind != kinds.MIGRATION:
                self.world.server.apply(kind, manifest, "user")
            elif self.script.starts >= 0:
                self._loop.call_later(
                    self.script.starts, self.world.server.apply, kind, self.manifests[kind, name], "user"
                )
        if "hooks" in self.script.spec:
            self.world.server.put(kinds.CRON_JOB, CRON_JOB, cron_job(), "user")
        if self.script.filled:
            self.world.serve()
        self.world.worker.begin()

    def _later(self, seconds: float, line: Line) -> None:
        self._undone += 1
        self._loop.call_later(seconds, self._do, line)

    def _do(self, line: Line) -> None:
        self._undone -= 1
        self.happened.append(line.what)
        self.world.happen("script:", line.what)
        undo = act(self, line.what)
        self._last = self.world.now()
        if undo is not None and not line.lasts:
            self._lasting.append(undo)
        elif undo is not None:
            self._undone += 1
            self._loop.call_later(line.lasts, self._undo, line, undo)

    def _undo(self, line: Line, undo: Callable[[], None]) -> None:
        self._undone -= 1
        self._last = self.world.now()
        undo()
        self.world.happen("script: over:", line.what)

    def _happened(self, event: Event) -> None:
        if self.wrong:
            return
        self._events += 1
        try:
            self.wrong = self._found(event)
        except Exception as error:  # else it would be a pass of the operator that failed
            self.wrong = f"an invariant failed itself: {error!r}"
            raise
        if self.wrong:
            self._stop.set()

    def _found(self, event: Event) -> str:
        """Return what does not hold after an event."""
        self.history.take(event)
        for invariant in INVARIANTS:
            found = invariant(self.history, event)
            if found:
                return f"{invariant.__name__} at {event.at:.2f} s: {found}"
        return ""

    async def _until_ended(self) -> None:
        """Wait for the end of every migration, in steps of a second."""
        while not self.wrong:
            await asyncio.sleep(1)
            answered = self.world.now() - max(self._last, self.script.starts) > _ANSWERED
            if answered and not self._undone and self._ended():
                return
            if self.world.now() - (0 if self.script.within else self._last) > self._limit and not self._undone:
                self._stuck()
                return

    def _ended(self) -> bool:
        return not self._held() and all(self._at_rest(status_of(one)) for one in self.world.migrations())

    def _held(self) -> str:
        """Return who holds the index."""
        held = status_of(self.world.index()).get("activeMigration")
        return str(held["name"]) if held is not None else ""

    def _at_rest(self, status: dict[str, object]) -> bool:
        return status.get("state") in _FINISHED

    def _stuck(self) -> None:
        """8: without faults every migration ends, or waits for what the script made last."""
        after = "the start" if self.script.within else "the last fault"
        if self._held() and self.world.server.get(kinds.MIGRATION, self._held()) is None:
            self.wrong = f"progress: {self._limit:.0f} s after {after} {self._held()}, which is gone, holds the index"
        for raw in self.world.migrations():
            status = status_of(raw)
            if not self._at_rest(status) and status.get("reason") != self.script.waits:
                told = " ".join(str(status.get(name)) for name in ("at", "reason", "message", "waitingFor"))
                self.wrong = f"progress: {self._limit:.0f} s after {after} {raw['metadata']['name']} is at {told}"

    async def _steady(self) -> None:
        """7: where nothing changes, nothing is written."""
        for undo in self._lasting:
            undo()
        await asyncio.sleep(_SETTLES)
        before = self.world.writes
        began = self.world.now()
        await asyncio.sleep(_STEADY)
        if self.world.writes != before and not self.wrong and not self.script.waits:
            last = [str(event) for event in self.world.log if event.what == "write" and event.at > began]
            self.wrong = f"steady: {self.world.writes - before} writes in a world that does not change: {last[-3:]}"
        left = left_behind(self.history)
        if left and not self.wrong and not self.script.waits:
            self.wrong = f"left behind: {left}"
        asked = unanswered(self.world)
        if asked and not self.wrong and not self.script.waits:
            self.wrong = f"inspections: {asked}"
        ended = ends_otherwise(self.history)
        if ended and not self.wrong and not self.script.waits:
            self.wrong = f"the panel: {ended}"
        lacking = not_kept(self.world)
        if lacking and not self.wrong and not self.script.waits:
            self.wrong = f"classes: {lacking}"

    def _outcome(self) -> Outcome:
        raw = self.world.server.get(kinds.MIGRATION, "move")
        uid = raw["metadata"]["uid"] if raw is not None else next(iter(self.history.states), "")
        places = self.history.states.get(uid, [])
        held = self.world.worker.store.collections
        serving = self.world.routing().get("serving")
        return Outcome(
            seconds=self.world.now(),
            states=tuple(places),
            reason=self.history.reasons.get(uid, ""),
            weights=tuple(self.history.weights),
            serves=serving["pool"] if serving else None,
            collections=tuple(("old" if name == "c_old" else "new", one.state) for name, one in held.items()),
            events=self._events,
        )

    def _told(self) -> str:
        log = [str(event) for event in self.world.log if event.what not in {"pass", "tick", "write"}]
        script = "\n".join(f"    {line}" for line in str(self.script).splitlines())
        return "\n".join([f"seed {self.seed}: {self.wrong}", "script:", script, "what happened last:", *log[-60:]])

    def _every(self, seconds: float, do: Callable[[], None]) -> None:
        def again() -> None:
            do()
            self._loop.call_later(seconds, again)

        self._loop.call_later(seconds, again)

    @property
    def _limit(self) -> float:
        return self.script.within or _PROGRESS

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


def simulate(script: Script, seed: int | str, metrics: Metrics) -> Outcome:
    """Live one life in virtual time.

    Raises:
        Broken: an invariant did not hold.

    """

    async def life() -> Outcome:
        return await Simulation(script, seed, metrics).run()

    return virtual_time.run(life())


def what_broke(script: Script, seed: int | str, metrics: Metrics) -> str:
    """Live one life and return what did not hold in it, if anything."""
    try:
        simulate(script, seed, metrics)
    except Broken as error:
        return str(error)
    return ""
