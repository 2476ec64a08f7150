"""Of which schema the installed CRDs are, by their annotations; a CRD without one is older than the first.

Read before the first pass and every few minutes: CRDs are upgraded by people, often after the operator. Without the
right to read them nothing is known, and nothing is held up.
"""

from __future__ import annotations

import asyncio
import logging

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.core import names

_EVERY = 300.0
_OWN = (kinds.POOL, kinds.INDEX, kinds.MIGRATION)

_LOGGER = logging.getLogger("reembed.controller")


class Schema:
    """The lowest number of our CRDs; None where they could not be read."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.number: int | None = None

    async def look(self) -> None:
        try:
            found = [await self._of(kind.plural) for kind in _OWN]
        except ClusterError as error:
            _LOGGER.info("the CRDs cannot be read, and whether they are new enough is not known: %s", error)
            found = []
        self.number = min((number for number in found if number is not None), default=None)

    async def keep(self) -> None:
        """Look for ever again."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.look()

    async def _of(self, plural: str) -> int | None:
        crd = await self._cluster.get(kinds.CRD, "", f"{plural}.{names.GROUP}")
        if crd is None:
            return None
        text = (crd["metadata"].get("annotations") or {}).get(names.ANNOTATION_SCHEMA, "")
        return int(text) if text.isdecimal() else 0
