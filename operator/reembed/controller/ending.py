"""Lets go of the objects of a namespace that is being deleted.

There is nothing to be unwound where everything goes, and little left to do it with: the operator's rights in the
namespace are among the first things that are deleted. What remains is the right to read and release objects of our own
kinds.
"""

from __future__ import annotations

from reembed.api.fields import parse_meta
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Refused
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.handlers import OWN
from reembed.controller.writer import Writer
from reembed.core import names

_MANAGER = "reembed"


class Ending:
    """Asks about a namespace only when one of its objects is being deleted."""

    def __init__(self, cluster: Cluster, cache: Cache, writer: Writer) -> None:
        self._cluster = cluster
        self._cache = cache
        self._writer = writer

    async def let_go(self, key: Key) -> bool:
        """Take our finalizer off a deleted object whose namespace is deleted too; return whether that was done."""
        raw = self._cache.get(key.kind, key.namespace, key.name)
        if raw is None or not _held(raw) or not await self._terminating(key.namespace):
            return False
        await self._release(key.kind, raw)
        return True

    async def sweep(self, namespace: str) -> None:
        """Do the same for every object of a namespace that cannot be watched any more."""
        if not await self._terminating(namespace):
            return
        for kind in OWN:
            for raw in await self._cluster.list(kind, namespace):
                if _held(raw):
                    await self._release(kind, raw)

    async def _release(self, kind: Kind, raw: Object) -> None:
        meta = parse_meta(raw)
        kept = [one for one in meta.finalizers if one != names.FINALIZER]
        await self._writer.finalizers(kind, meta, kept, _MANAGER)

    async def _terminating(self, namespace: str) -> bool:
        try:
            found = await self._cluster.get(kinds.NAMESPACE, "", namespace)
        except Refused:
            return False  # the chart's namespaceDeletion is off: the object is unwound as any other
        return found is None or found.get("status", {}).get("phase") == "Terminating"


def _held(raw: Object) -> bool:
    """Return whether an object is deleted and waits for us."""
    meta = raw["metadata"]
    return bool(meta.get("deletionTimestamp")) and names.FINALIZER in meta.get("finalizers", ())
