"""A backfill pod's side of the store: `Filling` of the protocol.

Chroma cannot store a page and a position at once, so the page goes first: its rows are added under ids that are the
same for whoever fills the shard, and what is there already stays, so a page that is stored twice is stored once. Each
pod that takes a shard has a row of its own with a token above the last, and writes its position nowhere else. A
position is therefore true whoever wrote it: the shard is stored up to there. A pod that was taken over is refused at
its next page; what it had under way stands, and cannot undo what the other or the follower stored.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from reembed.stores.chroma import held, places
from reembed.stores.chroma.client import Address, Chroma, Connected, Row
from reembed.stores.chroma.documents import Source, Version
from reembed.stores.chroma.held import Shape, Shapes
from reembed.stores.protocol import Document, Fenced, Lease, Page, StoreError, StoreUnavailable
from reembed.stores.protocol import Source as Table

_ATTEMPTS = 10
# A page of larger texts is cut here, so that a shard's memory is bounded by bytes as well as by documents.
PAGE_BYTES = 16 << 20
# Documents are in Reembed's own collection, which no lease has to name.
_NO_TABLE = Table("", "", "", None)


class ShardStore(Connected):
    """`async with ShardStore(dsn) as store:`."""

    def __init__(self, dsn: str) -> None:
        super().__init__(Chroma(Address.of(dsn), 4, 60.0))
        self._shapes = Shapes(self._chroma)
        self._sources: dict[str, Source] = {}

    async def claim(self, collection: str, shard: int) -> Lease:
        shape = await self._shapes.of(collection)
        if shard >= shape.shards:
            raise StoreError(
                f"collection {collection} has no shard {shard}: the Job has more completions than it has shards; this "
                "pod has nothing to do"
            )
        mine = secrets.token_hex(8)
        for _ in range(_ATTEMPTS):
            rows = await holders(self._chroma, shape, shard)
            token = max([int(row.values["token"]) for row in rows], default=0) + 1
            farthest = max(rows, key=_progress, default=None)
            known = dict(farthest.values) if farthest is not None else {"written": 0, "rejected": 0, "done": False}
            values = known | {"shard": shard, "token": token, "by_whom": mine, "at": time.time()}
            name = _row_id(shard, token)
            await self._chroma.add(shape.facts, [Row(name, values, vector=places.point(name))])
            found = await self._chroma.get(shape.facts, ids=[name])
            if [row.values["by_whom"] for row in found] == [mine]:
                return _lease(shape, shard, token, known)
        raise StoreUnavailable(f"shard {shard} of {collection} is taken over again and again; it is tried again")

    async def read(self, lease: Lease, after: str | None, limit: int) -> list[Document]:
        source = self._source(await self._shapes.of(lease.collection))
        last = int(lease.upper or places.BUCKETS - 1)
        start = int(lease.lower or -1) + 1 if after is None else places.bucket(after)
        width = max(1, limit * places.BUCKETS // max(1, await source.count()))
        while start <= last:
            versions, read = await source.window(start, min(start + width - 1, last))
            ordered = sorted(versions.values(), key=lambda one: places.order(one.id))
            behind = [
                one
                for one in ordered
                if not one.gone and places.bucket(one.id) <= last and (after is None or _is_behind(one.id, after))
            ]
            while behind:
                page = _cut(behind, limit)
                if found := await source.texts(page):
                    return found
                behind = behind[len(page) :]
            start = read + 1
        return []

    async def commit(self, lease: Lease, page: Page, stages: Mapping[str, float]) -> None:
        shape = await self._shapes.of(lease.collection)
        mine = await self._holding(shape, lease)
        if mine.get("position") == page.last:
            return  # the answer to an earlier attempt was lost
        if mine.get("position") != page.after or mine["done"]:
            raise _fenced(lease)
        rows = [held.row(one.id, 0, one.text_hash, one.vector) for one in page.written]
        rows += [held.reason(one.id, 0, (one.reason, one.message), shape.dimensions) for one in page.rejected]
        await self._chroma.add(shape.vectors, rows)
        values: dict[str, Any] = {
            "position": page.last,
            "written": int(mine["written"]) + len(page.written),
            "rejected": int(mine["rejected"]) + len(page.rejected),
            "stats": json.dumps(dict(stages)),
            "at": time.time(),
        }
        await self._chroma.change(shape.facts, [_row_id(lease.shard, lease.token)], values)

    async def finish(self, lease: Lease) -> None:
        shape = await self._shapes.of(lease.collection)
        await self._holding(shape, lease)
        await self._chroma.change(shape.facts, [_row_id(lease.shard, lease.token)], {"done": True, "at": time.time()})

    async def _holding(self, shape: Shape, lease: Lease) -> Mapping[str, Any]:
        """Return this pod's row, or raise Fenced."""
        rows = {int(row.values["token"]): row.values for row in await holders(self._chroma, shape, lease.shard)}
        if not rows or max(rows) != lease.token:
            raise _fenced(lease)
        return rows[lease.token]

    def _source(self, shape: Shape) -> Source:
        if shape.key not in self._sources:
            self._sources[shape.key] = Source(self._chroma, places.documents(shape.key))
        return self._sources[shape.key]


async def holders(chroma: Chroma, shape: Shape, shard: int | None = None) -> list[Row]:
    """Return the rows of the pods that held a shard, or any."""
    return await chroma.get(shape.facts, where={"shard": {"$gte": 0} if shard is None else shard})


def farthest(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """Return of each shard the row that says how far it is."""
    found: dict[int, Row] = {}
    for row in rows:
        shard = int(row.values["shard"])
        if shard not in found or _progress(found[shard]) < _progress(row):
            found[shard] = row
    return [row.values for row in found.values()]


def bounds(shape: Shape, shard: int) -> tuple[str | None, str | None]:
    """Return the last bucket before a shard, and its last one: a hash cuts documents into about equal parts."""
    lower, upper = shard * places.BUCKETS // shape.shards - 1, (shard + 1) * places.BUCKETS // shape.shards - 1
    return (None if shard == 0 else str(lower)), (None if shard == shape.shards - 1 else str(upper))


def _progress(row: Row) -> tuple[bool, tuple[int, str], int]:
    position = row.values.get("position")
    reached = (-1, "") if position is None else places.order(str(position))
    return bool(row.values["done"]), reached, int(row.values["token"])


def _is_behind(document: str, after: str) -> bool:
    return places.order(document) > places.order(after)


def _cut(versions: Sequence[Version], limit: int) -> list[Version]:
    page: list[Version] = []
    size = 0
    for one in versions[:limit]:
        if page and size >= PAGE_BYTES:
            break
        page.append(one)
        size += one.size
    return page


def _lease(shape: Shape, shard: int, token: int, known: Mapping[str, Any]) -> Lease:
    lower, upper = bounds(shape, shard)
    return Lease(
        collection=shape.name,
        shard=shard,
        token=token,
        source=_NO_TABLE,
        id_type="text",
        lower=lower,
        upper=upper,
        position=known.get("position"),
        done=bool(known["done"]),
        fingerprint=shape.fingerprint,
        dimensions=shape.dimensions,
    )


def _row_id(shard: int, token: int) -> str:
    return f"shard/{shard:06d}/{token:010d}"


def _fenced(lease: Lease) -> Fenced:
    return Fenced(
        f"shard {lease.shard} of {lease.collection} was taken over by another pod; this one stops, its unstored "
        "documents are embedded by the other"
    )
