"""One pass of an EmbedderPool: who needs it, how many pods that means, what they say.

A pool that nobody uses runs no pods; one that somebody uses runs them even while it is being deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reembed.cluster import kinds
from reembed.controller import pods
from reembed.controller.cache import Cache, Key, Object, labels_of
from reembed.controller.loop import RESYNC, Ended
from reembed.controller.manifests import embedder
from reembed.controller.settings import Settings
from reembed.controller.shell import Clock
from reembed.controller.typed import Typed
from reembed.controller.writer import Writer, conditions, differs
from reembed.core import names
from reembed.core.claims import claims, replicas
from reembed.core.conditions import of_pool
from reembed.core.model import Meta, PoolReport, PoolSpec, Problem, Variant

_MANAGER = "reembed-pools"


# The CRD takes so many.
_MOST_USERS = 1000


class Pools:
    """Makes EmbedderPools true."""

    def __init__(self, cache: Cache, typed: Typed, writer: Writer, settings: Settings, clock: Clock) -> None:
        self._cache = cache
        self._typed = typed
        self._writer = writer
        self._settings = settings
        self._clock = clock

    async def reconcile(self, key: Key) -> timedelta | Ended:
        raw, parsed = self._cache.get(kinds.POOL, key.namespace, key.name), self._typed.pool(key.namespace, key.name)
        if raw is None or parsed is None:
            return Ended.ENDED
        meta, spec = parsed
        if names.FINALIZER not in meta.finalizers:
            if meta.deleting:
                return RESYNC
            await self._writer.finalizers(kinds.POOL, meta, (*meta.finalizers, names.FINALIZER), _MANAGER)
            return timedelta(0)
        used_by = self._claims(meta, raw.get("status", {}).get("inUseBy") or ())
        if meta.deleting and not used_by:
            await self._remove(meta)
            return Ended.ENDED
        await self._run(meta, spec, claimed=bool(used_by))
        await self._report(raw, meta, spec, used_by)
        return RESYNC

    def _claims(self, meta: Meta, before: Iterable[str]) -> tuple[str, ...]:
        indexes, migrations = self._typed.users(meta.name, meta.namespace)
        seen = {index.meta.name for index in indexes}
        known = (user.removeprefix("EmbeddingIndex/") for user in before if user.startswith("EmbeddingIndex/"))
        indexes += self._typed.indexes(meta.namespace, set(known) - seen)
        return claims(meta.name, indexes, migrations, before)

    async def _run(self, meta: Meta, spec: PoolSpec, *, claimed: bool) -> None:
        for variant in spec.variants:
            wanted = self._replicas(meta, variant) if claimed else 0
            manifest = embedder.deployment(meta, spec, variant, wanted, self._settings.images)
            await self._writer.ensure(kinds.DEPLOYMENT, manifest, _MANAGER)
        await self._writer.ensure(kinds.SERVICE, embedder.service(meta), _MANAGER)
        if claimed and not self._enough(meta, spec):
            return  # whatever serves goes on until the others can take its queries
        for name in self._left_over(meta, spec):
            await self._writer.delete(kinds.DEPLOYMENT, meta.namespace, name)

    def _replicas(self, meta: Meta, variant: Variant) -> int:
        """Return how many pods a variant of a pool in use has; fewer than run are not made while queries move."""
        deployment = self._cache.get(kinds.DEPLOYMENT, meta.namespace, names.embedder(meta.name, variant.name))
        running = deployment["spec"].get("replicas", 0) if deployment is not None else 0
        return replicas(meta.name, variant.min_replicas, running, *self._typed.users(meta.name, meta.namespace))

    def _enough(self, meta: Meta, spec: PoolSpec) -> bool:
        """Return whether the pods of the variants that the pool has now are all ready."""
        wanted = _deployment_names(meta, spec)
        ready = [pods.ready_replicas(one) for one in self._deployments(meta) if one["metadata"]["name"] in wanted]
        return sum(ready) >= sum(self._replicas(meta, variant) for variant in spec.variants)

    def _left_over(self, meta: Meta, spec: PoolSpec) -> Mapping[str, str]:
        """Return the variants that the pool no longer has, by the Deployment that still runs each."""
        wanted = _deployment_names(meta, spec)
        return {
            one["metadata"]["name"]: labels_of(one).get(names.LABEL_VARIANT, "")
            for one in self._deployments(meta)
            if one["metadata"]["name"] not in wanted
        }

    async def _report(self, raw: Object, meta: Meta, spec: PoolSpec, used_by: tuple[str, ...]) -> None:
        desired = sum(self._replicas(meta, variant) for variant in spec.variants) if used_by else 0
        found = self._cache.all(kinds.POD, meta.namespace, embedder.pool_labels(meta))
        report = pods.pool_report(spec, desired, self._deployments(meta), found, memory=None)
        if used_by and report.problem is None and not self._enough(meta, spec):
            report = replace(report, problem=_kept(self._left_over(meta, spec).values()))
        status = _status(report, used_by) | {
            "observedGeneration": meta.generation,
            "conditions": conditions(of_pool(report, claimed=bool(used_by)), raw, meta, self._clock()),
        }
        if differs(status, raw):
            await self._writer.status(kinds.POOL, meta, status, _MANAGER)

    async def _remove(self, meta: Meta) -> None:
        for deployment in self._deployments(meta):
            await self._writer.delete(kinds.DEPLOYMENT, meta.namespace, deployment["metadata"]["name"])
        await self._writer.delete(kinds.SERVICE, meta.namespace, names.embedder_service(meta.name))
        kept = [one for one in meta.finalizers if one != names.FINALIZER]
        await self._writer.finalizers(kinds.POOL, meta, kept, _MANAGER)

    def _deployments(self, meta: Meta) -> list[Object]:
        label = embedder.pool_labels(meta)
        found = self._cache.all(kinds.DEPLOYMENT, meta.namespace, label)
        return [one for one in found if labels_of(one).get(names.LABEL_POOL) == names.fit(meta.name)]


def _deployment_names(meta: Meta, spec: PoolSpec) -> set[str]:
    return {names.embedder(meta.name, variant.name) for variant in spec.variants}


def _kept(variants: Iterable[str]) -> Problem | None:
    """Say that a variant outlives its removal, None if none does."""
    listed = ", ".join(sorted(variants))
    if not listed:
        return None
    text = f"variants no longer in spec ({listed}) are kept until all pods of the others are ready"
    return Problem("VariantKept", text)


def _status(report: PoolReport, used_by: tuple[str, ...]) -> dict[str, Any]:
    ready = 0 < report.desired_replicas <= report.ready_replicas
    phase = "Idle" if not used_by else "Ready" if ready else "Failed" if report.permanent else "Starting"
    return {
        "phase": phase,
        "message": report.problem.message if report.problem is not None else "",
        "readyReplicas": report.ready_replicas,
        "desiredReplicas": report.desired_replicas,
        "fingerprint": report.fingerprint,
        "inUseBy": list(used_by[:_MOST_USERS]),
    }
