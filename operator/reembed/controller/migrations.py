"""One pass of an EmbeddingMigration: observe, decide, apply.

The status decided last is kept in memory, since a trigger's time is not written at each pass; after a restart it is
read from the object. An effect that fails ends the pass; the next one decides anew from what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.api.status import render_migration_status
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict
from reembed.controller.apply import MANAGER, Effects
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.loop import Ended
from reembed.controller.migration_metrics import MigrationMetrics
from reembed.controller.observe import Observer
from reembed.controller.shell import Clock
from reembed.controller.writer import conditions
from reembed.core.conditions import of_migration
from reembed.core.decide import Verdict, decide, worth_writing
from reembed.core.hooks import HookReport, RunState
from reembed.core.migration import Migration, Seen, Status
from reembed.core.quorum import acting
from reembed.core.quorum.acted import Act
from reembed.core.transitions import FINISHED


class Migrations:
    """Makes EmbeddingMigrations true."""

    def __init__(
        self,
        cache: Cache,
        observer: Observer,
        effects: Effects,
        metrics: MigrationMetrics,
        clock: Clock,
        acted: Callable[[Act], None],
    ) -> None:
        self._cache = cache
        self._acted = acted  # hears of everything that was met at the panel's word
        self._writer = effects.writer
        self._observer = observer
        self._effects = effects
        self._metrics = metrics
        self._clock = clock
        self._uids: dict[Key, str] = {}  # of those that something is remembered of
        self._decided: dict[str, Status] = {}  # by UID
        self._written: dict[str, tuple[Status, datetime]] = {}
        self._unsure: dict[str, str] = {}  # by UID: the version over which a status was written that nobody confirmed

    async def reconcile(self, key: Key) -> timedelta | Ended:
        now, raw = self._clock(), self._cache.get(kinds.MIGRATION, key.namespace, key.name)
        migration = self._read(key, now)
        if raw is None or migration is None:
            self._forget(key)
            return Ended.ENDED
        seen = self._with_unmade(migration, await self._observer.see(migration, now))
        verdict = decide(migration, seen, now)
        for effect in verdict.before:
            await self._effects.apply(effect, migration, seen)
        await self._write(raw, migration, verdict)
        self._metrics.take(migration, verdict.status, now)
        for effect in verdict.after:
            await self._effects.apply(effect, migration, seen)
        await self._tell(migration, verdict)
        if verdict.status.state in FINISHED:
            self._forget(key)
            for run in migration.status.hooks:
                self._effects.unmade.pop(run.job, None)
        return self._again(migration, verdict)

    def _again(self, migration: Migration, verdict: Verdict) -> timedelta | Ended:
        """Return when the next pass is due: what pods say must not grow older than a look may."""
        if verdict.look_again is None:
            return Ended.ENDED
        if verdict.status.state in FINISHED:
            return verdict.look_again
        return min(verdict.look_again, self._observer.due(migration, self._clock()))

    def _with_unmade(self, migration: Migration, seen: Seen) -> Seen:
        """Add the hooks' Jobs that could not be made at the last try."""
        found = {
            run.job: self._effects.unmade[run.job] for run in migration.status.hooks if run.job in self._effects.unmade
        }
        reports = {job: HookReport(RunState.RUNNING, why, made=False) for job, why in found.items()}
        return replace(seen, hooks={**seen.hooks, **reports}) if reports else seen

    def _read(self, key: Key, now: datetime) -> Migration | None:
        migration = self._observer.migration(key)
        if migration is None:
            return None
        if self._uids.get(key, migration.meta.uid) != migration.meta.uid:
            self._forget(key)  # of its name there was another one
        uid, version = migration.meta.uid, migration.meta.resource_version
        if self._unsure.get(uid, version) != version:
            # That write was carried out, or somebody else's: the object says what became of it, and memory does not.
            del self._unsure[uid], self._decided[uid]
        if uid not in self._decided:
            self._uids[key] = uid
            self._decided[uid] = migration.status
            self._written[uid] = (migration.status, now)
        return replace(migration, status=self._decided[uid])

    async def _write(self, raw: Object, migration: Migration, verdict: Verdict) -> None:
        uid, now = migration.meta.uid, self._clock()
        written, at = self._written[uid]
        if worth_writing(written, verdict.status, now - at):
            # The whole status is ours, also what an earlier version or somebody's hand wrote in it.
            status = (
                dict.fromkeys(raw.get("status") or {})
                | render_migration_status(verdict.status, migration.spec)
                | {"conditions": conditions(of_migration(verdict.status), raw, migration.meta, now)}
            )
            try:
                await self._writer.status(kinds.MIGRATION, migration.meta, status, MANAGER)
            except Conflict:
                raise
            except ClusterError:
                self._unsure.setdefault(uid, migration.meta.resource_version)
                raise
            self._unsure.pop(uid, None)
            self._written[uid] = (verdict.status, now)
        self._decided[uid] = verdict.status

    async def _tell(self, migration: Migration, verdict: Verdict) -> None:
        for act in acting.news(migration.status.executed, verdict.status.executed):
            self._acted(act)
        for note in verdict.notes:
            try:
                await self._writer.note(kinds.MIGRATION, migration.meta, note, self._clock())
            except ClusterError:
                continue  # an event is for people; the status says the same

    def _forget(self, key: Key) -> None:
        """A migration that has ended, or is gone, costs no memory."""
        self._metrics.forget(key.namespace, key.name)
        uid = self._uids.pop(key, "")
        self._decided.pop(uid, None)
        self._written.pop(uid, None)
        self._unsure.pop(uid, None)
        self._observer.forget(key.namespace, key.name, uid)
