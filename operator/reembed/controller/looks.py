"""What the pods around a migration say, asked every two seconds and kept in between.

A pass that something woke decides by the last look: its answer must not wait for the pods of an index, nor a storm of
events become a storm of requests. But what pods said before anything around them changed is not believed after that, so
that a gateway is asked anew as soon as it was told something new. The looks of many migrations do not keep step: each
has a period of its own, a little below the longest, or all of them would look in the same moment for ever. While a
gateway has not followed the index yet, it is asked soon, and then less and less often.

Besides looks, only a window of scrapes per arm is kept: rates need two. After a restart there is none, which `core`
takes for what it is: no data.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reembed.api import InvalidField, parse_gateway_report, parse_store_report
from reembed.controller.cache import Object
from reembed.controller.prometheus import Prometheus
from reembed.controller.scrape import Pods, Sample
from reembed.controller.steps import Steps
from reembed.core.measures import Counters, Window, counted
from reembed.core.migration import Migration
from reembed.core.model import ArmMeasure, GatewayReport, StoreReport
from reembed.core.triggers import INTERVAL

_SHORTEST = 0.75  # of INTERVAL
_SOON = timedelta(seconds=0.2)


@dataclass(frozen=True, slots=True)
class Around:
    """The addresses of a migration's pods by name: gateways and store worker of its index, and both pools by name."""

    gateways: Mapping[str, str] = field(default_factory=dict)
    workers: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    epoch: int = 0  # of the index's routing, which gateways follow


@dataclass(frozen=True, slots=True)
class Look:
    """What was said at one moment. `memory` is by pool; arms and probes are by collection."""

    at: datetime
    lasts: timedelta  # until the next one
    epoch: int  # of the index's routing then
    gateways: tuple[GatewayReport, ...]
    store: StoreReport | None
    memory: Mapping[str, float | None]
    arms: Mapping[str, ArmMeasure]
    probes: Mapping[str, ArmMeasure]
    queries: Mapping[str, float] | None

    @property
    def behind(self) -> bool:
        """Return whether a gateway that answered did not follow the index's routing yet."""
        return any(report.epoch < self.epoch for report in self.gateways)


class Looks:
    """The last look of each migration."""

    def __init__(self, scrape: Pods, prometheus: Prometheus | None) -> None:
        self._scrape = scrape
        self._prometheus = prometheus
        self._last: dict[str, Look] = {}  # by the migration's UID
        self._doubted: set[tuple[str, str]] = set()
        # By the migration's UID: of two that look at one index, the slower one's scrape would look like a restart.
        self._windows: dict[str, Mapping[str, Window]] = {}
        self.steps = Steps()

    async def look(self, migration: Migration, around: Around, now: datetime) -> Look:
        """Return the last look, or a new one if it is time for that or something changed since."""
        uid, name = migration.meta.uid, (migration.meta.namespace, migration.meta.name)
        last = self._last.get(uid)
        if last is not None and name not in self._doubted and timedelta(0) <= now - last.at < last.lasts:
            return last
        self._last.pop(uid, None)
        self._doubted.discard(name)  # before anybody is asked: what changes meanwhile casts doubt on this look too
        look = await self._ask(migration, around, now)
        if look.behind:
            waited = last is not None and last.behind and last.epoch == look.epoch
            look = replace(look, lasts=min(2 * last.lasts if last is not None and waited else _SOON, look.lasts))
        self._last[uid] = look
        return look

    def doubt(self, namespace: str, migration: str) -> None:
        """Believe nothing of what the pods around a migration said until now."""
        self._doubted.add((namespace, migration))

    def due(self, migration: Migration, now: datetime) -> timedelta:
        """Return in how much time the next look of a migration is due."""
        last = self._last.get(migration.meta.uid)
        return max(last.at + last.lasts - now, timedelta(0)) if last is not None else timedelta(0)

    def forget(self, namespace: str, migration: str, uid: str) -> None:
        """Drop everything that was kept for a migration that needs no more looks."""
        self._last.pop(uid, None)
        self._windows.pop(uid, None)
        self.steps.forget(uid)
        self._doubted.discard((namespace, migration))

    async def gateways(self, addresses: Mapping[str, str]) -> tuple[GatewayReport, ...]:
        """Return what gateway pods say that they serve; silent ones are left out."""
        return _gateway_reports(await self._scrape.json(addresses, "/v1/index"))

    async def store(self, addresses: Mapping[str, str]) -> StoreReport | None:
        """Return what a store worker says, None if none answers."""
        for answer in (await self._scrape.json(addresses, "/status")).values():
            try:
                return parse_store_report(answer)
            except InvalidField:
                continue  # an older or foreign pod: as if it had not answered
        return None

    async def _ask(self, migration: Migration, around: Around, now: datetime) -> Look:
        gateways, store, metrics, memory, queries = await asyncio.gather(
            self.gateways(around.gateways),
            self.store(around.workers),
            self._scrape.metrics(around.gateways),
            self._memory(around.pools),
            self._queries(migration),
        )
        counters = {pod: counted(samples) for pod, samples in metrics.items()}
        windows = self._looked(migration.meta.uid, counters, now)
        self.steps.look(migration, metrics, counters, store.retrieval if store is not None else None)
        return Look(
            at=now,
            lasts=period(migration.meta.uid),
            epoch=around.epoch,
            gateways=gateways,
            store=store,
            memory=memory,
            arms={name: measure for name, window in windows.items() if (measure := window.judged()) is not None},
            probes={name: measure for name, window in windows.items() if (measure := window.probes()) is not None},
            queries=queries,
        )

    async def _memory(self, pools: Mapping[str, Mapping[str, str]]) -> dict[str, float | None]:
        scraped = await self._scrape.metrics({pod: at for pods in pools.values() for pod, at in pods.items()})
        return {pool: _memory(scraped[pod] for pod in pods if pod in scraped) for pool, pods in pools.items()}

    async def _queries(self, migration: Migration) -> Mapping[str, float] | None:
        """Return the values of the user's own triggers, None where there is no Prometheus to ask."""
        if self._prometheus is None:
            return None
        return await self._prometheus.values(migration.spec.limits.prometheus)

    def _looked(self, uid: str, counters: Mapping[str, Mapping[str, Counters]], now: datetime) -> Mapping[str, Window]:
        before = self._windows.get(uid, {})
        arms = {name for by_arm in counters.values() for name in by_arm} | before.keys()
        windows = {
            arm: before.get(arm, Window()).add({pod: one[arm] for pod, one in counters.items() if arm in one}, now)
            for arm in arms
        }
        self._windows[uid] = {arm: window for arm, window in windows.items() if window.pods}
        return self._windows[uid]


def period(uid: str) -> timedelta:
    """Return after how long a look of a migration is too old: three quarters of INTERVAL to all of it."""
    share = (zlib.crc32(uid.encode()) & 0xFFFF) / 0x10000
    return INTERVAL * (_SHORTEST + (1 - _SHORTEST) * share)


def _gateway_reports(answers: Mapping[str, Object]) -> tuple[GatewayReport, ...]:
    reports = []
    for pod, answer in sorted(answers.items()):
        try:
            reports.append(parse_gateway_report(answer, pod))
        except InvalidField:
            continue  # an older or foreign pod: as if it had not answered, so nothing counts as acknowledged
    return tuple(reports)


def _memory(scraped: Iterable[list[Sample]]) -> float | None:
    """Return the largest share of a pod's memory limit that cannot be reclaimed.

    Mapped weights can always be read again from the file, so they count neither as used nor as room.
    """
    shares = []
    for samples in scraped:
        values = {name: value for name, _, value in samples}
        limit = values.get("reembed_memory_limit_bytes", 0.0) - values.get("reembed_memory_mapped_bytes", 0.0)
        if limit > 0 and "reembed_memory_used_bytes" in values:
            shares.append(values["reembed_memory_used_bytes"] / limit)
    return max(shares, default=None)
