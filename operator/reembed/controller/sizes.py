"""Decides the size of a pool in one pass: what `core` makes of what the cache and the last looks know; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reembed.api import parse_pool_status
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller import engine_images, pods
from reembed.controller.cache import Cache, Object, labels_of
from reembed.controller.classes import Classes
from reembed.controller.crews import Crews, Means, crews, judged, name_taken
from reembed.controller.hosting import Hosting
from reembed.controller.loading import Loadings
from reembed.controller.manifests import embedder
from reembed.controller.nodes import Nodes
from reembed.controller.pool_loads import PoolLoads
from reembed.controller.pool_metrics import Figures
from reembed.controller.scrape import Pods
from reembed.controller.settings import Settings
from reembed.controller.typed import Typed
from reembed.core import names, scaling
from reembed.core.claims import replicas
from reembed.core.covers import cover
from reembed.core.floors import floor
from reembed.core.leaks import Leak, growth, worst
from reembed.core.load import Load
from reembed.core.model import Device, Meta, PoolReport, PoolSpec, PoolStatus, VariantStatus
from reembed.core.notes import Note
from reembed.core.pool_notes import is_recycled, notes, told
from reembed.core.quorum import acting
from reembed.core.quorum.acted import Act
from reembed.core.recycling import Recycle, recycle
from reembed.core.scaling import Crew


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pool should have, what is said of it, and when to look again."""

    replicas: Mapping[str, int]  # by variant; one that cannot be run is missing
    status: PoolStatus
    report: PoolReport
    wanted: int  # pods that should run, without those that no node has room for
    images: Mapping[Device, str]
    kept: frozenset[str] = frozenset()  # the variants whose pods stay as they are, whatever their template should be
    stuck: int = 0  # pods that no node has room for
    blind: bool = False  # whether it is not known what pods carry by which the pool is scaled
    goes: str | None = None  # the pod that is to be deleted
    notes: tuple[Note, ...] = ()
    again: timedelta | None = None
    figures: Figures | None = None  # of a pool in use


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pool in use: its objects, what it remembers, what its pods carry, and who needs it."""

    meta: Meta
    spec: PoolSpec
    before: PoolStatus
    deployments: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PoolLooks:
    """What pods are asked: what they carry, how far they are with a file, what a hosted model costs, their class."""

    loads: PoolLoads
    loadings: Loadings
    hosting: Hosting
    classes: Classes

    @classmethod
    def by(cls, scrape: Pods, cluster: Cluster) -> PoolLooks:
        return cls(PoolLoads(scrape), Loadings(scrape), Hosting(scrape), Classes(cluster, scrape))


class Sizes:
    """Decides sizes from the cache and the loads."""

    def __init__(self, cache: Cache, typed: Typed, looks: PoolLooks, nodes: Nodes, settings: Settings) -> None:
        self._cache = cache
        self._typed = typed
        self.loads = looks.loads
        self.loadings = looks.loadings
        self.hosting = looks.hosting
        self.classes = looks.classes
        self.nodes = nodes
        self.settings = settings
        self._given: dict[tuple[str, str], dict[str, int]] = {}  # pods by Deployment, of each pool in use

    def gave(self, meta: Meta, deployment: str, replicas: int) -> None:
        """Note how many pods a Deployment of a pool in use was given."""
        self._given.setdefault((meta.namespace, meta.name), {})[deployment] = replicas

    def forget(self, namespace: str, pool: str) -> None:
        self._given.pop((namespace, pool), None)

    def plan(self, raw: Object, meta: Meta, spec: PoolSpec, used_by: Iterable[str], now: datetime) -> Plan:
        users = tuple(used_by)
        label = embedder.pool_labels(meta)
        found = list(self._cache.all(kinds.POD, meta.namespace, label))
        seen = _Seen(meta, spec, parse_pool_status(raw), self.deployments(meta), found)
        return self._used(seen, users, now) if users else self._idle(seen)

    def deployments(self, meta: Meta) -> list[Object]:
        found = self._cache.all(kinds.DEPLOYMENT, meta.namespace, embedder.pool_labels(meta))
        return [one for one in found if labels_of(one).get(names.LABEL_POOL) == names.fit(meta.name)]

    def _idle(self, seen: _Seen) -> Plan:
        images = engine_images.wanted(self.settings.images)
        report = pods.pool_report(seen.spec, 0, seen.deployments, seen.pods, memory=None)
        taken = self._taken(seen)
        runnable = {one.name: 0 for one in seen.spec.variants if one.device in images and one.name not in taken}
        problems = (name_taken(seen.meta, one, taken) for one in seen.spec.variants)
        report = judged(report, [one for one in problems if one is not None])
        return Plan(runnable, PoolStatus(), report, 0, images)

    def _taken(self, seen: _Seen) -> dict[str, str]:
        """Return the variants whose Deployment would have the name of another pool's, with that pool."""
        meta, own = seen.meta, names.fit(seen.meta.name)
        wanted = {variant.name: names.embedder(meta.name, variant.name) for variant in seen.spec.variants}
        there = {one: self._cache.get(kinds.DEPLOYMENT, meta.namespace, name) for one, name in wanted.items()}
        pools = {one: labels_of(found).get(names.LABEL_POOL, own) for one, found in there.items() if found is not None}
        return {one: pool for one, pool in pools.items() if pool != own}

    def _used(self, seen: _Seen, users: tuple[str, ...], now: datetime) -> Plan:
        meta, spec, before = seen.meta, seen.spec, seen.before
        running = before.images or _running(seen.deployments)
        new = engine_images.wanted(self.settings.images)
        images = engine_images.chosen(self._cache, meta, running, self.settings.images, users)
        # Somebody who pauses a pool may scale it by hand.
        given = self._given.get((meta.namespace, meta.name), {}) if not spec.scaling.paused else {}
        here = crews(
            meta, spec, seen.deployments, seen.pods, Means(images, self.nodes.known, given, self._taken(seen)), now
        )
        loads = self.loads.of(meta.namespace)
        load = loads.get(meta.name, Load())
        _, migrations = self._typed.users(meta.name, meta.namespace)
        needed = floor(meta.name, migrations, loads, before.floor)
        standing = _without_surge(meta, before.recycling, here.crews)
        size = scaling.size(spec, standing, load, needed, before.standing, now)
        leak = worst(load) if not spec.scaling.paused else None
        least = scaling.least(spec, needed)
        act = acting.pod(meta, migrations, now) if not spec.scaling.paused else None
        asked = act.says.get("pod") if act is not None else None
        going = recycle(before.recycling, leak, here.variants, standing, least, asked)
        pinned = any(images.get(device) != image for device, image in new.items())
        outdated = set() if pinned else self._outdated(seen, images)
        rolling = {labels_of(one).get(names.LABEL_VARIANT, "") for one in seen.deployments if pods.is_rolling(one)}
        covered = cover(spec.variants, here.crews, _surged(size.replicas, going), outdated, rolling)
        wanted = self._kept(meta, covered.replicas, standing)
        types = {name: self._weight_types(seen, name, load) for name in wanted}
        status = told(before, _status(before, size, needed, (wanted, here, going, images, types)), now)
        report = self._judged(seen, here, least)
        return Plan(
            replicas={name: count for name, count in wanted.items() if here.crews[name].refused is None},
            status=status,
            report=report,
            wanted=max(least, sum(max(count - here.crews[name].lacking, 0) for name, count in wanted.items())),
            images=images,
            kept=frozenset(wanted) if pinned else covered.waits,
            stuck=sum(one.lacking for one in here.crews.values()),
            blind=scaling.scales(spec) and scaling.blind(load) > 0,
            goes=going.pod if going is not None and going.goes else None,
            notes=notes(before, status, dict(here.problems), _why(leak, act, going)),
            again=here.again,
            figures=Figures(status, size.wanted, growth(load), spec.scaling.paused, is_recycled(before, status)),
        )

    def _outdated(self, seen: _Seen, images: Mapping[Device, str]) -> set[str]:
        """Return the variants whose pods are of another template than they should be; only GPUs have to know."""
        if all(one.device is Device.CPU for one in seen.spec.variants):
            return set()
        given = self.settings.images.with_engines(images)
        running = {one["metadata"]["name"]: one["metadata"].get("annotations") or {} for one in seen.deployments}
        found = set()
        for variant in seen.spec.variants:
            made = embedder.deployment(seen.meta, seen.spec, variant, 0, given)["metadata"]
            digest = running.get(made["name"], {}).get(names.ANNOTATION_TEMPLATE)
            if digest is not None and digest != made["annotations"][names.ANNOTATION_TEMPLATE]:
                found.add(variant.name)
        return found

    def _kept(self, meta: Meta, wanted: Mapping[str, int], present: Mapping[str, Crew]) -> dict[str, int]:
        """Return the pods that a variant is given; fewer than run are not made while queries move."""
        users = self._typed.users(meta.name, meta.namespace)
        return {name: replicas(meta.name, count, present[name].desired, *users) for name, count in wanted.items()}

    def _weight_types(self, seen: _Seen, variant: str, load: Load) -> tuple[str, ...]:
        """Return in which types a variant's pods multiply; as it was, before they were asked."""
        own = {
            pod["metadata"]["name"]
            for pod in seen.pods
            if labels_of(pod).get(names.LABEL_VARIANT) == names.fit(variant)
        }
        found = {track.marks[-1][1].weights for pod, track in load.tracks.items() if pod in own} - {""}
        known = next((one.weight_types for one in seen.before.variants if one.name == variant), ())
        return tuple(sorted(found)) or known

    def _judged(self, seen: _Seen, here: Crews, least: int) -> PoolReport:
        report = judged(
            pods.pool_report(seen.spec, least, seen.deployments, seen.pods, memory=None), here.problems.values()
        )
        if report.problem is not None:
            return report
        if report.ready_replicas < report.desired_replicas:
            return replace(report, problem=self.loadings.of(seen.meta.namespace, seen.meta.name))
        return replace(report, problem=pods.stranger(seen.pods))


def _status(
    before: PoolStatus,
    size: scaling.Size,
    needed: int,
    decided: tuple[Mapping[str, int], Crews, Recycle | None, Mapping[Device, str], Mapping[str, tuple[str, ...]]],
) -> PoolStatus:
    wanted, here, going, images, types = decided
    used = {variant for variant in wanted if wanted[variant] or here.crews[variant].refused}
    reasons = {name: here.problems[name].reason for name in used if name in here.problems}
    return PoolStatus(
        variants=tuple(
            VariantStatus(name, count, here.crews[name].ready, reasons.get(name, ""), types[name])
            for name, count in wanted.items()
        ),
        reason=size.reason,
        message=size.message,
        at=before.at,
        floor=needed,
        recycling=going.pod if going is not None else None,
        standing=size.standing,
        images=images,
    )


def _surged(wanted: Mapping[str, int], going: Recycle | None) -> dict[str, int]:
    return {name: count + (going is not None and going.variant == name) for name, count in wanted.items()}


def _without_surge(meta: Meta, recycling: str | None, present: Mapping[str, Crew]) -> dict[str, Crew]:
    """Return crews without the pod that was made to replace another, which may be gone by now."""
    if recycling is None:
        return dict(present)
    own = [name for name in present if recycling.startswith(names.pods_of(names.embedder(meta.name, name)))]
    surged = max(own, key=len, default="")
    return {
        name: replace(crew, desired=max(crew.desired - 1, 0)) if name == surged else crew
        for name, crew in present.items()
    }


def _running(deployments: Iterable[Object]) -> dict[Device, str]:
    """Return the image that pods run by their Deployment, where the status that said so was emptied."""
    for one in deployments:
        (container,) = one["spec"]["template"]["spec"]["containers"]
        environment = {entry["name"]: entry.get("value") for entry in container.get("env") or ()}
        if one["spec"].get("replicas", 0) and environment.get("REEMBED_DEVICE", Device.CPU.value) == Device.CPU.value:
            return {Device.CPU: container["image"]}
    return {}


def _why(leak: Leak | None, act: Act | None, going: Recycle | None) -> str:
    """Return why a pod is being replaced."""
    if leak is not None and going is not None and leak.pod == going.pod:
        return leak.told()
    return f"the panel has pod {act.says.get('pod')} replaced (Decision {act.decision})" if act is not None else ""
