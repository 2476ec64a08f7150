"""One pass of an EmbeddingIndex: its gateway, its store worker, and what people read of it.

Routing and plan of the index belong to the migration that holds it (`controller.migrations`): this pass writes them
only when nobody else can, because the holder vanished or the status was emptied. Deleting an index waits for that
migration.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.controller import pods, room
from reembed.controller.apply import Effects
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.inspecting import Inspected, Inspections
from reembed.controller.loop import RESYNC, Ended
from reembed.controller.manifests import index as manifests
from reembed.controller.observe import Observer
from reembed.controller.settings import Settings
from reembed.controller.shell import Clock
from reembed.controller.vanished import Vanished
from reembed.controller.writer import conditions, differs, standing
from reembed.core import adoption, desired, keeping, names, space
from reembed.core.conditions import of_index
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import IndexStatus, Problem, StoreReport
from reembed.core.quorum import acting
from reembed.core.recovery import rebuilt

_MANAGER = "reembed-indexes"
# The store worker sees a deletion at once and gives the index's name in the store free; a store that cannot be reached
# for this long keeps the name, and says how to free it when somebody wants it.
_RELEASE_TIME = timedelta(seconds=10)
# How often a store is asked for its problems, its documents and its collections: seldom, and often while they change.
_STORE = timedelta(minutes=1)
_CHANGING = timedelta(seconds=10)
# While something of a vanished holder is left, or an emptied status is not rebuilt.
_SOON = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Told:
    """What a pass found out, for the index's status."""

    store: StoreReport | None
    problem: Problem | None
    inspected: Inspected


class Indexes:
    """Makes EmbeddingIndexes true."""

    def __init__(
        self,
        cache: Cache,
        observer: Observer,
        effects: Effects,
        vanished: Vanished,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._cache = cache
        self._writer = effects.writer
        self._observer = observer
        self._settings = settings
        self._clock = clock
        self._effects = effects
        self._vanished = vanished
        self._corrected: dict[str, str] = {}  # by UID: the Decision for which an index's gateways were applied anew
        self._inspections = Inspections(cache, observer, effects.writer, settings.images)

    async def reconcile(self, key: Key) -> timedelta | Ended:
        raw = self._cache.get(kinds.INDEX, key.namespace, key.name)
        index = self._observer.index(key.namespace, key.name)
        if raw is None or index is None:
            return Ended.ENDED
        if names.FINALIZER not in index.meta.finalizers:
            if index.meta.deleting:
                return RESYNC
            wanted = (*index.meta.finalizers, names.FINALIZER)
            await self._writer.finalizers(kinds.INDEX, index.meta, wanted, _MANAGER)
            return timedelta(0)
        if index.meta.deleting and not self._held(index):
            left = _RELEASE_TIME - (self._clock() - _deleted_at(raw))
            if left > timedelta(0):
                return left
            await self._remove(index)
            return Ended.ENDED
        store = await self._observer.store(index)
        # First of all: what keeps pods from being made must not keep queries from being taken back.
        problem = await self._vanished.unwind(index) or await self._rebuild(index, store)
        problem = problem or await self._adopt(index, store)
        await self._run(index)
        inspected = await self._inspections.keep(raw, index, store)
        told = problem or _problem(index, store)
        await self._report(raw, index, Told(store, told, inspected))
        changing = told is not None or (store is not None and space.unsettled(index, store))
        soon = problem is not None or inspected.waits
        return _SOON if soon else _CHANGING if changing else _STORE

    async def _rebuild(self, index: SeenIndex, store: StoreReport | None) -> Problem | None:
        """Write an emptied status anew from the store; return what keeps it from that."""
        if index.meta.deleting or not desired.lost(index) or store is None:
            return None
        found = rebuilt(index, store, self._pools(index), await self._observer.gateways(index))
        if isinstance(found, IndexStatus):
            await self._effects.index_status(index, found)
            return None
        return found

    async def _adopt(self, index: SeenIndex, store: StoreReport | None) -> Problem | None:
        """Let the vectors that the application has answer; return what keeps them from that."""
        adopted = index.spec.adopted
        if adopted is None or not adoption.pending(index):
            return None
        raw = self._cache.get(kinds.POOL, index.meta.namespace, adopted.pool)
        model = parse_pool(raw)[1].model if raw is not None else None
        found = adoption.advanced(index, model, store)
        if isinstance(found, IndexStatus):
            await self._effects.index_status(index, found)
            return None
        return found

    def _pools(self, index: SeenIndex) -> dict[str, str]:
        """Return the pools by fingerprint; of several with the same model, the one that the index used."""
        namespace, user = index.meta.namespace, f"EmbeddingIndex/{index.meta.name}"
        raws = sorted(
            self._cache.all(kinds.POOL, namespace), key=lambda raw: user in raw.get("status", {}).get("inUseBy", [])
        )
        return {fingerprint(spec.model): meta.name for meta, spec in map(parse_pool, raws)}

    def _held(self, index: SeenIndex) -> bool:
        """Return whether a migration that still exists holds the index."""
        holder = index.status.active_migration
        if holder is None:
            return False
        migration = self._cache.get(kinds.MIGRATION, index.meta.namespace, holder.name)
        return migration is not None and migration["metadata"]["uid"] == holder.uid

    async def _run(self, index: SeenIndex) -> None:
        meta, spec, images = index.meta, index.spec, self._settings.images
        act = acting.gateway(self._holder(index), self._clock())
        if act is not None and self._corrected.get(meta.uid) != act.decision:
            for kind in (kinds.DEPLOYMENT, kinds.SERVICE):
                self._writer.doubt(kind, meta.namespace, names.gateway(meta.name))
            self._corrected[meta.uid] = act.decision
        await self._writer.ensure(kinds.DEPLOYMENT, manifests.worker(meta, spec, images), _MANAGER)
        await self._writer.ensure(
            kinds.DEPLOYMENT, manifests.gateway(meta, spec, images, self._settings.leader_lease), _MANAGER
        )
        await self._writer.ensure(kinds.SERVICE, manifests.gateway_service(meta), _MANAGER)
        await self._writer.ensure(kinds.DISRUPTION_BUDGET, manifests.disruption_budget(meta), _MANAGER)
        if act is not None:
            await self._begin_anew(index, act.says.get("pod", ""))

    async def _begin_anew(self, index: SeenIndex, pod: str) -> None:
        """End one gateway pod that the panel found astray, while another one is ready to answer."""
        found = list(self._cache.all(kinds.POD, index.meta.namespace, manifests.gateway_labels(index.meta)))
        if pod in pods.addresses(found) and pods.ready_addresses(found).keys() - {pod}:
            await self._writer.evict(index.meta.namespace, pod, _MANAGER)

    def _holder(self, index: SeenIndex) -> Migration | None:
        """Return the migration that holds the index, None if none does that still exists."""
        holder = index.status.active_migration
        key = Key(kinds.MIGRATION, index.meta.namespace, holder.name) if holder is not None else None
        found = self._observer.migration(key) if key is not None else None
        return found if found is not None and holder is not None and found.meta.uid == holder.uid else None

    async def _report(self, raw: Object, index: SeenIndex, told: Told) -> None:
        store, inspected = told.store, told.inspected
        deployment = self._cache.get(kinds.DEPLOYMENT, index.meta.namespace, names.gateway(index.meta.name))
        ready = deployment.get("status", {}).get("readyReplicas", 0) if deployment is not None else 0
        gateway = (ready, index.spec.gateway_replicas)
        back = keeping.condition(index, store) or standing(raw, "RollbackReady")
        wanted = of_index(index.status, gateway, told.problem, inspected.condition, back)
        status: dict[str, Any] = {
            "observedGeneration": index.meta.generation,
            "phase": next(one.reason for one in wanted if one.type == "Ready"),
            "gateway": {"replicas": index.spec.gateway_replicas, "readyReplicas": ready},
            "conditions": conditions(wanted, raw, index.meta, self._clock()),
        }
        known = raw.get("status", {}).get("documents")
        counted = store.documents if store is not None and store.documents is not None else known
        if counted is not None:  # what an apply leaves out, it removes
            status["documents"] = counted
        if store is not None and store.lag is not None:
            status["liveWrites"] = _live_writes(store, store.lag)
        elif "liveWrites" in raw.get("status", {}):
            status["liveWrites"] = raw["status"]["liveWrites"]
        collections = room.told(index, store, raw)
        if collections:
            status["collections"] = collections
        if inspected.status:
            status["inspection"] = inspected.status
        if differs(status, raw):
            await self._writer.status(kinds.INDEX, index.meta, status, _MANAGER)
            await self._tell(index, inspected)

    async def _tell(self, index: SeenIndex, inspected: Inspected) -> None:
        if inspected.note is None:
            return
        try:
            await self._writer.note(kinds.INDEX, index.meta, inspected.note, self._clock())
        except ClusterError:
            return  # an event is for people; the status says the same

    async def _remove(self, index: SeenIndex) -> None:
        namespace, name = index.meta.namespace, index.meta.name
        await self._inspections.end(index)
        self._corrected.pop(index.meta.uid, None)
        await self._writer.delete(kinds.DEPLOYMENT, namespace, names.gateway(name))
        await self._writer.delete(kinds.DEPLOYMENT, namespace, names.worker(name))
        await self._writer.delete(kinds.SERVICE, namespace, names.gateway(name))
        await self._writer.delete(kinds.DISRUPTION_BUDGET, namespace, names.gateway(name))
        kept = [one for one in index.meta.finalizers if one != names.FINALIZER]
        await self._writer.finalizers(kinds.INDEX, index.meta, kept, _MANAGER)


def _live_writes(store: StoreReport, lag: timedelta) -> dict[str, Any]:
    followed = [one for one in store.collections if one.lag is not None]
    return {
        "lagSeconds": round(lag.total_seconds()),
        "owed": sum(one.owed or 0 for one in followed),
        "verified": all(one.verified is not False for one in followed),
    }


def _deleted_at(raw: Object) -> datetime:
    return datetime.fromisoformat(raw["metadata"]["deletionTimestamp"])


def _problem(index: SeenIndex, store: StoreReport | None) -> Problem | None:
    holder = index.status.active_migration
    if index.meta.deleting and holder is not None:
        text = f"deletion waits for EmbeddingMigration {holder.name!r}; delete it first"
        return Problem("DeletionWaits", text)
    return store.problem if store is not None else None
