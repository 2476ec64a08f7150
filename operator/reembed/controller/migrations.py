"""One pass of an EmbeddingMigration: observe, decide, apply.

The status decided last is kept in memory, since a trigger's time is not written at each pass; after a restart it is
read from the object. An effect that fails ends the pass; the next one decides anew from what is there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from reembed.api import parse_migration, render_index_status
from reembed.api.status import parse_migration_status, render_migration_status
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.loop import Ended
from reembed.controller.manifests import backfill
from reembed.controller.observe import Observer
from reembed.controller.settings import Settings
from reembed.controller.shell import Clock
from reembed.controller.writer import Writer, conditions
from reembed.core import names
from reembed.core.conditions import of_migration
from reembed.core.decide import Verdict, decide, worth_writing
from reembed.core.effects import ApplyJob, DeleteJob, Effect, SetFinalizer, SetIndexStatus
from reembed.core.migration import Migration, Seen, Status
from reembed.core.transitions import FINISHED

_MANAGER = "reembed-migrations"
# A finished migration has nothing to do; it is looked at when it changes.
_FINISHED_LOOK = timedelta(hours=1)


class Migrations:
    """Makes EmbeddingMigrations true."""

    def __init__(self, cache: Cache, writer: Writer, observer: Observer, settings: Settings, clock: Clock) -> None:
        self._cache = cache
        self._writer = writer
        self._observer = observer
        self._settings = settings
        self._clock = clock
        self._decided: dict[str, Status] = {}  # by UID
        self._written: dict[str, tuple[Status, datetime]] = {}

    async def reconcile(self, key: Key) -> timedelta | Ended:
        raw = self._cache.get(kinds.MIGRATION, key.namespace, key.name)
        if raw is None:
            return Ended.ENDED
        migration = self._read(raw)
        now = self._clock()
        seen = await self._observer.see(migration, now)
        verdict = decide(migration, seen, now)
        for effect in verdict.before:
            await self._apply(effect, migration, seen)
        await self._write(raw, migration, verdict)
        for effect in verdict.after:
            await self._apply(effect, migration, seen)
        await self._tell(migration, verdict)
        if verdict.status.state in FINISHED:
            self._forget(migration)
        return verdict.look_again if verdict.look_again is not None else _FINISHED_LOOK

    def _read(self, raw: Object) -> Migration:
        meta, spec = parse_migration(raw)
        if meta.uid not in self._decided:
            self._decided[meta.uid] = parse_migration_status(raw)
            self._written[meta.uid] = (self._decided[meta.uid], self._clock())
        return Migration(meta, spec, self._decided[meta.uid])

    async def _write(self, raw: Object, migration: Migration, verdict: Verdict) -> None:
        uid, now = migration.meta.uid, self._clock()
        written, at = self._written[uid]
        if worth_writing(written, verdict.status, migration, now - at):
            status = render_migration_status(verdict.status, migration.spec) | {
                "conditions": conditions(of_migration(verdict.status), raw, migration.meta, now)
            }
            await self._writer.status(kinds.MIGRATION, migration.meta, status, _MANAGER)
            self._written[uid] = (verdict.status, now)
        self._decided[uid] = verdict.status

    async def _apply(self, effect: Effect, migration: Migration, seen: Seen) -> None:
        namespace = migration.meta.namespace
        match effect:
            case SetIndexStatus(status=status) if seen.index is not None:
                await self._writer.status(kinds.INDEX, seen.index.meta, render_index_status(status), _MANAGER)
            case ApplyJob(job=job) if seen.index is not None:
                policy = self._settings.images.pull_policy
                manifest = backfill.job(job, namespace, seen.index.spec.owner_secret, policy)
                await self._writer.ensure(kinds.JOB, manifest, _MANAGER)
            case DeleteJob(name=name):
                await self._writer.delete(kinds.JOB, namespace, name)
            case SetFinalizer(present=present):
                # The status was written a moment ago: the object's newest version is the cached one.
                await self._finalizer(migration, present=present)

    async def _finalizer(self, migration: Migration, *, present: bool) -> None:
        meta = migration.meta
        raw = self._cache.get(kinds.MIGRATION, meta.namespace, meta.name)
        if raw is None:
            return
        version = raw["metadata"]["resourceVersion"]
        kept = [one for one in meta.finalizers if one != names.FINALIZER]
        wanted = [*kept, names.FINALIZER] if present else kept
        await self._writer.finalizers(kinds.MIGRATION, replace(meta, resource_version=version), wanted, _MANAGER)

    async def _tell(self, migration: Migration, verdict: Verdict) -> None:
        for note in verdict.notes:
            try:
                await self._writer.note(kinds.MIGRATION, migration.meta, note, self._clock())
            except ClusterError:
                continue  # an event is for people; the status says the same

    def _forget(self, migration: Migration) -> None:
        """A finished migration costs no memory; the windows of its index belong to whoever comes next."""
        self._decided.pop(migration.meta.uid, None)
        self._written.pop(migration.meta.uid, None)
        self._observer.forget(migration.meta.namespace, migration.spec.index)
