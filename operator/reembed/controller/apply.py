"""Carries out what a pass decided, one effect at a time; what fails ends the pass, and the next decides anew."""

from __future__ import annotations

from typing import Any

from reembed.api import render_index_status
from reembed.api.fields import parse_meta
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Refused
from reembed.controller.cache import Cache
from reembed.controller.manifests import backfill, hook
from reembed.controller.protection import Protection
from reembed.controller.settings import Images
from reembed.controller.voting import Voting
from reembed.controller.writer import Writer
from reembed.core import names
from reembed.core.effects import ApplyJob, DeleteJob, Effect, Propose, ProtectPools, SetFinalizer, SetIndexStatus
from reembed.core.hooks import RunHook
from reembed.core.migration import Migration, Seen, SeenIndex
from reembed.core.model import IndexStatus

# Holder, routing and plan of an index have one field manager, whoever writes them.
MANAGER = "reembed-migrations"


class Effects:
    """The effects of migrations, on the API server."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        writer: Writer,
        protection: Protection,
        voting: Voting,
        images: Images,
    ) -> None:
        self._cluster = cluster
        self._voting = voting
        self._cache = cache
        self.writer = writer
        self._images = images
        self._protection = protection
        self.unmade: dict[str, str] = {}  # Jobs of hooks that cannot be made, and why

    async def apply(self, effect: Effect, migration: Migration, seen: Seen) -> None:
        """Carry out one effect.

        Raises:
            Conflict: somebody wrote to the object since it was seen.
            ClusterError: the API server could not do it.

        """
        namespace = migration.meta.namespace
        match effect:
            case SetIndexStatus(status=status) if seen.index is not None:
                await self.index_status(seen.index, status)
            case ApplyJob(job=job) if seen.index is not None:
                manifest = backfill.job(job, namespace, seen.index.spec.owner_secret, self._images.pull_policy)
                await self._end_others(manifest)
                await self.writer.ensure(kinds.JOB, manifest, MANAGER)
            case DeleteJob(name=name):
                await self.writer.delete(kinds.JOB, namespace, name)
            case RunHook():
                await self._run_hook(effect, migration)
            case ProtectPools(pools=pools):
                await self._protection.renew(namespace, pools)
            case Propose(panel=panel, proposal=proposal):
                await self._voting.propose(panel, proposal)
            case SetFinalizer(present=present):
                await self._finalizer(migration, present=present)

    async def _end_others(self, manifest: dict[str, Any]) -> None:
        """Delete the Jobs that an operator of another version made for the same migration.

        Pods of two Jobs would take each shard from each other until both have used up their tries.
        """
        meta = manifest["metadata"]
        for other in list(self._cache.all(kinds.JOB, meta["namespace"], meta["labels"])):
            if other["metadata"]["name"] != meta["name"] and "deletionTimestamp" not in other["metadata"]:
                await self.writer.delete(kinds.JOB, meta["namespace"], other["metadata"]["name"])

    async def _run_hook(self, run: RunHook, migration: Migration) -> None:
        """Make a hook's Job once; what keeps it from being made is told until it is."""
        namespace, wanted = migration.meta.namespace, run.hook.cron_job
        try:
            cron_job = await self._cluster.get(kinds.CRON_JOB, namespace, wanted) if wanted is not None else None
            manifest = hook.job(run, migration, self._images.gateway, self._images.pull_policy, cron_job)
            await self.writer.make(kinds.JOB, manifest, MANAGER)
        except hook.CannotRun as error:
            self.unmade[run.job] = str(error)
        except Refused as error:
            self.unmade[run.job] = f"the API server refuses its Job: {error}"
        else:
            self.unmade.pop(run.job, None)

    async def index_status(self, index: SeenIndex, status: IndexStatus) -> None:
        # What somebody's hand wrote beside us goes too: a holder that no apply removes would hold the index for ever.
        rendered = {"activeMigration": None, **render_index_status(status)}
        await self.writer.status(kinds.INDEX, index.meta, rendered, MANAGER)

    async def _finalizer(self, migration: Migration, *, present: bool) -> None:
        """Change our finalizer alone: the status was written a moment ago, and others have finalizers of their own."""
        raw = self._cache.get(kinds.MIGRATION, migration.meta.namespace, migration.meta.name)
        if raw is None or raw["metadata"]["uid"] != migration.meta.uid:
            return
        newest = parse_meta(raw)
        kept = [one for one in newest.finalizers if one != names.FINALIZER]
        wanted = [*kept, names.FINALIZER] if present else kept
        await self.writer.finalizers(kinds.MIGRATION, newest, wanted, MANAGER)
