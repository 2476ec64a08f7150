"""Unwinds a migration whose object vanished while its index had a candidate: somebody took its finalizer off.

Nobody else may lower the weight or free the index then, so the index's own pass does, in the migration's place and by
the same decisions.
"""

from __future__ import annotations

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.controller import relations
from reembed.controller.apply import Effects
from reembed.controller.cache import Cache, Object
from reembed.controller.handlers import under_way
from reembed.controller.observe import Observer
from reembed.controller.shell import Clock
from reembed.core.decide import decide
from reembed.core.effects import SetFinalizer
from reembed.core.migration import SeenIndex
from reembed.core.model import Holder, Problem
from reembed.core.notes import Note
from reembed.core.recovery import in_place_of
from reembed.core.transitions import State


class Vanished:
    """What becomes of an index whose holder is gone."""

    def __init__(self, cluster: Cluster, cache: Cache, observer: Observer, effects: Effects, clock: Clock) -> None:
        self._cluster = cluster
        self._cache = cache
        self._writer = effects.writer
        self._observer = observer
        self._effects = effects
        self._clock = clock

    async def unwind(self, index: SeenIndex) -> Problem | None:
        """Take the next step if the holder is gone; return what is left to do, None if it is there or nothing is.

        Raises:
            ClusterError: the API server did not say whether the holder is there, or an effect failed.

        """
        holder = index.status.active_migration or self._abandoned(index)
        if holder is None or await self._exists(holder, index.meta.namespace):
            return None
        now = self._clock()
        migration = in_place_of(holder, index, now)
        seen = await self._observer.see(migration, now)
        verdict = decide(migration, seen, now)
        for effect in (*verdict.before, *verdict.after):
            if not isinstance(effect, SetFinalizer):  # there is no object to take it from
                await self._effects.apply(effect, migration, seen)
        if verdict.status.waiting:
            return Problem("HolderVanished", f"{verdict.status.message}; waiting: {verdict.status.waiting}")
        self._observer.forget(migration.meta.namespace, migration.meta.name, migration.meta.uid)
        await self._tell(index, verdict.status.message)
        return None

    def _abandoned(self, index: SeenIndex) -> Holder | None:
        """Return a name for whoever left a candidate behind that no migration of the index will come back to."""
        namespace, routing = index.meta.namespace, index.status.routing
        found = self._cache.related(kinds.MIGRATION, namespace, (relations.INDEX, index.meta.name))
        if routing.candidate is None or any(under_way(one) and _has_begun(one) for one in found):
            return None
        return Holder("abandoned", routing.candidate.collection)

    async def _exists(self, holder: Holder, namespace: str) -> bool:
        """Ask the cache, and where it knows of none the API server: a cache may lag."""
        found = self._cache.get(kinds.MIGRATION, namespace, holder.name)
        if found is None or found["metadata"]["uid"] != holder.uid:
            found = await self._cluster.get(kinds.MIGRATION, namespace, holder.name)
        return found is not None and found["metadata"]["uid"] == holder.uid

    async def _tell(self, index: SeenIndex, message: str) -> None:
        note = Note("HolderVanished", f"{message}; what it made was taken back, and the index is free", warning=True)
        try:
            await self._writer.note(kinds.INDEX, index.meta, note, self._clock())
        except ClusterError:
            return  # an event is for people; the index is free all the same


def _has_begun(migration: Object) -> bool:
    """Return whether a migration has got so far that it holds its index, or will take hold of it again."""
    return (migration.get("status") or {}).get("state") not in {None, State.PREFLIGHT.value}
