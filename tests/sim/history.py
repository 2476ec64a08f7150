"""What was true when, kept naively from the world's own truth: the memory of the invariants.

Nothing here asks the operator or its core. What the operator may know lags behind the truth, so the question is always
when something was last true, and since when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from reembed.cluster import kinds
from tests.sim.api_server import Object
from tests.sim.world import Event

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

NEVER = -1e9
# A pass looks at pods, at gateways and again at pods, and each look may wait for a silent pod; then it writes.
PASS = 6.0
# Windows of a minute need some seconds until a share of errors is above its limit.
SEEN_LATE = 12.0
# So long a failure of the serving side is remembered where callers are few.
WINDOW = 125.0


class History:
    """Facts about one life."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.world = sim.world
        self.last_true: dict[str, float] = {}
        self.first_acknowledged: dict[tuple[int, int], float] = {}  # (epoch, weight): when all gateways served it
        self.states: dict[str, list[str]] = {}  # by UID: places in the life, in order
        self.moved_at: dict[str, float] = {}
        self.reasons: dict[str, str] = {}
        self.weights: list[int] = [0]
        self.answered_in_step: float | None = None  # queries of the candidate before its weight rose just now
        self._answered_at_step = 0.0
        self.routings: dict[int, Object] = {}  # of the index, by epoch
        self.writers: list[str] = [""]  # processes and their terms, in the order in which what they wrote landed
        self.emptied_at = NEVER
        self.sent: dict[tuple[str, str], Object] = {}  # commands by verb and nonce
        self.keys: dict[tuple[str, str, str], tuple[str, str]] = {}  # key and Job by UID, hook and moment
        self.answered: dict[tuple[str, str, str], tuple[str, str]] = {}  # by UID, verb and nonce: outcome and time
        self.bad_for = 0.0  # for how long a trigger was true and anybody could know it, without what restarts cost
        self.bad_before = 0.0  # the same in stretches before, without what it takes to see each anew
        self._bad_since: float | None = None

    def take(self, event: Event) -> None:
        """Note what is true now that `event` happened."""
        now = event.at
        if event.change is not None and event.change.kind == kinds.INDEX:
            # The change itself asks for another word of the gateways; what counts is the one before.
            self.last_true["acknowledged before"] = self.last_true.get("acknowledged", NEVER)
        for name, holds in _FACTS.items():
            if holds(self):
                self.last_true[name] = now
        routing = self.world.routing()
        if "epoch" in routing and self.acknowledged():
            self.first_acknowledged.setdefault((routing["epoch"], routing["weight"]), now)
        if event.what == "writes from now on:":
            self.writers.append(event.name)
        change = event.change
        if change is not None and change.kind == kinds.MIGRATION and change.after is not None:
            self._migrated(change.after)
        self.answered_in_step = None
        if change is not None and change.kind == kinds.INDEX:
            self._routed(change.before, change.after, now)
        self._tick(now)

    def since(self, name: str) -> float:
        """Return for how long a fact has not been true."""
        return self.world.now() - self.last_true.get(name, NEVER)

    def holder(self) -> Object | None:
        """Return the migration that holds the index, as the API server has it."""
        held = (self.world.index() or {}).get("status", {}).get("activeMigration")
        found = self.world.server.get(kinds.MIGRATION, held["name"]) if held is not None else None
        return found if found is not None and held is not None and found["metadata"]["uid"] == held["uid"] else None

    @property
    def patience(self) -> float:
        """Return for how long a pass may go on from what it saw: one that was frozen, no longer than a leader leads."""
        happened = self.sim.happened
        frozen = any(one.startswith("operator frozen") for one in happened)
        slow = any(one.startswith(("api slow", "operator slow")) for one in happened)
        return PASS + (10.0 if frozen else 0.0) + (15.0 if slow else 0.0)

    @property
    def skew(self) -> float:
        """Return by how much wall clocks may have disagreed, with themselves or each other, in seconds."""
        return sum(abs(float(one.split()[2])) for one in self.sim.happened if one.startswith("clock jumps"))

    def disturbed_at(self) -> float:
        """Return when the operator or its way to the API server was last gone."""
        return max(self.last_true.get("disturbed", NEVER), self.world.weather.disturbed_at)

    @property
    def undisturbed(self) -> bool:
        """Return whether nothing of the script has happened yet but commands."""
        return all(one.startswith(("command", "paused", "approver")) for one in self.sim.happened)

    def acknowledged(self) -> bool:
        """Return whether every gateway serves what the index says, and there is one."""
        routing, now = self.world.routing(), self.world.now()
        found = [one.routing(now) for one in self.world.gateways.live.values()]
        told = (routing.get("epoch"), routing.get("weight"))
        return bool(found) and all((one.epoch, one.weight) == told for one in found)

    def capacity(self, side: str) -> bool:
        """Return whether all pods of a side's pool are ready, as its Deployment says."""
        holder = self.holder()
        arm = (holder or {}).get("status", {}).get(side)
        if arm is None:
            return True
        wanted = self.sim.script.replicas.get(arm["pool"], 1)
        found = self.world.server.get(kinds.DEPLOYMENT, f"reembed-embedder-{arm['pool']}-cpu")
        return found is not None and found.get("status", {}).get("readyReplicas", 0) >= wanted

    def healthy(self, side: str) -> bool:
        """Return whether a side's model answers most of its probes: three that it answers are enough to begin."""
        arm = ((self.holder() or {}).get("status") or {}).get(side)
        return arm is None or self.world.gateways.health(arm["pool"]).errors < 0.5

    def serving_fails(self) -> bool:
        """Return whether going back would help nobody."""
        arm = self.world.routing().get("serving")
        found = self.world.gateways.health(arm["pool"]) if arm is not None else None
        if not any(one.begun for one in self.world.gateways.live.values()):
            return False  # nobody counted it
        return found is not None and (found.errors > 0 or found.seconds > 1)

    def dependencies(self) -> bool:
        """Return whether every migration that `move` waits for has succeeded."""
        names = (one["name"] for one in self.sim.script.spec.get("dependsOn", ()))
        found = (self.world.server.get(kinds.MIGRATION, name) for name in names)
        return all(status_of(one).get("state") == "Succeeded" for one in found)

    def could_lead(self) -> bool:
        """Return whether a process runs that nothing keeps from the Lease."""
        return self.world.weather.calm and any(one.reaches for one in self.sim.operators.all)

    def _migrated(self, raw: Object) -> None:
        status, uid = raw.get("status") or {}, raw["metadata"]["uid"]
        at = status.get("at")
        places = self.states.setdefault(uid, [])
        if not places or places[-1] != at:
            self.moved_at[uid] = self.world.now()
        if at is not None and (not places or places[-1] != at):
            places.append(at)
            self.sim.reached(raw["metadata"]["name"], at)
        self.reasons[uid] = status.get("reason", "")

    def _routed(self, before: Object | None, after: Object | None, now: float) -> None:
        was, routing = ((one or {}).get("status", {}).get("routing") for one in (before, after))
        if was and not routing:
            self.emptied_at = now
            self.routings.clear()
        weight = (routing or {}).get("weight", 0)
        if weight != self.weights[-1]:
            self._stepped(weight, ((routing or {}).get("candidate") or {}).get("collection", ""))
            self.weights.append(weight)

    def _stepped(self, weight: int, candidate: str) -> None:
        """Note how many queries the candidate answered at the weight before, if it gets more now."""
        self.world.gateways.count()
        answered = self.world.gateways.answered.get(candidate, 0.0)
        self.answered_in_step = answered - self._answered_at_step if weight > self.weights[-1] > 0 else None
        self._answered_at_step = answered

    def _tick(self, now: float) -> None:
        """Add up for how long the candidate was beyond a limit while everybody could see it."""
        bad = self._beyond() and self._clear(now)
        if bad and self._bad_since is None:
            self._bad_since = now
        elif not bad:
            self.bad_before = self.bad_before + max(self.bad_for - SEEN_LATE, 0.0) if self._beyond() else 0.0
            self._bad_since = None
        self.bad_for = now - self._bad_since if self._bad_since is not None else 0.0

    def _beyond(self) -> bool:
        """Return whether the candidate alone fails, with traffic on it, or a query of the user's says so."""
        holder, routing = self.holder(), self.world.routing()
        if holder is None or not routing.get("weight") or (holder.get("status") or {}).get("state") not in WITH_TRAFFIC:
            return False
        if self.since("serving fails") < WINDOW:
            return False
        prometheus = self.world.prometheus
        if not prometheus.silent and any(
            prometheus.found.get(one["name"], 0.0) > one["threshold"] for one in queries(holder)
        ):
            return True
        candidate = self.world.gateways.health(routing["candidate"]["pool"])
        return candidate.errors >= 0.5 or candidate.memory > 0.9 or candidate.seconds > 1

    def _clear(self, now: float) -> bool:
        """Return whether nothing keeps the operator from seeing and doing what is due."""
        world, sim = self.world, self.sim
        calm = world.weather.calm and world.weather.lag < 1
        gateways = list(world.gateways.live.values())
        seen = bool(gateways) and not any(one.silent or one.apart for one in gateways) and self.acknowledged()
        return sim.operators.up and calm and seen and world.watches.whole


def queries(holder: Object) -> list[Object]:
    """Return the user's own triggers."""
    found: list[Object] = holder["spec"]["rollback"]["triggers"].get("prometheus") or []
    return found


WITH_TRAFFIC = frozenset({"Canary", "Retaining"})
_FACTS: Mapping[str, Callable[[History], bool]] = {
    "acknowledged": History.acknowledged,
    "gateway": lambda history: any(one.pod.ready for one in history.world.gateways.live.values()),
    "candidate capacity": lambda history: history.capacity("candidate"),
    "serving capacity": lambda history: history.capacity("serving"),
    "candidate healthy": lambda history: history.healthy("candidate"),
    "serving healthy": lambda history: history.healthy("serving"),
    "serving fails": History.serving_fails,
    "watches blind": lambda history: history.world.watches.blind or history.world.weather.lag > 1,
    "dependencies": History.dependencies,
    "led": lambda history: history.sim.operators.up,
    "nobody could lead": lambda history: not history.could_lead(),
    "disturbed": lambda history: history.world.weather.down or not history.sim.operators.up,
}


def status_of(raw: Any) -> Object:
    found: Object = (raw or {}).get("status") or {}
    return found
