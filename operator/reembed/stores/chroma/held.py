"""A collection as rows that are never overwritten: what both its fillers and its readers know of it.

A row holds the vector of one text of one document, under the document's id and a revision, and is only ever added or
taken away. Backfill's rows have revision 0 and the follower's the revision of the debt that they pay, so neither can
undo the other, whoever is late, repeats itself or was thought dead. The hash in a row says of which text it is; which
text counts, the documents say. What happens to a collection is a row of its facts, added once: it was indexed, it was
withdrawn, it was compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.stores.chroma import places
from reembed.stores.chroma.client import Chroma, Collection, Missing, Row
from reembed.stores.protocol import StoreError

INDEXED, WITHDRAWN = "indexed", "withdrawn"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is fixed of a collection, and the ids of what belongs to it."""

    name: str
    vectors: str
    facts: str
    owed: str
    key: str
    uid: str
    fingerprint: str
    dimensions: int
    metric: str
    shards: int
    total: int
    created: float


@dataclass(frozen=True, slots=True)
class Held:
    """One row: of which text it is, and whether there is a vector in it (`live`) or a reason why there is none."""

    row: str
    id: str
    rev: int
    text_hash: bytes
    live: bool


class Shapes:
    """Collections by their names; what is found of one holds for as long as it is there."""

    def __init__(self, chroma: Chroma) -> None:
        self._chroma = chroma
        self._known: dict[str, Shape] = {}

    async def of(self, name: str) -> Shape:
        if name not in self._known:
            found = await self._chroma.find(places.vectors(name))
            if found is None:
                raise StoreError(f"collection {name} was dropped, so nothing more is done with it")
            self._known[name] = await self._with_ids(name, found)
        return self._known[name]

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    async def all(self, key: str) -> list[Shape]:
        """Return all collections of an index, the oldest first."""
        names = [
            one.name.removeprefix(places.vectors(""))
            for one in await self._chroma.collections()
            if one.metadata.get(places.KIND) == "vectors" and one.metadata.get(places.KEY) == key
        ]
        found: list[Shape] = []
        for name in names:
            try:
                found.append(await self.of(name))
            except Missing:  # it is being dropped
                continue
        return sorted(found, key=lambda one: (one.created, one.name))

    async def live(self, key: str) -> list[Shape]:
        """Return those that are to be kept fresh."""
        return [shape for shape in await self.all(key) if WITHDRAWN not in await self.facts(shape)]

    async def facts(self, shape: Shape) -> Mapping[str, Mapping[str, Any]]:
        """Return what happened to a collection."""
        rows = await self._chroma.get(shape.facts, ids=[INDEXED, WITHDRAWN])
        return {row.id: row.values for row in rows}

    async def _with_ids(self, name: str, found: Collection) -> Shape:
        ids = {}
        for place in (places.facts(name), places.owed(name)):
            beside = await self._chroma.find(place)
            if beside is None:
                raise Missing(f"collection {name} is being dropped: {place} is gone already")
            ids[place] = beside.id
        values = found.metadata
        return Shape(
            name, found.id, ids[places.facts(name)], ids[places.owed(name)], str(values[places.KEY]),
            str(values["uid"]), str(values["fingerprint"]), int(values["dimensions"]), str(values["metric"]),
            int(values["shards"]), int(values["total"]), float(values["created"]),
        )  # fmt: skip


def row(document: str, rev: int, text_hash: bytes, vector: bytes) -> Row:
    """Return the row of a text."""
    values = {**places.tags(document), "rev": rev, "hash": text_hash.hex(), "live": True}
    return Row(f"{document}@{rev:016d}", values, vector=vector)


def reason(document: str, rev: int, why: tuple[str, str], dimensions: int) -> Row:
    """Return the row of a document that has no vector at this revision: older rows must not answer for it."""
    name = f"{document}@{rev:016d}"
    values = {**places.tags(document), "rev": rev, "hash": "", "live": False, "reason": why[0], "message": why[1]}
    return Row(name, values, vector=places.stand_in(name, dimensions))


def held(found: Row) -> Held:
    values = found.values
    return Held(
        found.id, str(values["doc"]), int(values["rev"]), bytes.fromhex(str(values["hash"])), bool(values["live"])
    )


def by_document(rows: Iterable[Row]) -> dict[str, list[Held]]:
    """Return each document's rows, the newest first."""
    found: dict[str, list[Held]] = {}
    for one in sorted(map(held, rows), key=lambda each: each.rev, reverse=True):
        found.setdefault(one.id, []).append(one)
    return found
