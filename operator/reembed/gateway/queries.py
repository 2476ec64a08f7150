"""The two pieces of work that an arm does: answer a query, or only embed.

Both are functions of the arm alone, so that `answer` can hand the same work to the other arm. The fingerprint is
checked twice: by the client on the embedder's answer, and by the store's function on the collection, in the statement
that reads it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from reembed.client import Embedded
from reembed.core.model import Arm, InputType
from reembed.gateway.answer import Work
from reembed.gateway.embedders import Embedders
from reembed.stores.protocol import Filter, Hit, Searching


class Crowded(Exception):
    """Callers use all of an arm's places in the store, and what nobody waits for stays out of their queue."""


class Queries:
    """What an index's arms can be asked; what is asked in the background gives way to callers everywhere."""

    def __init__(self, embedders: Embedders, store: Searching, searches_per_arm: int) -> None:
        self._embedders = embedders
        self._store = store
        # Less than the store's connections: searches of a slow collection must leave some to the other arm.
        self._searches = defaultdict[Arm, asyncio.Semaphore](lambda: asyncio.Semaphore(searches_per_arm))
        # Of both arms together: the places of an arm belong to its callers.
        self._background = asyncio.Semaphore(max(1, searches_per_arm // 3))

    def search(self, query: str, k: int, within: Filter | None = None, *, background: bool = False) -> Work[list[Hit]]:
        """Return the work of finding the `k` documents nearest to `query`, of those within a filter."""

        async def work(arm: Arm) -> list[Hit]:
            embedded = await self.embed([query], InputType.QUERY, background=background)(arm)
            if not background:
                return await self._nearest(arm, embedded.vectors[0], k, within)
            async with self._background:
                if self._searches[arm].locked():
                    raise Crowded(f"callers use all places of {arm.pool} in the store")
                return await self._nearest(arm, embedded.vectors[0], k, within)

        return work

    async def _nearest(self, arm: Arm, vector: bytes, k: int, within: Filter | None) -> list[Hit]:
        async with self._searches[arm]:
            return await self._store.search(arm.collection, arm.fingerprint, vector, k, within)

    def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Work[Embedded]:
        """Return the work of embedding `texts`, for applications that search by themselves."""

        async def work(arm: Arm) -> Embedded:
            async with self._embedders.using(arm) as embedder:
                return await embedder.embed(texts, input_type, background=background)

        return work
