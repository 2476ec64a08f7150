"""What was true when, kept naively from the world's own truth: the memory of the invariants.

Nothing here asks the operator or its core. What the operator may know lags behind the truth, so the question is always
when something was last true, and since when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from reembed.cluster import kinds
from tests.sim.api_server import Change, Object
from tests.sim.evidence import Evidence, Stretch, queries, share
from tests.sim.panel_evidence import PanelEvidence
from tests.sim.pool_evidence import evidence
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
_SOON_EXCEEDED = 0.1


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
        self.recreated: set[str] = set()  # names under which there was more than one object
        self.gone_at: dict[str, float] = {}  # migrations by UID
        self.lowered_at: dict[str, float] = {}  # by collection: when the index ended to send queries there
        self.heard_at: dict[str, dict[str, float]] = {}  # by collection and gateway: when that said the same
        self._uids: dict[tuple[str, str], str] = {}
        self._used: set[str] = set()
        self.evidence = Evidence(sim.world)
        self.pools = evidence(sim)  # that scale, by name
        self.panel = PanelEvidence(sim)
        self.shadowed_in_emergency = Stretch()
        self.shadowed_alone: dict[str, Stretch] = {}  # by who tells so, or obeys: shadow queries and no others
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
        if change is not None and change.kind in (kinds.MIGRATION, kinds.POOL, kinds.INDEX):
            self._named(change, now)
        if change is not None and change.kind == kinds.MIGRATION and change.after is not None:
            self._migrated(change.after)
        if change is not None and change.kind == kinds.INDEX:
            self._routed(change.before, change.after, now)
            self._let_go(now)
        self._listen(now)
        holder = self.holder()
        self._tick(now)
        judged = holder is not None and (holder["spec"].get("gates") or queries(holder))
        clear = bool(judged) and self._clear(now) and self._can_go_back()
        self.evidence.take(now, change, holder, clear=clear)
        self._shadowed(now, holder)
        self.panel.take(now, event.what, event.name, event.change)
        for pool in self.pools.values():
            pool.take(now, event.change)

    def since(self, name: str) -> float:
        """Return for how long a fact has not been true."""
        return self.world.now() - self.last_true.get(name, NEVER)

    def holder(self) -> Object | None:
        """Return the migration that holds the index, as the API server has it."""
        held = (self.world.index() or {}).get("status", {}).get("activeMigration")
        found = self.world.server.get(kinds.MIGRATION, held["name"]) if held is not None else None
        return found if found is not None and held is not None and found["metadata"]["uid"] == held["uid"] else None

    def loaded(self, now: float) -> float:
        """Return for how long callers asked as much as now, and everybody could know it."""
        world = self.world
        return now - max(world.embedders.changed_at, *(one.hindered_at for one in self.pools.values()))

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

    @property
    def ahead(self) -> float:
        """Return by how much wall clocks may have been set forward, in seconds."""
        return sum(max(float(one.split()[2]), 0.0) for one in self.sim.happened if one.startswith("clock jumps"))

    @property
    def forged(self) -> bool:
        """Return whether somebody has written into the index's status with the operator's account."""
        return any(one.startswith("forged") for one in self.sim.happened)

    def served_since(self, epoch: int, weight: int) -> float | None:
        """Return when all gateways first served a weight; what a forger adds to the epoch changes nothing of that."""
        if not self.forged:
            return self.first_acknowledged.get((epoch, weight))
        return min((at for (_, one), at in self.first_acknowledged.items() if one == weight), default=None)

    def disturbed_at(self) -> float:
        """Return when the operator or its way to the API server was last gone."""
        return max(self.last_true.get("disturbed", NEVER), self.world.weather.disturbed_at)

    @property
    def let_down(self) -> bool:
        """Return whether somebody took from the operator what it knows."""
        return any(
            one in {"holder vanishes", "abandoned", "status emptied", "replace move"} for one in self.sim.happened
        )

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

    def index_deleted(self) -> bool:
        """Return whether somebody deleted the index: what answers for it ends with it, gateways last."""
        index, live = self.world.index(), self.world.gateways.live.values()
        if index is None or "deletionTimestamp" in index["metadata"]:
            return True
        return any(one.lease.uid not in {"", index["metadata"]["uid"]} for one in live)

    def gateways_apart(self) -> bool:
        """Return whether some gateway does not reach the API server."""
        return self.world.weather.down or any(one.apart for one in self.world.gateways.live.values())

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
            self.weights.append(weight)

    def _named(self, change: Change, now: float) -> None:
        """Note what ended, and what came under a name that another one had."""
        name, uid = (change.kind.plural, change.name), change.newest["metadata"]["uid"]
        if self._uids.setdefault(name, uid) != uid:
            self._uids[name] = uid
            self.recreated.add(change.name)
        if change.after is None and change.kind == kinds.MIGRATION:
            self.gone_at[uid] = now

    def _let_go(self, now: float) -> None:
        """Note to which collections the index sends queries no more."""
        routing = self.world.routing()
        arms = (routing.get("serving"), routing.get("candidate") if routing.get("weight") else None)
        used = {arm["collection"] for arm in arms if arm is not None}
        for name in self._used - used:
            self.lowered_at[name], self.heard_at[name] = now, {}
        for name in used & self.lowered_at.keys():
            del self.lowered_at[name]
        self._used = used

    def _shadowed(self, now: float, holder: Object | None) -> None:
        """Note for how long queries are put to both sides where they should not be."""
        routing = self.world.routing()
        shadowed = bool(routing.get("shadow"))
        self.shadowed_in_emergency.take(now, holds=shadowed and "emergency" in status_of(holder) and self._clear(now))
        alone = {"the index": shadowed and not routing.get("weight")}
        for name, gateway in self.world.gateways.live.items():
            found = gateway.routing(now)
            alone[name] = bool(found.shadow) and not found.weight
        for name, holds in alone.items():
            self.shadowed_alone.setdefault(name, Stretch()).take(now, holds=holds)

    def _listen(self, now: float) -> None:
        """Note which gateways say of themselves that they send no queries where the index sends none."""
        for collection in self.lowered_at:
            for name, gateway in self.world.gateways.live.items():
                found = gateway.routing(now)
                sides = (found.serving, found.candidate if found.weight else None)
                if not gateway.silent and all(arm is None or arm.collection != collection for arm in sides):
                    self.heard_at[collection].setdefault(name, now)

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
        candidate = self.world.gateways.health(routing["candidate"]["pool"])
        limit = share(holder["spec"]["rollback"]["triggers"].get("errorRate", {}).get("threshold", "5%"))
        if candidate.memory > 0.9:
            return True
        asked = self.world.gateways.callers.per_second > 0  # what nobody asks fails nobody
        # A share that is higher takes most of a minute's window to be exceeded.
        return asked and ((candidate.errors >= 0.5 and limit <= _SOON_EXCEEDED) or candidate.seconds > 1)

    def _can_go_back(self) -> bool:
        """Return whether both sides can be judged, and what served before can take the queries."""
        worker = self.world.worker
        seen = worker.runs and not worker.silent and worker.problem is None
        return seen and self.since("serving fails") >= WINDOW and self.capacity("serving")

    def _clear(self, now: float) -> bool:
        """Return whether nothing keeps the operator from seeing and doing what is due."""
        world, sim = self.world, self.sim
        calm = world.weather.calm and world.weather.lag < 1
        gateways = list(world.gateways.live.values())
        seen = bool(gateways) and not any(one.silent or one.apart for one in gateways) and self.acknowledged()
        return sim.operators.up and calm and seen and world.watches.whole


WITH_TRAFFIC = frozenset({"Canary", "Retaining"})
_FACTS: Mapping[str, Callable[[History], bool]] = {
    "acknowledged": History.acknowledged,
    "held": lambda history: history.holder() is not None,
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
    "shadow is told": lambda history: bool(history.world.routing().get("shadow")),
    "a gateway is apart": lambda history: history.gateways_apart(),
    "disturbed": lambda history: history.world.weather.down or not history.sim.operators.up,
}


def status_of(raw: Any) -> Object:
    found: Object = (raw or {}).get("status") or {}
    return found
