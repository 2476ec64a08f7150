"""Lists everything of a namespace: before its loops run, once its watches stand, and from then on every minute.

The later lists are for what watches miss: the end of an object between two listings, or where a watch was cut off. They
change nothing but the cache; where there is no difference they cost their requests alone.
"""

from __future__ import annotations

import asyncio
import logging

from reembed.cluster.client import Cluster, ClusterError
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, key_of
from reembed.controller.ending import Ending
from reembed.controller.handlers import CHILD_LABELS, CHILDREN, OWN
from reembed.controller.readiness import Readiness

KINDS = (*OWN, *CHILDREN)

# In seconds. By the first, kopf's watches have made their own lists; a watch tells every later end itself.
_SETTLED = 5.0
_EVERY = 60.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0

_LOGGER = logging.getLogger("reembed.controller")


class Lists:
    """The lists of all namespaces."""

    def __init__(self, cluster: Cluster, cache: Cache, readiness: Readiness, ending: Ending) -> None:
        self._cluster = cluster
        self._cache = cache
        self._readiness = readiness
        self._ending = ending

    async def all(self, namespace: str) -> None:
        """Take in everything of `namespace`, however long that takes."""
        for kind in KINDS:
            await self._listed(kind, namespace)

    def own(self, namespace: str) -> list[Key]:
        """Return the objects of `namespace` that have loops."""
        return [key_of(kind, obj) for kind in OWN for obj in self._cache.all(kind, namespace)]

    async def keep(self, namespace: str) -> None:
        """Take in everything of `namespace` soon, and for ever again, a kind at a time."""
        await asyncio.sleep(_SETTLED)
        await self.all(namespace)
        while True:
            for kind in KINDS:
                await asyncio.sleep(_EVERY / len(KINDS))
                await self._listed(kind, namespace)

    async def _listed(self, kind: Kind, namespace: str) -> None:
        """List a kind; one that the API server does not give out (yet) is tried again until it does."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._list(kind, namespace)
            except ClusterError as error:
                lack = self._readiness.refused(kind, namespace, error)
                _LOGGER.warning(
                    "cannot list %s in %s: %s; %s; again in %g s", lack.kind, namespace, error, lack.remedy, pause
                )
                await self._let_go(namespace)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._readiness.listed(kind, namespace)
                return

    async def _let_go(self, namespace: str) -> None:
        """Where the Role is gone, the whole namespace may be going."""
        try:
            await self._ending.sweep(namespace)
        except ClusterError as error:
            _LOGGER.warning("cannot let go of the objects in %s: %s", namespace, error)

    async def _list(self, kind: Kind, namespace: str) -> None:
        selector = "" if kind in OWN else ",".join(f"{label}={value}" for label, value in CHILD_LABELS.items())
        there: set[str] = set()
        version = ""
        async for page in self._cluster.pages(kind, namespace, selector=selector):
            version = version or page.version
            there |= {obj["metadata"]["name"] for obj in page.objects}
            for obj in page.objects:
                self._cache.put(kind, obj)
        self._cache.settle(kind, namespace, there, version)
