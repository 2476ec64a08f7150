"""Fills `Seen`: cached objects, what pods say of themselves, and what gateways counted over the last minute.

The only thing kept from pass to pass is a window of scrapes per arm: rates need two looks. After a restart the windows
are empty, which `core` takes for what it is: no data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from reembed.api import InvalidField, parse_gateway_report, parse_store_report
from reembed.cluster import kinds
from reembed.controller import pods
from reembed.controller.cache import Cache, Object
from reembed.controller.manifests import embedder
from reembed.controller.manifests import hook as hook_manifests
from reembed.controller.manifests import index as index_manifests
from reembed.controller.prometheus import Prometheus
from reembed.controller.scrape import Pods, Sample
from reembed.controller.steps import Steps
from reembed.controller.typed import Typed
from reembed.core import names
from reembed.core.hooks import HookReport
from reembed.core.measures import Counters, Window, counted
from reembed.core.migration import Migration, Seen, SeenIndex, SeenPool
from reembed.core.model import GatewayReport, JobReport, StoreReport


class Observer:
    """Looks at the world for one pass."""

    def __init__(
        self, cache: Cache, typed: Typed, scrape: Pods, prometheus: Prometheus | None, backfill_image: str
    ) -> None:
        self._cache = cache
        self._typed = typed
        self._prometheus = prometheus
        self._scrape = scrape
        self._backfill_image = backfill_image
        self._windows: dict[tuple[str, str], Mapping[str, Window]] = {}
        self._steps = Steps()

    async def see(self, migration: Migration, now: datetime) -> Seen:
        """Return the world around a migration."""
        namespace, index_name = migration.meta.namespace, migration.spec.index
        index = self.index(namespace, index_name)
        source = migration.status.serving
        if source is None and index is not None:
            source = index.status.routing.serving
        gateways = self.gateway_addresses(index) if index is not None else {}
        target, old, store, reports, metrics, queries = await asyncio.gather(
            self.pool(namespace, migration.spec.pool),
            self.pool(namespace, source.pool) if source is not None else _nothing(),
            self.store(index) if index is not None else _nothing(),
            self._scrape.json(gateways, "/v1/index"),
            self._scrape.metrics(gateways),
            self._queries(migration),
        )
        counters = {pod: counted(samples) for pod, samples in metrics.items()}
        windows = self._looked((namespace, index_name), counters, now)
        step = self._steps.look(migration, metrics, counters)
        return Seen(
            index=index,
            target=target,
            source=old,
            store=store,
            gateways=_gateway_reports(reports),
            gateway_pods=tuple(sorted(gateways)),
            arms={name: measure for name, window in windows.items() if (measure := window.judged()) is not None},
            probes={name: measure for name, window in windows.items() if (measure := window.probes()) is not None},
            job=self._job(migration),
            backfill_image=self._backfill_image,
            neighbours=self._typed.neighbours(migration),
            queries=queries,
            step=step.counts,
            overlap=step.overlap,
            hooks=self._hooks(migration),
        )

    def index(self, namespace: str, name: str) -> SeenIndex | None:
        return self._typed.index(namespace, name)

    async def pool(self, namespace: str, name: str) -> SeenPool | None:
        """Return a pool with what its pods say; its desired replicas are those its Deployments have now."""
        parsed = self._typed.pool(namespace, name)
        if parsed is None:
            return None
        meta, spec = parsed
        label = embedder.pool_labels(meta)
        found = list(self._cache.all(kinds.POD, namespace, label))
        deployments = list(self._cache.all(kinds.DEPLOYMENT, namespace, label))
        memory = _memory((await self._scrape.metrics(pods.addresses(found))).values())
        # What the pool should have, not what its Deployments have: those may not have been scaled up yet.
        desired = sum(variant.min_replicas for variant in spec.variants)
        return SeenPool(meta, spec, pods.pool_report(spec, desired, deployments, found, memory))

    async def store(self, index: SeenIndex) -> StoreReport | None:
        """Return what the index's store worker says, None if it does not answer."""
        label = index_manifests.worker_labels(index.meta)
        found = pods.addresses(self._cache.all(kinds.POD, index.meta.namespace, label))
        for answer in (await self._scrape.json(found, "/status")).values():
            return parse_store_report(answer)
        return None

    async def gateways(self, index: SeenIndex) -> tuple[GatewayReport, ...]:
        """Return what the index's gateway pods say that they serve; silent ones are left out."""
        return _gateway_reports(await self._scrape.json(self.gateway_addresses(index), "/v1/index"))

    def gateway_addresses(self, index: SeenIndex) -> dict[str, str]:
        label = index_manifests.gateway_labels(index.meta)
        return pods.running_addresses(self._cache.all(kinds.POD, index.meta.namespace, label))

    async def _queries(self, migration: Migration) -> Mapping[str, float] | None:
        """Return the values of the user's own triggers, None where there is no Prometheus to ask."""
        if self._prometheus is None:
            return None
        return await self._prometheus.values(migration.spec.limits.prometheus)

    def forget(self, namespace: str, index: str) -> None:
        """Drop the scrapes of an index that no migration looks at any more."""
        self._windows.pop((namespace, index), None)
        self._steps.forget(namespace, index)

    def _looked(
        self, index: tuple[str, str], counters: Mapping[str, Mapping[str, Counters]], now: datetime
    ) -> Mapping[str, Window]:
        arms = {name for by_arm in counters.values() for name in by_arm} | self._windows.get(index, {}).keys()
        before = self._windows.get(index, {})
        windows = {
            arm: before.get(arm, Window()).add({pod: one[arm] for pod, one in counters.items() if arm in one}, now)
            for arm in arms
        }
        self._windows[index] = {arm: window for arm, window in windows.items() if window.pods}
        return self._windows[index]

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


async def _nothing() -> None:
    return None


def _gateway_reports(answers: Mapping[str, Object]) -> tuple[GatewayReport, ...]:
    reports = []
    for pod, answer in sorted(answers.items()):
        try:
            reports.append(parse_gateway_report(dict(answer), pod))
        except InvalidField:
            continue  # an older or foreign pod: as if it had not answered, so nothing counts as acknowledged
    return tuple(reports)


def _memory(scraped: Iterable[list[Sample]]) -> float | None:
    """Return the largest share of a pod's memory limit that cannot be reclaimed.

    Mapped weights can always be read again from the file, so they count neither as used nor as room.
    """
    shares = []
    for samples in scraped:
        values = {name: value for name, _, value in samples if name.startswith("reembed_memory_")}
        limit = values.get("reembed_memory_limit_bytes", 0.0) - values.get("reembed_memory_mapped_bytes", 0.0)
        if limit > 0 and "reembed_memory_used_bytes" in values:
            shares.append(values["reembed_memory_used_bytes"] / limit)
    return max(shares, default=None)
