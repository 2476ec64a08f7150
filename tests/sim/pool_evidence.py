"""What is true of pools that scale, and since when: their load, and whether anybody could know of it.

It counts pods from the world's own load and knows nothing of targets, lines or windows: a load of 2.5 needs three pods,
and that can be known once it lasted for as long as a pod's figures are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reembed.cluster import kinds
from reembed.core import names
from tests.sim.api_server import Change, Object
from tests.sim.evidence import Stretch

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

# Figures are averages of half a minute, looked at every five seconds.
KNOWN_AFTER = 45.0
# So much more than a number of pods is needed before one more certainly is.
_CERTAIN = 0.15
_NEVER = -1e9
# Until the last query moved, either side may have to answer all of them.
_MOVING = frozenset({"Evaluating", "Canary", "Retaining", "Promoting"})


class PoolEvidence:
    """Of one pool."""

    def __init__(self, sim: Simulation, pool: str) -> None:
        self._sim = sim
        self.pool = pool
        self.spec: Object = sim.script.scales["pools"][pool]
        self._demand = 0.0
        self._desired = 0
        self._above: dict[int, Stretch] = {}
        self.needed_at: dict[int, float] = {}  # by number of pods: when more were last known to be needed
        self.changed_at = 0.0  # when the load was last another one
        self.hindered_at = 0.0  # when anything last kept the operator from knowing or acting
        self.unmeasured = Stretch()  # while a ready pod does not answer
        self.paused = Stretch()
        self.short = Stretch()  # while more pods are needed, and could be had
        self.idle = Stretch()  # while fewer pods would do
        self.enough_at = 0.0  # when more pods than have to be were last ready
        self.leaked_at = _NEVER  # when a pod of it last leaked
        self.leaks: set[str] = set()  # every pod of it that ever leaked
        self.ready_at = 0.0  # when another number of pods was last ready
        self._ready = 0
        self._hands: dict[str, tuple[int, Stretch]] = {}  # by Deployment that somebody scaled: its pods before
        self.put_right = False  # whether what happened just now only takes away what somebody added
        self.put_wrong = ""  # what was made of a Deployment that somebody scaled, though nothing else happened
        self._jumps = 0  # of clocks

    def take(self, now: float, change: Change | None = None) -> None:
        world = self._sim.world
        self._touch(change, now)
        if self.ready() != self._ready:
            self._ready, self.ready_at = self.ready(), now
        demand = world.embedders.demand(self.pool)
        if demand != self._demand:
            self._demand, self.changed_at = demand, now
        silent = any(pod.ready and world.embedders.is_silent(pod) for pod in self._pods())
        self.unmeasured.take(now, holds=silent)
        self.paused.take(now, holds=self._paused())
        clear = self._clear() and not silent
        if not clear:
            self.hindered_at = now
        for count in range(self.most()):
            above = self._above.setdefault(count, Stretch())
            above.take(now, holds=clear and demand >= count + _CERTAIN)
            if above.lasted(now) >= KNOWN_AFTER:
                self.needed_at[count] = now
        found = [pod.name for pod in self._pods() if pod.name in world.embedders.leaking]
        self.leaks.update(found)
        if found:
            self.leaked_at = now
        if self.ready() > self.least():
            self.enough_at = now
        free = clear and not self.paused.since and not self.moving()
        self.short.take(now, holds=free and demand > self.desired() * 1.15 + 0.05 and self.desired() < self.most())
        jumps = sum(one.startswith("clock jumps") for one in self._sim.happened)
        if self.desired() != self._desired or self.changed_at == now or jumps != self._jumps:
            self.idle = Stretch()  # each number of pods has a window of its own, which the load may begin anew
        self._desired, self._jumps = self.desired(), jumps
        more = self.desired() > max(self.least(), demand * 1.07 + 1.1)
        self.idle.take(now, holds=free and more and now - self.leaked_at > 60)
        for _, stretch in self._hands.values():
            stretch.take(now, holds=free)

    def desired(self) -> int:
        return sum(self.replicas(one["name"]) for one in self.spec["variants"])

    def replicas(self, variant: str) -> int:
        found = self._sim.world.server.get(kinds.DEPLOYMENT, names.embedder(self.pool, variant))
        return int(found["spec"]["replicas"]) if found is not None else 0

    def stays(self) -> int:
        """Return how many of the pods that answer now their Deployments keep."""
        ready = [pod.deployment for pod in self._pods() if pod.ready and not pod.leaving]
        found = {names.embedder(self.pool, one["name"]): self.replicas(one["name"]) for one in self.spec["variants"]}
        return sum(min(ready.count(name), replicas) for name, replicas in found.items())

    def placed(self) -> int:
        """Return how many pods there should be, without those that wait for a node."""
        return self.desired() - sum(not pod.placed for pod in self._pods() if not pod.leaving)

    def touched(self, now: float) -> float:
        """Return for how long a Deployment has been as somebody else scaled it, where nothing is in the way."""
        return max((stretch.lasted(now) for _, stretch in self._hands.values()), default=0.0)

    def ready(self) -> int:
        return self._sim.world.kubelet.ready(self.pool)

    def most(self) -> int:
        return sum(int(one["maxReplicas"]) for one in self.spec["variants"])

    def least(self) -> int:
        """Return how many pods there must be: the minimum, and while queries move what the status says they need."""
        minimum = sum(int(one["minReplicas"]) for one in self.spec["variants"])
        status = (self._object().get("status") or {}).get("scaling") or {}
        return min(max(minimum, status.get("floor", 0) if self.moving() else 0), self.most())

    def window(self) -> float:
        return 60 * float(self.spec["scaling"]["scaleDownWindow"].rstrip("m"))

    def moving(self) -> bool:
        """Return whether a migration of this pool may send queries either way."""
        for one in self._sim.world.migrations():
            status, serving = one.get("status") or {}, (one.get("status") or {}).get("serving") or {}
            sides = {one["spec"]["target"]["poolRef"]["name"], serving.get("pool")}
            if self.pool in sides and status.get("state") in _MOVING:
                return True
        return False

    def used(self) -> bool:
        return bool((self._object().get("status") or {}).get("inUseBy"))

    def recycling(self) -> str | None:
        found: str | None = ((self._object().get("status") or {}).get("scaling") or {}).get("recycling")
        return found

    def _touch(self, change: Change | None, now: float) -> None:
        """Note who scales a Deployment."""
        self.put_right, self.put_wrong = False, ""
        if change is None or change.kind != kinds.DEPLOYMENT or change.before is None or change.after is None:
            return
        before, after = (int(one["spec"]["replicas"]) for one in (change.before, change.after))
        if before == after or change.name not in {
            names.embedder(self.pool, one["name"]) for one in self.spec["variants"]
        }:
            return
        if change.by == "user":
            self._hands.setdefault(change.name, (before, Stretch()))
        elif change.name in self._hands:
            had, _ = self._hands.pop(change.name)
            self.put_right = after >= had
            calm = now - max(self.changed_at, self.hindered_at) > 2 * KNOWN_AFTER + self.window()
            self.put_wrong = f"had {had} pods, and after somebody changed that {after}" if calm and after != had else ""

    def _clear(self) -> bool:
        """Return whether nothing keeps the operator from seeing and doing what is due."""
        sim, world = self._sim, self._sim.world
        calm = sim.operators.up and world.weather.calm and world.weather.lag < 1 and world.watches.whole
        placed = not world.kubelet.crowded and not world.kubelet.full and not world.kubelet.held
        return calm and placed and self.ready() > 0 and self.used()

    def _pods(self) -> Iterator:  # type: ignore[type-arg]
        return iter(self._sim.world.kubelet.of("embedder", names.LABEL_POOL, self.pool))

    def _paused(self) -> bool:
        return bool((self._object()["spec"].get("scaling") or {}).get("paused"))

    def _object(self) -> Object:
        found = self._sim.world.server.get(kinds.POOL, self.pool)
        return found if found is not None else {"spec": {}}


def evidence(sim: Simulation) -> dict[str, PoolEvidence]:
    """Return what is to be known of each pool that scales."""
    return {pool: PoolEvidence(sim, pool) for pool in sim.script.scales.get("pools", {})}
