"""One pass of an EmbedderPool: who needs it, how many pods that means, what they say.

A pool that nobody uses runs no pods; one that somebody uses runs them even while it is being deleted. How many are
enough is decided by `core.scaling` from what the pods carry (`controller.pool_loads`, `controller.sizes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reembed.api import render_pool_status
from reembed.api.hosted import parse_hosted_status, render_hosted_status
from reembed.cluster import kinds
from reembed.controller import classes, engine_images, hosting, pods
from reembed.controller.cache import Cache, Key, Object, labels_of
from reembed.controller.hosting import Asked
from reembed.controller.loop import RESYNC, Ended
from reembed.controller.manifests import embedder
from reembed.controller.pool_metrics import PoolMetrics
from reembed.controller.shell import Clock
from reembed.controller.sizes import Plan, Sizes
from reembed.controller.typed import Typed
from reembed.controller.writer import Writer, conditions, differs
from reembed.core import names, scaling
from reembed.core.claims import claims
from reembed.core.conditions import of_pool
from reembed.core.fingerprint import fingerprint
from reembed.core.hosted import notes as hosted_notes
from reembed.core.model import Meta, PoolSpec, Problem
from reembed.core.quorum import acting
from reembed.core.quorum.proposals import Kind

_MANAGER = "reembed-pools"


# The CRD takes so many.
_MOST_USERS = 1000


class Pools:
    """Makes EmbedderPools true."""

    def __init__(
        self, cache: Cache, typed: Typed, writer: Writer, sizes: Sizes, metrics: PoolMetrics, clock: Clock
    ) -> None:
        self._cache = cache
        self._typed = typed
        self._writer = writer
        self._clock = clock
        self._sizes = sizes
        self._metrics = metrics
        self._corrected: dict[str, str] = {}  # by UID: the Decision for which a pool was applied anew
        self._loads = sizes.loads
        self._loadings = sizes.loadings
        self._hosting = sizes.hosting
        self._classes = sizes.classes

    async def reconcile(self, key: Key) -> timedelta | Ended:
        await self._look(key)
        # What was asked for took its time, and anything may have changed.
        raw, parsed = self._cache.get(kinds.POOL, key.namespace, key.name), self._typed.pool(key.namespace, key.name)
        if raw is None or parsed is None:
            self._metrics.forget(key.namespace, key.name)
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
            self._metrics.forget(key.namespace, key.name)
            return Ended.ENDED
        plan = self._sizes.plan(raw, meta, spec, used_by, self._clock())
        await self._run(meta, spec, plan, claimed=bool(used_by))
        await self._report(raw, meta, spec, used_by, plan)
        self._metrics.take(key.namespace, key.name, plan.figures)
        return min(self._again(meta, spec, plan), await self._class(raw, meta, spec)) if used_by else RESYNC

    async def _look(self, key: Key) -> None:
        """Ask the pods of a pool in use what they carry, if it is time."""
        raw, parsed = self._cache.get(kinds.POOL, key.namespace, key.name), self._typed.pool(key.namespace, key.name)
        if raw is None or parsed is None or not (raw.get("status") or {}).get("inUseBy"):
            self._loads.forget(key.namespace, key.name)
            self._loadings.forget(key.namespace, key.name)
            self._hosting.forget((key.namespace, key.name))
            self._classes.forget((key.namespace, key.name))
            self._sizes.forget(key.namespace, key.name)
            return
        meta, spec = parsed
        now, often = self._clock(), self._often(meta, spec, raw)
        found = list(self._cache.all(kinds.POD, meta.namespace, embedder.pool_labels(meta)))
        if not self._loads.due(meta.namespace, meta.name, now, often=often):
            await self._loads.look(meta.namespace, meta.name, pods.ready_addresses(found), now)
        await self._loadings.look(meta.namespace, meta.name, pods.starting_addresses(found), now)
        if spec.external is not None:
            asked = Asked(
                (meta.namespace, meta.name),
                parse_hosted_status(raw),
                spec.external.budget_tokens,
                running=pods.running_addresses(found),
                ready=frozenset(pods.ready_addresses(found)),
                alive=pods.alive(found),
            )
            await self._hosting.look(asked, now)
        if any(pods.unplaced(pod) is not None for pod in found):
            await self._sizes.nodes.look(now)

    def _often(self, meta: Meta, spec: PoolSpec, raw: Object) -> bool:
        """Return whether the number of somebody's pods depends on what the pool's pods say now."""
        if scaling.scales(spec) or (raw["status"].get("scaling") or {}).get("recycling"):
            return True
        _, migrations = self._typed.users(meta.name, meta.namespace)
        arms = [one.status.serving for one in migrations]
        sides = {one.spec.pool for one in migrations} | {arm.pool for arm in arms if arm is not None}
        found = [self._typed.pool(meta.namespace, name) for name in sides - {meta.name}]
        return any(one is not None and scaling.scales(one[1]) for one in found)

    def _again(self, meta: Meta, spec: PoolSpec, plan: Plan) -> timedelta:
        raw = {"status": {"scaling": {"recycling": plan.status.recycling}}}
        due = self._loads.due(meta.namespace, meta.name, self._clock(), often=self._often(meta, spec, raw))
        hosted = hosting.EVERY if spec.external is not None else None
        others = (plan.again, self._loadings.due(meta.namespace, meta.name), hosted)
        return min([due, RESYNC, *(one for one in others if one is not None)])

    async def _class(self, raw: Object, meta: Meta, spec: PoolSpec) -> timedelta:
        """See to it that the pods' class is kept, last of all: nothing waits for it. Return when to look again."""
        if spec.external is not None:
            return RESYNC
        found = self._cache.all(kinds.POD, meta.namespace, embedder.pool_labels(meta))
        asked = classes.Asked((meta.namespace, meta.name), fingerprint(spec.model), pods.ready_addresses(found))
        known = self._classes.kept(asked.key) or "class" in (raw.get("status") or {})
        await self._classes.look(asked, self._clock())
        if self._classes.kept(asked.key) and not known:
            return timedelta(0)  # the status is to tell it
        return self._classes.due(asked) or RESYNC

    def _claims(self, meta: Meta, before: Iterable[str]) -> tuple[str, ...]:
        indexes, migrations = self._typed.users(meta.name, meta.namespace)
        seen = {index.meta.name for index in indexes}
        known = (user.removeprefix("EmbeddingIndex/") for user in before if user.startswith("EmbeddingIndex/"))
        indexes += self._typed.indexes(meta.namespace, set(known) - seen)
        return claims(meta.name, indexes, migrations, before)

    async def _run(self, meta: Meta, spec: PoolSpec, plan: Plan, *, claimed: bool) -> None:
        self._doubt(meta, spec)
        for variant in spec.variants:
            if variant.name in plan.replicas:
                made = self._deployment(meta, spec, variant.name, plan)
                await self._writer.ensure(kinds.DEPLOYMENT, made, _MANAGER)
                if claimed:
                    self._sizes.gave(meta, made["metadata"]["name"], plan.replicas[variant.name])
        await self._writer.ensure(kinds.SERVICE, embedder.service(meta), _MANAGER)
        await self._writer.ensure(kinds.DISRUPTION_BUDGET, embedder.disruption_budget(meta, plan.stuck), _MANAGER)
        if plan.goes is not None:
            await self._writer.evict(meta.namespace, plan.goes, _MANAGER)
        if claimed and (plan.blind or not self._enough(meta, spec, plan)):
            return  # whatever serves goes on until the others can take its queries, and it is known what it carries
        for name in self._left_over(meta, spec):
            await self._writer.delete(kinds.DEPLOYMENT, meta.namespace, name)

    def _doubt(self, meta: Meta, spec: PoolSpec) -> None:
        """Have everything of the pool compared anew, once, where a panel found that a pod is not what it should be."""
        act = acting.pod(meta, self._typed.users(meta.name, meta.namespace)[1], self._clock())
        if act is None or act.kind is not Kind.CORRECT or self._corrected.get(meta.uid) == act.decision:
            return
        for variant in spec.variants:
            self._writer.doubt(kinds.DEPLOYMENT, meta.namespace, names.embedder(meta.name, variant.name))
        self._writer.doubt(kinds.SERVICE, meta.namespace, names.embedder_service(meta.name))
        self._corrected[meta.uid] = act.decision

    def _deployment(self, meta: Meta, spec: PoolSpec, name: str, plan: Plan) -> dict[str, Any]:
        (variant,) = (one for one in spec.variants if one.name == name)
        if name in plan.kept:
            there = self._cache.get(kinds.DEPLOYMENT, meta.namespace, names.embedder(meta.name, name))
            if there is not None:
                return engine_images.kept(there, plan.replicas[name])
        images = self._sizes.settings.images.with_engines(plan.images)
        return embedder.deployment(meta, spec, variant, plan.replicas[name], images)

    def _enough(self, meta: Meta, spec: PoolSpec, plan: Plan) -> bool:
        """Return whether the pods of the variants that the pool has now are all ready."""
        wanted = _deployment_names(meta, spec)
        found = self._sizes.deployments(meta)
        return sum(pods.ready_replicas(one) for one in found if one["metadata"]["name"] in wanted) >= plan.wanted

    def _left_over(self, meta: Meta, spec: PoolSpec) -> Mapping[str, str]:
        """Return the variants that the pool no longer has, by the Deployment that still runs each."""
        wanted = _deployment_names(meta, spec)
        return {
            one["metadata"]["name"]: labels_of(one).get(names.LABEL_VARIANT, "")
            for one in self._sizes.deployments(meta)
            if one["metadata"]["name"] not in wanted
        }

    async def _report(self, raw: Object, meta: Meta, spec: PoolSpec, used_by: tuple[str, ...], plan: Plan) -> None:
        report = plan.report
        if used_by and report.problem is None and (plan.blind or not self._enough(meta, spec, plan)):
            report = replace(report, problem=_kept(self._left_over(meta, spec).values()))
        where = (meta.namespace, meta.name)
        if used_by and report.problem is None and spec.external is not None:
            report = replace(report, problem=self._hosting.problem(where, spec.external.budget_tokens))
        notes = plan.notes
        now, told = self._clock(), of_pool(report, claimed=bool(used_by), wanted=plan.wanted)
        status = _status(replace(plan, report=report), used_by) | {
            "observedGeneration": meta.generation,
            "conditions": conditions(told, raw, meta, now),
            "class": self._class_told(raw, meta, spec),
        }
        if spec.external is not None:
            before = parse_hosted_status(raw)
            known = self._hosting.status(where, before)
            status["external"] = render_hosted_status(known)
            notes += hosted_notes(before, known)
        if differs(status, raw):
            await self._writer.status(kinds.POOL, meta, status, _MANAGER)
            for note in notes:
                await self._writer.note(kinds.POOL, meta, note, now)

    def _class_told(self, raw: Object, meta: Meta, spec: PoolSpec) -> dict[str, str] | None:
        """Return where the class is kept; an operator that did not look yet goes by what was told before."""
        if not self._classes.kept((meta.namespace, meta.name)):
            found: dict[str, str] | None = raw.get("status", {}).get("class")
            return found
        return {"configMap": names.model_class(fingerprint(spec.model))}

    async def _remove(self, meta: Meta) -> None:
        for deployment in self._sizes.deployments(meta):
            await self._writer.delete(kinds.DEPLOYMENT, meta.namespace, deployment["metadata"]["name"])
        for kind in (kinds.SERVICE, kinds.DISRUPTION_BUDGET):
            await self._writer.delete(kind, meta.namespace, names.embedder_service(meta.name))
        self._corrected.pop(meta.uid, None)
        kept = [one for one in meta.finalizers if one != names.FINALIZER]
        await self._writer.finalizers(kinds.POOL, meta, kept, _MANAGER)


def _deployment_names(meta: Meta, spec: PoolSpec) -> set[str]:
    return {names.embedder(meta.name, variant.name) for variant in spec.variants}


def _kept(variants: Iterable[str]) -> Problem | None:
    """Say that a variant outlives its removal, None if none does."""
    listed = ", ".join(sorted(variants))
    if not listed:
        return None
    text = f"variants no longer in spec ({listed}) are kept until all pods of the others are ready and measured"
    return Problem("VariantKept", text)


def _status(plan: Plan, used_by: tuple[str, ...]) -> dict[str, Any]:
    report = plan.report
    ready = 0 < report.desired_replicas <= report.ready_replicas
    phase = "Idle" if not used_by else "Ready" if ready else "Failed" if report.permanent else "Starting"
    return render_pool_status(plan.status) | {
        "phase": phase,
        "message": report.problem.message if report.problem is not None else "",
        "readyReplicas": report.ready_replicas,
        "desiredReplicas": plan.wanted,
        "fingerprint": report.fingerprint,
        "inUseBy": list(used_by[:_MOST_USERS]),
    }
