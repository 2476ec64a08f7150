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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import SystemRandom
from typing import Any

from reembed.core.model import EvaluationSpec, IndexSpec, PointerPlan
from reembed.core.quorum.evidence import Collection
from reembed.stores.chroma import held, places, search
from reembed.stores.chroma.client import Address, Chroma, Connected, Missing, Row, numbers
from reembed.stores.chroma.documents import Source, Version, text_hash
from reembed.stores.chroma.filled import filled, no_table, present
from reembed.stores.chroma.held import Held, Shape, Shapes
from reembed.stores.chroma.notes import Notes
from reembed.stores.protocol import Labels, Sampled, StoreError

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
        with _understood():
            for shape in await self._shapes.all(self._key):
                if shape.uid == self._uid:
                    try:
                        found.append(await self._held(shape))
                    except Missing:  # it is being dropped, or was made anew
                        self._shapes.forget(shape.name)
        return tuple(found)

    async def pointer(self) -> PointerPlan | None:
        with _understood():
            return await self._notes.pointer()

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        del spec, index
        raise no_table()

    async def present(self, index: IndexSpec, ids: Several[str]) -> frozenset[str]:
        del index
        with _understood():
            return await present(self._source, ids)

    async def search(self, collection: str, fingerprint: str, vector: bytes, k: int) -> list[str]:
        """Return the ids of the `k` documents nearest to `vector`, as a gateway would find them."""
        asked = (collection, fingerprint, vector, k)
        with _understood():
            return [hit.id for hit in await search.search(self._chroma, self._shapes, self._source, asked)]

    async def sample(self, collection: str, count: int) -> list[Sampled]:
        """Return a few stored vectors with the texts that they are of; what is on its way is not among them."""
        with _understood():
            shape = await self._shapes.of(collection)
            # More than is asked for: of some the text has changed, or is gone.
            rows = await self._drawn(shape, 2 * count)
            newest = await self._source.newest([one.id for one, _ in rows])
            fitting = [(one, row) for one, row in rows if _fits(one, newest.get(one.id))]
            drawn = _CHANCE.sample(fitting, min(count, len(fitting)))
            documents = await self._source.texts([newest[one.id] for one, _ in drawn])
        texts = {one.id: one.text for one in documents if one.text is not None and one.text.strip()}
        return [
            Sampled(one.id, texts[one.id], row.vector)
            for one, row in drawn
            if one.id in texts and text_hash(texts[one.id]) == one.text_hash
        ]

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
        for row in await self._chroma.get(shape.vectors, where=where, include=include, limit=2 * count):
            one = held.held(row)
            if one.id not in newest or newest[one.id][0].rev < one.rev:
                newest[one.id] = (one, row)
        return list(newest.values())


def _fits(of: Held, now: Version | None) -> bool:
    """Return whether a row is of its document's text of now, and that is no longer than an agent has room for."""
    return now is not None and not now.gone and now.text_hash == of.text_hash and now.size <= _LONGEST_TEXT


@contextmanager
def _understood() -> Iterator[None]:
    """Raise the store's error where rows are not as Reembed writes them: who wrote them stops this index alone."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        text = f"what is in Chroma cannot be understood ({type(error).__name__}: {error}); was it written by hand?"
        raise StoreError(text) from error


def _to_itself(metric: str, vector: bytes) -> float:
    """Return the largest distance of a vector to itself, as Chroma computes them, with room for rounding."""
    squares = math.fsum(one * one for one in numbers(vector))
    if metric == "InnerProduct":
        return 1.0 - squares + _SAME * max(1.0, squares)
    return _SAME * (squares if metric == "Euclidean" else 1.0)
