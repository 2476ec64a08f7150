"""What an agent of the panel reads of an index in Chroma, as `pgvector.agents` does of one in PostgreSQL.

Chroma has no roles, so that nothing but this code, or a proxy in front of the server, keeps an agent from writing: what
it sends are GETs, and POSTs to a collection's `get` and `query`.

Chroma does not tell whether a vector index is whole, so it is tried out at each look: of a few stored vectors the index
must find one that is as near as the vector itself. They are drawn by a range of the hash that spreads documents, which
nobody can prepare for.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection as Several
from collections.abc import Mapping
from random import SystemRandom
from typing import Any

from reembed.core.model import EvaluationSpec, IndexSpec, PointerPlan
from reembed.core.quorum.evidence import Collection
from reembed.stores.chroma import held, places, search
from reembed.stores.chroma.client import Address, Chroma, Connected, Missing, Row, numbers
from reembed.stores.chroma.documents import Source, Version
from reembed.stores.chroma.filled import filled, no_table, present
from reembed.stores.chroma.held import Held, Shape, Shapes
from reembed.stores.chroma.notes import Notes
from reembed.stores.protocol import Labels, Sampled

_SECONDS = 15.0
_CONNECTIONS = 2  # a search, and whatever else is looked at
_LONGEST_TEXT = 256 << 10
_TRIED = 5  # vectors by which an index is tried out at a look
_MISSED = 1  # of them: it finds about all of its vectors, not all
# Two float32 distances of one pair differ by less, as the server adds them up in another order.
_SAME = 1e-3

_LIVE: Mapping[str, Any] = {"live": True}
_CHANCE = SystemRandom()


class AgentReader(Connected):
    """`async with AgentReader(dsn, index_key, uid) as store:`; it opens without waiting for the server."""

    def __init__(self, dsn: str, index_key: str, uid: str) -> None:
        super().__init__(Chroma(Address.of(dsn), _CONNECTIONS, _SECONDS))
        self._key, self._uid = index_key, uid
        self._source = Source(self._chroma, places.documents(index_key))
        self._notes = Notes(self._chroma, index_key)
        self._shapes = Shapes(self._chroma)

    async def open(self) -> None:
        await self._chroma.open()

    async def close(self) -> None:
        await self._chroma.close()

    async def held(self) -> tuple[Collection, ...]:
        """Return the index's collections, the oldest first."""
        found = []
        for shape in await self._shapes.all(self._key):
            if shape.uid == self._uid:
                try:
                    found.append(await self._held(shape))
                except Missing:  # it is being dropped, or was made anew
                    self._shapes.forget(shape.name)
        return tuple(found)

    async def pointer(self) -> PointerPlan | None:
        return await self._notes.pointer()

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        del spec, index
        raise no_table()

    async def present(self, index: IndexSpec, ids: Several[str]) -> frozenset[str]:
        del index
        return await present(self._source, ids)

    async def search(self, collection: str, fingerprint: str, vector: bytes, k: int) -> list[str]:
        """Return the ids of the `k` documents nearest to `vector`, as a gateway would find them."""
        asked = (collection, fingerprint, vector, k)
        return [hit.id for hit in await search.search(self._chroma, self._shapes, self._source, asked)]

    async def sample(self, collection: str, count: int) -> list[Sampled]:
        """Return a few stored vectors with the texts that they are of; what is on its way is not among them."""
        shape = await self._shapes.of(collection)
        # More than is asked for: of some the text has changed, or is gone.
        rows = await self._drawn(shape, 2 * count)
        newest = await self._source.newest([one.id for one, _ in rows], texts=True)
        found = [
            Sampled(one.id, text, row.vector)
            for one, row in rows
            if (text := _text(newest.get(one.id), one)) is not None
        ]
        return _CHANCE.sample(found, min(count, len(found)))

    async def _held(self, shape: Shape) -> Collection:
        of = await filled(self._chroma, shape, 0)
        counts = of.shards, of.shards_done, of.written, of.rejected, of.total
        whole = of.state == "Indexed" and await self._finds(shape)
        return Collection(of.name, of.fingerprint, of.dimensions, of.state, *counts, valid=whole)

    async def _finds(self, shape: Shape) -> bool:
        """Return whether the index finds what is stored, by a few of it; an empty one has nothing to find."""
        rows = [row for _, row in await self._drawn(shape, 2 * _TRIED)]
        missed = 0
        for row in _CHANCE.sample(rows, min(_TRIED, len(rows))):
            nearest = await self._chroma.query(shape.vectors, row.vector, 1)
            missed += not (nearest and nearest[0].distance <= _to_itself(shape.metric, row.vector))
        return missed <= (_MISSED if len(rows) >= _TRIED else 0)

    async def _drawn(self, shape: Shape, count: int) -> list[tuple[Held, Row]]:
        """Return about `count` documents' newest rows with a vector, all of them where there are fewer."""
        width = math.ceil(count * places.BUCKETS / max(1, await self._chroma.count(shape.vectors)))
        if width < places.BUCKETS:
            first = secrets.randbelow(places.BUCKETS - width + 1)
            buckets, _ = places.between(first, first + width - 1)
            if found := await self._live(shape, {"$and": [buckets, _LIVE]}, count):
                return found
        return await self._live(shape, _LIVE, count)

    async def _live(self, shape: Shape, where: Mapping[str, Any], count: int) -> list[tuple[Held, Row]]:
        include = ("metadatas", "embeddings")
        newest: dict[str, tuple[Held, Row]] = {}
        for row in await self._chroma.get(shape.vectors, where=where, include=include, limit=4 * count):
            one = held.held(row)
            if one.id not in newest or newest[one.id][0].rev < one.rev:
                newest[one.id] = (one, row)
        return list(newest.values())


def _text(now: Version | None, of: Held) -> str | None:
    """Return the text that a row is of, None where the document has another one now, or none to embed."""
    if now is None or now.gone or now.text is None or now.text_hash != of.text_hash:
        return None
    return now.text if now.text.strip() and now.size <= _LONGEST_TEXT else None


def _to_itself(metric: str, vector: bytes) -> float:
    """Return the largest distance of a vector to itself, as Chroma computes them, with room for rounding."""
    squares = math.fsum(one * one for one in numbers(vector))
    if metric == "InnerProduct":
        return 1.0 - squares + _SAME * max(1.0, squares)
    return _SAME * (squares if metric == "Euclidean" else 1.0)
