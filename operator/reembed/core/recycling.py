"""Replaces a pod whose memory grows towards its limit, before it is killed there, and one that a panel names.

One at a time, and never the last one.

Another pod of its variant is made first, above maxReplicas if need be, and the old one goes when that is ready; its
process answers what it has begun and tells everybody to ask others. Where no node has room for another pod (a GPU that
the old one holds), it goes if those that stay are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reembed.core.leaks import Leak
from reembed.core.scaling import Crew


@dataclass(frozen=True, slots=True)
class Recycle:
    """The pod that is being replaced, its variant, and whether it may go now."""

    pod: str
    variant: str
    goes: bool


def recycle(
    before: str | None,
    leak: Leak | None,
    pods: Mapping[str, str],
    crews: Mapping[str, Crew],
    least: int,
    asked: str | None = None,
) -> Recycle | None:
    """Return what is to be replaced; `pods` are the variants by the names of the pods that are not on their way out.

    `before` is the pod that was being replaced at the last pass, and crews are without the pod made for that. `least`
    is how many pods must be ready whatever happens, `asked` the pod that a panel agreed to replace.
    """
    due = (before, leak.pod if leak is not None else None, asked)
    pod = next((one for one in due if one in pods), None)
    variant = pods.get(pod, "") if pod is not None else ""
    crew = crews.get(variant)
    if pod is None or crew is None:
        return None
    ready = sum(one.ready for one in crews.values())
    if before != pod:
        # Whatever else is missing comes first, but for what may never find a node.
        whole = crew.ready >= crew.desired - crew.stuck
        return Recycle(pod, variant, goes=False) if ready >= least and whole else None
    replaced = crew.ready > crew.desired and ready > least
    no_room = crew.stuck > 0 and crew.ready >= 2 and ready - 1 >= max(least, 1)
    return Recycle(pod, variant, goes=replaced or no_room)
