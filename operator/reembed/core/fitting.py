"""Whether any node could ever have room for a pod: what is larger than every node would wait for ever.

Only a resource that some suitable node has is judged. Where none has it, as where GPUs come with nodes that an
autoscaler adds, the pod waits and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from reembed.core.model import Problem, Variant

NEVER_FITS = "NeverFits"


@dataclass(frozen=True, slots=True)
class Node:
    """A node's labels, and what pods may have of it."""

    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, Decimal] = field(default_factory=dict)


def never_fits(variant: Variant, needs: Mapping[str, Decimal], nodes: Iterable[Node]) -> Problem | None:
    """Return why no node could run a pod of a variant that needs so much; None if one could, or none is known."""
    suitable = [one for one in nodes if variant.node_selector.items() <= one.labels.items()]
    for name, needed in sorted(needs.items()):
        found = [one.allocatable[name] for one in suitable if one.allocatable.get(name)]
        if found and needed > max(found):
            text = (
                f"a pod of variant {variant.name!r} asks for {name} {_written(needed)}, and the largest of the"
                f" {len(suitable)} nodes that it may run on has {_written(max(found))} for pods; ask for less, or add a"
                " larger node"
            )
            return Problem(NEVER_FITS, text)
    return None


def _written(amount: Decimal) -> str:
    for unit, size in (("Gi", 2**30), ("Mi", 2**20)):
        if amount >= size:
            return f"{amount / size:.2f}".rstrip("0").rstrip(".") + unit
    return f"{amount:f}"
