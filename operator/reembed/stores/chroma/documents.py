"""The documents of an index: a collection of Reembed's own, in which a row is one version of one document.

Chroma has neither transactions nor a compare-and-set, but it has one thing that is enough: `add` leaves a row alone
whose id is there already. So nothing here is ever overwritten. A write adds a row under the document's id and the
revision above the newest, and looks whose row it is; who came second takes the next revision. The row is the text, its
revision, and the mark that somebody has to follow it, in one: there is no moment at which one is stored and another is
not. A document is what its newest row says; a deletion is a row as well. Rows that a newer one covers are taken away
once their marks are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reembed.stores.chroma import places
from reembed.stores.chroma.client import Chroma, Missing, Row
from reembed.stores.protocol import Document, DocumentWrite, Stored, StoreUnavailable

_HASH_BYTES = 16
_ATTEMPTS = 10
_AT_ONCE = 200  # documents of one condition
API, ADOPTED = "api", "adopted"


@dataclass(frozen=True, slots=True)
class Version:
    """A document at one revision; `text` only where it was asked for."""

    id: str
    rev: int
    text_hash: bytes | None  # None: it has no text
    gone: bool
    marked: bool
    size: int
    by: str
    metadata: str
    text: str | None = None

    @property
    def row(self) -> str:
        return row_id(self.id, self.rev)


class Source:
    """The documents of one index; `find` is asked again after they were not there."""

    def __init__(self, chroma: Chroma, name: str) -> None:
        self._chroma = chroma
        self._name = name
        self._id: str | None = None

    async def id(self) -> str:
        if self._id is None:
            found = await self._chroma.find(self._name)
            if found is None:
                raise Missing(f"collection {self._name} with the documents is not there; the store worker makes it")
            self._id = found.id
        return self._id

    async def get(self, **asked: Any) -> list[Row]:
        """Return rows; a collection that was made anew under its name is found again."""
        try:
            return await self._chroma.get(await self.id(), **asked)
        except Missing:
            self._id = None
            return await self._chroma.get(await self.id(), **asked)

    async def count(self) -> int:
        return await self._chroma.count(await self.id())

    async def newest(self, ids: Iterable[str], *, texts: bool = False) -> dict[str, Version]:
        """Return the newest version of each document that has one."""
        asked = sorted(set(ids))
        found: dict[str, Version] = {}
        for start in range(0, len(asked), _AT_ONCE):
            where = places.of_documents(asked[start : start + _AT_ONCE])
            found |= newest_of(await self.get(where=where, include=_include(texts=texts)))
        return found

    async def window(self, first: int, last: int) -> tuple[dict[str, Version], int]:
        """Return the newest versions of documents in buckets from `first` to about `last`, and the last one read."""
        where, read = places.between(first, last)
        found = newest_of(await self.get(where=where))
        return {name: one for name, one in found.items() if places.bucket(name) >= first}, read

    async def texts(self, versions: Sequence[Version]) -> list[Document]:
        """Return the documents with their texts of now, without those that are gone meanwhile."""
        rows = await self.get(ids=[one.row for one in versions], include=_include(texts=True)) if versions else []
        found = newest_of(rows)
        if covered := [one.id for one in versions if one.id not in found]:
            found |= await self.newest(covered, texts=True)
        return [Document(one.id, found[one.id].text) for one in versions if one.id in found and not found[one.id].gone]

    async def write(self, writes: Sequence[DocumentWrite], *, by: str = API) -> list[Stored]:
        """Store what documents are now, or that they are gone; durable, and marked to be followed, when it returns."""
        stored: dict[str, Stored] = {}
        pending = {one.id: one for one in writes}
        for attempt in range(_ATTEMPTS):
            known = await self.newest(pending)
            for name, write in list(pending.items()):
                if _unchanged(known.get(name), write):
                    stored[name] = Stored(name, known[name].rev)
                    del pending[name]
            revs = {name: max(_now(), known[name].rev + 1 if name in known else 0) for name in pending}
            stored |= await self.put([(pending[name], rev) for name, rev in revs.items()], by=by)
            pending = {name: one for name, one in pending.items() if name not in stored}
            if not pending:
                return [stored[one.id] for one in writes]
            await asyncio.sleep(0.01 * attempt)
        raise StoreUnavailable(
            f"{len(pending)} documents are written by others again and again, so these writes found no place among "
            "them; nothing was stored of them, send them again"
        )

    async def put(self, writes: Sequence[tuple[DocumentWrite, int]], *, by: str) -> dict[str, Stored]:
        """Store versions of exactly these revisions, and return those that nobody else had stored."""
        if not writes:
            return {}
        mine = secrets.token_hex(8)
        rows = [_row(write, rev, by, mine) for write, rev in writes]
        await self._chroma.add(await self.id(), rows)
        found = await self.get(ids=[row.id for row in rows])
        ours = [version(row) for row in found if row.values.get("by_whom") == mine]
        return {one.id: Stored(one.id, one.rev) for one in ours}

    async def marked(self, limit: int) -> list[Version]:
        """Return versions that nobody followed yet, about the oldest first."""
        return [version(row) for row in await self.get(where={"mark": "1"}, limit=limit)]

    async def unmark(self, versions: Sequence[Version]) -> None:
        """Take marks away, and rows that newer ones cover."""
        collection = await self.id()
        await self._chroma.change(collection, [one.row for one in versions], {"mark": None})
        ids = sorted({one.id for one in versions})
        for start in range(0, len(ids), _AT_ONCE):
            rows = await self.get(where=places.of_documents(ids[start : start + _AT_ONCE]))
            newest = newest_of(rows)
            old = [one for one in map(version, rows) if one.rev < newest[one.id].rev and not one.marked]
            await self._chroma.delete(collection, [one.row for one in old])


def row_id(document: str, rev: int) -> str:
    return f"{document}@{rev:016d}"


def text_hash(text: str) -> bytes:
    """Return what tells whether a text is still the one that was embedded; as the backfill computes it."""
    return hashlib.sha256(text.encode()).digest()[:_HASH_BYTES]


def newest_of(rows: Iterable[Row]) -> dict[str, Version]:
    found: dict[str, Version] = {}
    for one in map(version, rows):
        if one.id not in found or found[one.id].rev < one.rev:
            found[one.id] = one
    return found


def version(row: Row) -> Version:
    values = row.values
    return Version(
        id=str(values["doc"]),
        rev=int(values["rev"]),
        text_hash=bytes.fromhex(str(values["hash"])) or None,
        gone=bool(values["gone"]),
        marked=values.get("mark") is not None,
        size=int(values["size"]),
        by=str(values["by"]),
        metadata=str(values.get("metadata", "")),
        text=row.text,
    )


def _row(write: DocumentWrite, rev: int, by: str, mine: str) -> Row:
    text = write.text
    values = {
        **places.tags(write.id),
        "rev": rev,
        "hash": text_hash(text).hex() if text is not None else "",
        "gone": write.gone,
        "mark": "1",
        "size": len(text.encode()) if text is not None else 0,
        "by": by,
        "by_whom": mine,
        "metadata": _metadata(write.metadata),
    }
    name = row_id(write.id, rev)
    return Row(name, values, text, places.point(name))


def _unchanged(known: Version | None, write: DocumentWrite) -> bool:
    if known is None:
        return False
    if write.gone or known.gone:
        return write.gone and known.gone
    same = known.text_hash == (text_hash(write.text) if write.text is not None else None)
    return same and known.metadata == _metadata(write.metadata) and known.by == API


def _metadata(given: Mapping[str, Any]) -> str:
    return json.dumps(given, sort_keys=True, separators=(",", ":")) if given else ""


def _now() -> int:
    """Return microseconds: revisions are about in the order of time, and above what is known in any case."""
    return time.time_ns() // 1000


def _include(*, texts: bool) -> tuple[str, ...]:
    return ("metadatas", "documents") if texts else ("metadatas",)
