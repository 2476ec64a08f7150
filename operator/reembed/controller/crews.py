"""The pods of a pool as `core.scaling` sees them: by variant, with what no node has room for; pure over the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reembed.controller import pods
from reembed.controller.cache import Object, labels_of
from reembed.controller.nodes import needs
from reembed.core import names
from reembed.core.fitting import NEVER_FITS, Node, never_fits
from reembed.core.model import Device, Meta, PoolReport, PoolSpec, Problem, Variant
from reembed.core.reasons import OF_ENDPOINT
from reembed.core.scaling import Crew

# A node may be about to be free, or an older pod about to leave.
_PATIENCE = timedelta(seconds=30)

GPU_IMAGE_MISSING = "GpuImageMissing"
NAME_TAKEN = "NameTaken"
UNSCHEDULABLE = "Unschedulable"


@dataclass(frozen=True, slots=True)
class Means:
    """The images that the operator can run, the nodes that it knows, and how many pods it gave Deployments by name.

    What it gave counts, whatever somebody else made of that: else a person or an autoscaler that takes pods away would
    be believed, and the load of those that are gone forgotten. `taken` says of variants whose Deployment would have the
    name of one that there is which pool that is of.
    """

    images: Mapping[Device, str]
    nodes: Sequence[Node] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crews:
    """A pool's pods. `problems` say by variant why it lacks some; `again` is when another pod has waited enough."""

    crews: Mapping[str, Crew]
    problems: Mapping[str, Problem] = field(default_factory=dict)
    ready: Mapping[str, str] = field(default_factory=dict)  # the addresses of ready pods
    variants: Mapping[str, str] = field(default_factory=dict)  # of all pods that stay, by name
    again: timedelta | None = None


def crews(
    meta: Meta,
    spec: PoolSpec,
    deployments: Iterable[Object],
    found: Sequence[Object],
    means: Means,
    now: datetime,
) -> Crews:
    """Return the pods of each variant."""
    running = {one["metadata"]["name"]: one for one in deployments}
    by_label = {names.fit(one.name): one.name for one in spec.variants}
    staying = {one["metadata"]["name"]: one for one in found if not one["metadata"].get("deletionTimestamp")}
    variants = {name: by_label.get(labels_of(pod).get(names.LABEL_VARIANT, ""), "") for name, pod in staying.items()}
    waits = {name: now - since for name, pod in staying.items() if (since := pods.unplaced_since(pod)) is not None}
    made: dict[str, Crew] = {}
    problems: dict[str, Problem] = {}
    for variant in spec.variants:
        lacks = [
            staying[name] for name, waited in waits.items() if waited >= _PATIENCE and variants[name] == variant.name
        ]
        refused = _refused(variant, means.images) or name_taken(meta, variant, means.taken)
        problem = refused or _no_room(variant, lacks, means.nodes)
        if problem is not None:
            problems[variant.name] = problem
        name = names.embedder(meta.name, variant.name)
        made[variant.name] = _crew(running.get(name), means.given.get(name), len(lacks), refused)
    left = [_PATIENCE - waited for waited in waits.values() if waited < _PATIENCE]
    return Crews(made, problems, pods.ready_addresses(found), variants, min(left, default=None))


def _no_room(variant: Variant, lacks: Sequence[Object], nodes: Sequence[Node]) -> Problem | None:
    """Return why pods of a variant find no node, None if all have found one or may soon."""
    if not lacks:
        return None
    return never_fits(variant, needs(variant), nodes) or pods.unplaced(lacks[0])


def judged(report: PoolReport, problems: Iterable[Problem]) -> PoolReport:
    """Return a pool's report with what cannot be run at all, and what lacks room for ever where it is needed."""
    for one in problems:
        if one.reason in (GPU_IMAGE_MISSING, NAME_TAKEN):
            return replace(report, problem=one)
        if one.reason == NEVER_FITS and report.ready_replicas < report.desired_replicas:
            return replace(report, problem=one, permanent=True)
        if one.reason in OF_ENDPOINT and report.problem is None:
            return replace(report, problem=one)
    return report


def said(pool: Object) -> list[Problem]:
    """Return the problems of a pool's variants and of its endpoint by its own status."""
    status = pool.get("status") or {}
    found = [one.get("reason", "") for one in status.get("variants") or ()]
    found += [one["reason"] for one in status.get("conditions") or () if one["reason"] in OF_ENDPOINT][:1]
    return [Problem(reason, status.get("message", "")) for reason in found if reason]


def _crew(deployment: Object | None, given: int | None, stuck: int, refused: Problem | None) -> Crew:
    there = deployment if deployment is not None else {"spec": {}}
    desired = given if given is not None else there["spec"].get("replicas", 0)
    return Crew(desired, min(pods.ready_replicas(there), desired), min(stuck, desired), refused)


def name_taken(meta: Meta, variant: Variant, taken: Mapping[str, str]) -> Problem | None:
    """Return why a variant can have no Deployment: `b-c` of pool `a` and `c` of pool `a-b` ask for the same name.

    The name is not made another: Deployments that run would be replaced for it.
    """
    if variant.name not in taken:
        return None
    text = (
        f"variant {variant.name!r} needs Deployment {names.embedder(meta.name, variant.name)}, which is of pool"
        f" {taken[variant.name]!r}; the variant gets no pods. Give it another name"
    )
    return Problem(NAME_TAKEN, text)


def _refused(variant: Variant, images: Mapping[Device, str]) -> Problem | None:
    if images.get(variant.device):
        return None
    text = (
        f"variant {variant.name!r} needs an image for GPUs, and the operator was given none; set the chart's"
        " images.embedderGpu (docs/embedder.md says how it is built), or remove the variant"
    )
    return Problem(GPU_IMAGE_MISSING, text)
