"""Which GPU variants may have their pods replaced now: one that is replaced does not answer, so another answers first.

A GPU's pod is replaced without a surge, since the new one would wait for the GPU of the old one. So a pod of another
variant is made before, where the pool has one with room, and kept until all are replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reembed.core.model import Device, Variant
from reembed.core.scaling import Crew


@dataclass(frozen=True, slots=True)
class Cover:
    """Pods by variant with the one that answers meanwhile, and the variants whose pods stay as they are until then."""

    replicas: Mapping[str, int]
    waits: frozenset[str] = field(default_factory=frozenset)


def cover(
    variants: Sequence[Variant],
    crews: Mapping[str, Crew],
    wanted: Mapping[str, int],
    outdated: Collection[str],
    rolling: Collection[str] = (),
) -> Cover:
    """Return what to have while pods of `outdated` variants are to be replaced, and those of `rolling` ones are so."""
    gpus = [one.name for one in variants if one.device is Device.GPU and crews[one.name].ready]
    due = [name for name in gpus if name in outdated]
    under_way = [name for name in gpus if name in rolling]
    busy = {*due, *under_way}
    others = [one for one in variants if one.name not in busy and crews[one.name].refused is None]
    answers = [one.name for one in others if crews[one.name].ready]
    if busy and answers:
        return Cover({**wanted, answers[-1]: max(wanted[answers[-1]], 1)})  # without a window it would go just now
    if not due:
        return Cover(wanted)
    able = [one for one in others if one.max_replicas and not crews[one.name].stuck]
    if not able:  # one after the other; of a single one it is a gap of seconds
        return Cover(wanted, frozenset(due if under_way else due[1:]))
    name = able[-1].name
    return Cover({**wanted, name: max(wanted[name], 1)}, frozenset(due))
