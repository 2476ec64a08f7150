"""What is true of the panel's votes and of what gateways follow: the memory of `rules_of_panels`.

It counts distinct keys of those who signed, as the agents themselves did, and knows nothing of certificates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reembed.cluster import kinds
from reembed.core.model import Arm, Routing
from reembed.core.quorum.proposals import Kind, Proposal, Side
from tests.sim.api_server import Change, Object
from tests.sim.chamber import FORGER
from tests.sim.evidence import Stretch
from tests.sim.gateways import Gateway
from tests.sim.manifests import OLD_COLLECTION

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


# What the operator wrote is known to every gateway, by the index or by the row, after so many seconds.
_KNOWN = 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """One routing that the operator itself wrote."""

    uid: str
    epoch: int
    weight: int
    candidate: str
    at: float


class PanelEvidence:
    """Of the index's panel; without one nothing is noted."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._followed: dict[Gateway, Routing] = {}
        self._told: list[Told] = []
        self.forged = False  # whether the index's routing comes from a forger's that gateways do not follow
        self.wrong = ""  # what the gateway that follows something since this event should not
        self.above: dict[str, Stretch] = {}  # by gateway that reaches the API server: while it gives more than is told
        self.asked = Stretch()  # while nothing is before the panel, or what is has no six votes
        self._asked = ""

    @property
    def votes(self) -> bool:
        return self._sim.world.chamber.sits

    def take(self, now: float, what: str, name: str, change: Change | None) -> None:
        if not self.votes:
            return
        if change is not None and change.kind == kinds.INDEX and change.by != FORGER:
            self._note(change, now)
        self.forged = self._stands_forged(change)
        gateway = self._sim.world.gateway(name) if what == "gateway follows" else None
        self.wrong = self._uncertified(gateway) if gateway is not None else ""
        self._compare(now)
        self._wait(now)

    def certified(self, uid: str, *kinds_of: Kind) -> list[Proposal]:
        """Return what six members signed for this index."""
        chamber = self._sim.world.chamber
        return [
            one
            for one in chamber.proposals.values()
            if one.kind in kinds_of and one.subject.uid == uid and chamber.quorum_of(one)
        ]

    def most(self, candidate: str) -> int:
        """Return what a gateway gives a candidate at most."""
        held = [one.lease.routing for one in self._sim.world.gateways.live.values()]
        return max((one.weight if _name(one.candidate) == candidate else 0 for one in held), default=0)

    def open(self) -> Proposal | None:
        """Return what the migration `move` has put to the panel, where six votes are missing."""
        found = self._sim.world.server.get(kinds.MIGRATION, "move")
        digest = ((found or {}).get("status", {}).get("proposal") or {}).get("digest", "")
        proposal = self._sim.world.chamber.proposals.get(digest)
        return proposal if proposal is not None and not self._sim.world.chamber.quorum_of(proposal) else None

    def _note(self, change: Change, now: float) -> None:
        after, before = ((one or {}).get("status", {}).get("routing") for one in (change.after, change.before))
        if after and after != before:
            candidate = (after.get("candidate") or {}).get("collection", "")
            told = Told(change.newest["metadata"]["uid"], after["epoch"], after.get("weight", 0), candidate, now)
            self._told.append(told)

    def _stands_forged(self, change: Change | None) -> bool:
        """Return whether a forger has written the routing since gateways and index last agreed."""
        if change is not None and change.kind == kinds.INDEX and change.by == FORGER:
            return True
        return self.forged and not self._sim.history.acknowledged()

    def _uncertified(self, gateway: Gateway) -> str:
        """Return what a gateway follows that it may not."""
        now, uid = gateway.lease.routing, gateway.lease.uid
        before = self._followed.get(gateway, Routing())
        self._followed[gateway] = now
        had = before.weight if before.candidate == now.candidate else 0
        if now.weight > had and not self._agreed(uid, now):
            text = f"it gives {now.candidate} {now.weight} % in epoch {now.epoch}, after {had} %"
            return f"{text}, which six never signed"
        if now.serving is not None and now.serving != before.serving and not self._may_serve(uid, now.serving):
            return f"{now.serving} serves in epoch {now.epoch}, which six never signed"
        return ""

    def _agreed(self, uid: str, routing: Routing) -> bool:
        """Return whether six signed for so much in this epoch, or before and nobody lowered it since."""
        for one in self.certified(uid, Kind.TRAFFIC):
            less = [
                told
                for told in self._told
                if told.uid == uid
                and one.epoch < told.epoch
                and (told.epoch <= routing.epoch or told.at < self._sim.world.now() - _KNOWN)
                and (told.weight < routing.weight or told.candidate != _name(routing.candidate))
            ]
            fits = one.epoch <= routing.epoch and one.after.weight >= routing.weight
            if fits and _name(one.after.candidate) == _name(routing.candidate) and not less:
                return True
        return False

    def _may_serve(self, uid: str, arm: Arm) -> bool:
        pointer: Object = self._sim.world.worker.store.pointer or {}
        known = {OLD_COLLECTION, pointer.get("collection")}
        return arm.collection in known | {_name(one.after.serving) for one in self.certified(uid, Kind.COMPLETE)}

    def _compare(self, now: float) -> None:
        """Note for how long gateways give a candidate more than the index says."""
        world, routing = self._sim.world, self._sim.world.routing()
        told = (routing.get("candidate") or {}).get("collection", "")
        for name, gateway in world.gateways.live.items():
            held = gateway.routing(now)
            most = routing.get("weight", 0) if told == _name(held.candidate) else 0
            if (routing.get("serving") or {}).get("collection") == _name(held.candidate):
                most = 100  # it alone serves, which is no lowering
            reaches = not (gateway.apart or world.weather.down)
            self.above.setdefault(name, Stretch()).take(now, holds=reaches and held.weight > most)

    def _wait(self, now: float) -> None:
        """Note for how long the same proposal has lacked votes."""
        found = self.open()
        digest = found.digest if found is not None else ""
        if digest != self._asked:
            self._asked, self.asked = digest, Stretch()
        self.asked.take(now, holds=found is not None)


def _name(side: Side | Arm | None) -> str:
    return side.collection if side is not None else ""
