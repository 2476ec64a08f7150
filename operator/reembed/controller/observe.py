"""Fills `Seen`: cached objects, and what pods said at the last look (`controller.looks`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from reembed.api import parse_pool_status
from reembed.cluster import kinds
from reembed.controller import pods
from reembed.controller.cache import Cache, Key
from reembed.controller.crews import judged, said
from reembed.controller.looks import Around, Looks
from reembed.controller.manifests import embedder
from reembed.controller.manifests import hook as hook_manifests
from reembed.controller.manifests import index as index_manifests
from reembed.controller.schema import Schema
from reembed.controller.typed import Typed
from reembed.controller.voting import Voting
from reembed.core import names, scaling
from reembed.core.decide import at_rest
from reembed.core.hooks import HookReport
from reembed.core.migration import Migration, Seen, SeenIndex, SeenPool
from reembed.core.model import GatewayReport, JobReport, PanelReport, StoreReport


class Observer:
    """Looks at the world for one pass."""

    def __init__(
        self, cache: Cache, typed: Typed, looks: Looks, schema: Schema, voting: Voting, backfill_image: str
    ) -> None:
        self._cache = cache
        self._typed = typed
        self._looks = looks
        self._schema = schema
        self._voting = voting
        self._backfill_image = backfill_image

    async def see(self, migration: Migration, now: datetime) -> Seen:
        """Return the world around a migration; of one that rests, what is known without asking any pod."""
        at_once = self.without_pods(migration)
        if at_rest(migration, at_once):
            return at_once
        look = await self._looks.look(migration, self._around(migration), now)
        # What was asked for took its time, and anything may have changed.
        index, source = self.index(migration.meta.namespace, migration.spec.index), self._source(migration)
        target = migration.spec.pool
        step = self._looks.steps.present(migration)
        return Seen(
            index=index,
            target=self._pool(migration.meta.namespace, target, look.memory.get(target)),
            source=self._pool(migration.meta.namespace, source, look.memory.get(source)) if source else None,
            store=look.store,
            gateways=look.gateways,
            gateway_pods=tuple(sorted(self._gateways(index))) if index is not None else (),
            arms=look.arms,
            probes=look.probes,
            job=self._job(migration),
            backfill_image=self._backfill_image,
            neighbours=self._typed.neighbours(migration),
            queries=look.queries,
            step=step.counts,
            overlap=step.overlap,
            found=step.found,
            hooks=self._hooks(migration),
            schema=self._schema.number,
            panel=self._panel(migration, index, now),
        )

    def without_pods(self, migration: Migration) -> Seen:
        """Return what objects alone say of a migration that has ended."""
        return Seen(
            index=self.index(migration.meta.namespace, migration.spec.index),
            target=None,
            source=None,
            store=None,
            job=self._job(migration),
            hooks=self._hooks(migration),
        )

    def index(self, namespace: str, name: str) -> SeenIndex | None:
        return self._typed.index(namespace, name)

    def migration(self, key: Key) -> Migration | None:
        return self._typed.migration(key.namespace, key.name)

    async def store(self, index: SeenIndex) -> StoreReport | None:
        """Return what the index's store worker says now, None if it does not answer."""
        return await self._looks.store(self._workers(index))

    async def gateways(self, index: SeenIndex) -> tuple[GatewayReport, ...]:
        """Return what the index's gateway pods say now that they serve; silent ones are left out."""
        return await self._looks.gateways(self._gateways(index))

    def due(self, migration: Migration, now: datetime) -> timedelta:
        """Return in how much time the next look of a migration is due."""
        return self._looks.due(migration, now)

    def forget(self, namespace: str, migration: str, uid: str) -> None:
        """Drop what is kept for a migration that has ended, or is gone."""
        self._looks.forget(namespace, migration, uid)
        self._typed.forget(Key(kinds.MIGRATION, namespace, migration))

    def _panel(self, migration: Migration, index: SeenIndex | None, now: datetime) -> PanelReport | None:
        if index is None or index.spec.panel is None:
            return None
        return self._voting.report(migration, index.spec.panel, index.meta.uid, now)

    def _source(self, migration: Migration) -> str | None:
        """Return the pool that served when the index was claimed, or that serves it before that."""
        if migration.status.serving is not None:
            return migration.status.serving.pool
        index = self.index(migration.meta.namespace, migration.spec.index)
        serving = index.status.routing.serving if index is not None else None
        return serving.pool if serving is not None else None

    def _around(self, migration: Migration) -> Around:
        namespace = migration.meta.namespace
        index = self.index(namespace, migration.spec.index)
        pools = {
            name: self._embedders(namespace, name) for name in (migration.spec.pool, self._source(migration)) if name
        }
        if index is None:
            return Around(pools=pools)
        return Around(self._gateways(index), self._workers(index), pools, index.status.routing.epoch)

    def _pool(self, namespace: str, name: str, memory: float | None) -> SeenPool | None:
        """Return a pool with what its pods say; its desired replicas are those its Deployments have now."""
        parsed = self._typed.pool(namespace, name)
        if parsed is None:
            return None
        meta, spec = parsed
        label = embedder.pool_labels(meta)
        found = list(self._cache.all(kinds.POD, namespace, label))
        deployments = list(self._cache.all(kinds.DEPLOYMENT, namespace, label))
        # What the pool should have, not what its Deployments have: those may not have been scaled up yet.
        raw = self._cache.get(kinds.POOL, namespace, name) or {}
        desired = scaling.least(spec, parse_pool_status(raw).floor)
        report = pods.pool_report(spec, desired, deployments, found, memory)
        return SeenPool(meta, spec, judged(report, said(raw)))

    def _embedders(self, namespace: str, pool: str) -> dict[str, str]:
        parsed = self._typed.pool(namespace, pool)
        if parsed is None:
            return {}
        return pods.addresses(self._cache.all(kinds.POD, namespace, embedder.pool_labels(parsed[0])))

    def _workers(self, index: SeenIndex) -> dict[str, str]:
        label = index_manifests.worker_labels(index.meta)
        return pods.addresses(self._cache.all(kinds.POD, index.meta.namespace, label))

    def _gateways(self, index: SeenIndex) -> dict[str, str]:
        label = index_manifests.gateway_labels(index.meta)
        return pods.running_addresses(self._cache.all(kinds.POD, index.meta.namespace, label))

    def _hooks(self, migration: Migration) -> Mapping[str, HookReport]:
        """Return how the Jobs of the migration's hooks are, by name."""
        namespace = migration.meta.namespace
        label = {names.LABEL_COMPONENT: "hook", names.LABEL_MIGRATION: names.fit(migration.meta.name)}
        own = list(self._cache.all(kinds.POD, namespace, label))
        return {
            job["metadata"]["name"]: hook_manifests.report(job, own)
            for job in self._cache.all(kinds.JOB, namespace, label)
        }

    def _job(self, migration: Migration) -> JobReport | None:
        label = {names.LABEL_COMPONENT: "backfill", names.LABEL_MIGRATION: names.fit(migration.meta.name)}
        found = self._cache.all(kinds.JOB, migration.meta.namespace, label)
        newest = max(found, key=lambda job: job["metadata"]["creationTimestamp"], default=None)
        own = self._cache.all(kinds.POD, migration.meta.namespace, label)
        return pods.job_report(newest, own) if newest is not None else None
