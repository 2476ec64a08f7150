"""What callers, nodes and people do to pools that scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reembed.cluster import kinds
from reembed.core import names
from tests.sim.embedders import Leaking

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

Undo = Callable[[], None]


def _load(sim: Simulation, argument: str) -> Undo:
    """Callers ask as much as so many pods carry; afterwards as much as they did at the start."""
    embedders, before = sim.world.embedders, sim.script.scales.get("load", 0.9)
    embedders.ask(float(argument))
    return lambda: embedders.ask(before)


def _unmeasured(sim: Simulation, argument: str) -> Undo:
    """The metrics of a pool do not come; `one` of them, if it is so said."""
    pool, _, how = argument.partition(" ")
    found = [pod.name for pod in sim.world.kubelet.of("embedder", names.LABEL_POOL, pool) if pod.ready]
    silent, who = sim.world.embedders.silent, found[0] if how == "one" and found else pool
    silent.add(who)
    return lambda: silent.discard(who)


def _crowded(sim: Simulation, argument: str) -> Undo:
    """No node has room for more pods of a variant: `POOL VARIANT`."""
    deployment, kubelet = names.embedder(*argument.split()), sim.world.kubelet
    kubelet.crowded.add(deployment)
    return lambda: kubelet.place(deployment)


def _starts_late(sim: Simulation, argument: str) -> Undo:
    """The pods of a variant take long to be ready: `POOL VARIANT`."""
    deployment, held = names.embedder(*argument.split()), sim.world.kubelet.held
    held.add(deployment)
    return lambda: held.discard(deployment)


def _scaled(sim: Simulation, argument: str) -> None:
    """Somebody gives a Deployment another number of pods: `POOL VARIANT PODS`."""
    pool, variant, replicas = argument.split()
    name = names.embedder(pool, variant)
    if sim.world.server.get(kinds.DEPLOYMENT, name) is not None:
        sim.world.server.patch(kinds.DEPLOYMENT, name, {"spec": {"replicas": int(replicas)}}, "user")


def _leaks(sim: Simulation, argument: str) -> None:
    """The first ready pod of a pool loses memory: `POOL SHARE`, of its limit in an hour."""
    pool, share = argument.split()
    found = [pod for pod in sim.world.kubelet.of("embedder", names.LABEL_POOL, pool) if pod.ready]
    for pod in found[:1]:
        sim.world.embedders.leaking[pod.name] = Leaking(sim.world.now(), float(share.rstrip("%")) / 100 / 3600)


def _scaling_paused(sim: Simulation, argument: str) -> Undo:
    def pause(paused: bool) -> None:
        change = {"spec": {"scaling": {"paused": paused}}}
        sim.world.server.patch(kinds.POOL, argument, change, "user")

    pause(True)
    return lambda: pause(False)


ACTIONS: Mapping[str, Callable[[Simulation, str], Undo | None]] = {
    "load": _load,
    "unmeasured": _unmeasured,
    "crowded": _crowded,
    "leaks": _leaks,
    "starts late": _starts_late,
    "scaled": _scaled,
    "scaling paused": _scaling_paused,
}
