"""Nearest documents of a collection, and documents written through the gateway; the gateway's side of the store.

Nothing joins in Chroma, so a search is three questions: the nearest rows and, beside it, whether the collection
answers at all; then what the documents of these rows are now. The fingerprint is a collection's for life and its
withdrawal a fact that is never taken back, so no order of these questions lets a withdrawn or a wrong one answer that
was so before the search began. A row answers if it is of the document's newest text, or for as long as there is no
row of that yet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from reembed.stores.chroma import held, places
from reembed.stores.chroma.client import Address, Chroma, Connected, Missing, Row
from reembed.stores.chroma.documents import Source, Version
from reembed.stores.chroma.held import Held, Shape, Shapes
from reembed.stores.protocol import (
    CollectionMismatch,
    DocumentWrite,
    Filter,
    FilterRefused,
    Hit,
    Stored,
    StoreError,
)

_SECONDS = 10.0
_MORE = 10  # rows that are asked for besides, since some may be covered by newer ones
_MOST = 2000
_AGAIN = 3


class Searcher(Connected):
    """`async with Searcher(dsn, index_key, 8) as searcher:`; `Searching` and `Writing` of the protocol."""

    def __init__(self, dsn: str, index_key: str, connections: int) -> None:
        super().__init__(Chroma(Address.of(dsn), connections, _SECONDS))
        self._source = Source(self._chroma, places.documents(index_key))
        self._shapes = Shapes(self._chroma)

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        """Return the `k` documents nearest to `vector`, the nearest first; raises as pgvector's does."""
        unfiltered(within)
        return await search(self._chroma, self._shapes, self._source, (collection, fingerprint, vector, k))

    async def write(self, writes: Sequence[DocumentWrite]) -> list[Stored]:
        return await self._source.write(writes)

    async def written(self, document: str) -> tuple[Stored, DocumentWrite] | None:
        found = (await self._source.newest([document], texts=True)).get(document)
        if found is None or found.gone:
            return None
        metadata = json.loads(found.metadata) if found.metadata else {}
        return Stored(document, found.rev), DocumentWrite(document, found.text, metadata)


def unfiltered(within: Filter | None) -> None:
    """Refuse a filter: what documents say of themselves is kept as one text beside them, and is not searched by."""
    if within:
        raise FilterRefused("documents of a Chroma store cannot be filtered by their metadata; leave filter out")


async def search(chroma: Chroma, shapes: Shapes, source: Source, asked: tuple[str, str, bytes, int]) -> list[Hit]:
    """Search with connections that are at hand."""
    collection, fingerprint, _, _ = asked
    shape = await _shape(shapes, collection, fingerprint)
    try:
        return await _search(chroma, shapes, source, shape, asked)
    except Missing:  # it was dropped, and perhaps made anew under its name
        shapes.forget(collection)
        shape = await _shape(shapes, collection, fingerprint)
    try:
        return await _search(chroma, shapes, source, shape, asked)
    except Missing as error:
        raise _mismatch(collection, "is not there") from error


async def _search(
    chroma: Chroma, shapes: Shapes, source: Source, shape: Shape, asked: tuple[str, str, bytes, int]
) -> list[Hit]:
    _, _, vector, k = asked
    count = k + _MORE
    while True:
        rows, facts = await asyncio.gather(chroma.query(shape.vectors, vector, count), shapes.facts(shape))
        if held.INDEXED not in facts or held.WITHDRAWN in facts:
            raise _mismatch(shape.name, "is withdrawn" if held.WITHDRAWN in facts else "is not indexed yet")
        hits = await _answering(chroma, source, shape, rows)
        if len(hits) >= k or len(rows) < count or count >= _MOST:
            return hits[:k]
        count = min(2 * count, _MOST)


async def _shape(shapes: Shapes, collection: str, fingerprint: str) -> Shape:
    try:
        shape = await shapes.of(collection)
    except StoreError as error:
        if isinstance(error, Missing) or type(error) is StoreError:
            raise _mismatch(collection, "is not there") from error
        raise
    if shape.fingerprint != fingerprint:
        raise _mismatch(collection, f"holds vectors of {shape.fingerprint}, the query is of {fingerprint}")
    return shape


async def _answering(chroma: Chroma, source: Source, shape: Shape, rows: Sequence[Row]) -> list[Hit]:
    """Return the documents that rows stand for, the nearest first."""
    # A row that somebody else put there is of no document.
    found = [(held.held(row), row.distance) for row in rows if "doc" in row.values]
    newest = await source.newest([one.id for one, _ in found]) if found else {}
    old = {one.id for one, _ in found if one.live and _is_old(one, newest.get(one.id))}
    beside: dict[str, list[Held]] = {}
    if old:
        beside = held.by_document(await chroma.get(shape.vectors, where=places.of_documents(sorted(old))))
    hits: dict[str, Hit] = {}
    for one, distance in found:
        now = newest.get(one.id)
        if not one.live or now is None or now.gone or one.id in hits:
            continue
        if not _is_old(one, now) or not _covered(one, now, beside.get(one.id, [])):
            hits[one.id] = Hit(one.id, _score(shape.metric, distance))
    return list(hits.values())


def _is_old(one: Held, now: Version | None) -> bool:
    return now is not None and not now.gone and one.text_hash != now.text_hash


def _covered(one: Held, now: Version, rows: Sequence[Held]) -> bool:
    """Return whether there is a newer row, or one of the newest text."""
    return any(each.rev > one.rev or each.rev >= now.rev or each.text_hash == now.text_hash for each in rows)


def _score(metric: str, distance: float) -> float:
    # Chroma's distances are 1 - cosine, 1 - inner product, and the square of Euclid's.
    return -(distance**0.5) if metric == "Euclidean" else 1.0 - distance


def _mismatch(collection: str, why: str) -> CollectionMismatch:
    return CollectionMismatch(f"collection {collection} {why}; it answered nothing")
