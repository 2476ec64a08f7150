"""What must hold of the ConfigMaps that make the pods of a model one class."""

from __future__ import annotations

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.core import names
from reembed.core.fingerprint import fingerprint
from tests.sim.embedders import probes_of
from tests.sim.history import History
from tests.sim.world import Event, World


def a_class_is_what_its_model_s_pods_said_and_never_changes(history: History, event: Event) -> str:
    """The operator makes a class once, of a pod of its own model, and leaves it alone whatever becomes of its pools."""
    change = event.change
    if change is None or change.kind != kinds.CONFIG_MAP:
        return ""
    if change.before is not None or change.after is None:
        return f"class {change.name} was changed or deleted by {change.by}"
    data = change.after["data"]
    if names.model_class(data["fingerprint"]) != change.name or data["probes"] != probes_of(data["fingerprint"]):
        return f"class {change.name} is of {data['fingerprint']}, and of other probes than its pods have"
    if not change.after.get("immutable") or change.after["metadata"].get("ownerReferences"):
        return f"class {change.name} can be changed, or goes with {change.after['metadata'].get('ownerReferences')}"
    return ""


RULES = (a_class_is_what_its_model_s_pods_said_and_never_changes,)


def not_kept(world: World) -> str:
    """Say which pool with ready pods has no class, where nothing has been in the way for long."""
    for raw in world.server.all(kinds.POOL):
        status, pool = raw.get("status") or {}, raw["metadata"]["name"]
        if not status.get("inUseBy") or not world.kubelet.ready(pool):
            continue
        name = names.model_class(fingerprint(parse_pool(raw)[1].model))
        if world.server.get(kinds.CONFIG_MAP, name) is None or status.get("class") != {"configMap": name}:
            return f"pool {pool} has ready pods, and {name} is not there, or its status says {status.get('class')}"
    return ""
