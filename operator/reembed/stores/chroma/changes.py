"""Live writes on their way into the collections: `Following` of the protocol.

A mark is a part of the row that was written, a debt a row of its own, and what pays it a row that is added, never one
that is changed. So each step may be repeated and done by two at once: they add the same rows. A debt is cleared after
the row of its revision was read back, and rows of lower revisions are taken away after that: a document of which there
was a vector has one at every moment. The text is read after the debt, so it is at least as new.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from reembed.stores.chroma import comparison, held, places
from reembed.stores.chroma.client import Address, Chroma, Connected, Missing, Row
from reembed.stores.chroma.documents import Source
from reembed.stores.chroma.held import Held, Shape, Shapes
from reembed.stores.chroma.notes import Notes
from reembed.stores.protocol import Change, Debt, Differences, Document, Paid, Rejected, Watching, Written

_MARKS = 1000  # of one pass


class Changes(Connected):
    """`async with Changes(dsn, index_key) as changes:`."""

    def __init__(self, dsn: str, index_key: str) -> None:
        super().__init__(Chroma(Address.of(dsn), 4))
        self._key = index_key
        self._source = Source(self._chroma, places.documents(index_key))
        self._notes = Notes(self._chroma, index_key)
        self._shapes = Shapes(self._chroma)

    async def spread(self, after: int) -> tuple[int, int]:
        """Turn marks into debts of the live collections; a mark that was spread is there no more, whatever `after`."""
        marked = await self._source.marked(_MARKS)
        if not marked:
            return 0, after
        for shape in await self._shapes.live(self._key):
            try:
                await owe(self._chroma, shape, [(one.id, one.rev, one.rev / 1e6) for one in marked])
            except Missing:  # it is being withdrawn or dropped
                self._shapes.forget(shape.name)
        await self._source.unmark(marked)
        return len(marked), max(after, *[one.rev for one in marked])

    async def owed(self, collection: str, limit: int, but: Sequence[str] = ()) -> list[Debt]:
        shape = await self._shapes.of(collection)
        rows = await self._chroma.get(shape.owed, limit=2 * limit + len(but))
        debts: dict[str, int] = {}
        for row in rows:
            name = str(row.values["doc"])
            if name not in but:
                debts[name] = max(debts.get(name, 0), int(row.values["rev"]))
        return [Debt(name, rev) for name, rev in list(debts.items())[:limit]]

    async def read(self, collection: str, debts: Sequence[Debt]) -> list[Change]:
        shape = await self._shapes.of(collection)
        ids = [debt.id for debt in debts]
        newest = await self._source.newest(ids, texts=True)
        rows = held.by_document(await self._chroma.get(shape.vectors, where=places.of_documents(ids)))
        changes = []
        for debt in debts:
            now, newer = newest.get(debt.id), rows.get(debt.id, [])
            there = now is not None and not now.gone
            kept = newer[0].text_hash if newer and newer[0].live else None
            document = Document(debt.id, now.text) if there and now is not None else None
            changes.append(Change(debt, document, kept))
        return changes

    async def pay(self, collection: str, paid: Sequence[Paid]) -> int:
        if not paid:
            return 0
        shape = await self._shapes.of(collection)
        ids = [one.debt.id for one in paid]
        before = held.by_document(await self._chroma.get(shape.vectors, where=places.of_documents(ids)))
        await self._chroma.add(shape.vectors, await self._rows(shape, paid, before))
        after = held.by_document(await self._chroma.get(shape.vectors, where=places.of_documents(ids)))
        settled = {one.debt.id: one for one in paid if _settled(one, after.get(one.debt.id, []))}
        old = [row.row for name, one in settled.items() for row in after.get(name, []) if _replaced(row, one)]
        await self._chroma.delete(shape.vectors, old)
        return await self._clear(shape, settled)

    async def lag(self) -> dict[str, tuple[int, float]]:
        found = {}
        for shape in await self._shapes.live(self._key):
            try:
                count = await self._chroma.count(shape.owed)
                oldest = await self._chroma.get(shape.owed, limit=1) if count else []
            except Missing:
                self._shapes.forget(shape.name)
                continue
            seconds = max([time.time() - float(row.values["at"]) for row in oldest], default=0.0)
            found[shape.name] = (count, max(0.0, seconds))
        return found

    async def compare(self, collection: str, after: str | None, limit: int) -> tuple[Differences, str | None]:
        shape = await self._shapes.of(collection)
        differing, last = await comparison.compare(self._chroma, self._source, shape, after, limit)
        now = time.time()
        # Deleted first: whoever pays would take the row that is in the way for what pays the debt. What is lost between
        # the two is found by the next comparison, since that counts as compared only at its end.
        await self._chroma.delete(shape.vectors, differing.covered)
        await owe(self._chroma, shape, [(name, rev, now) for name, rev in differing.owed])
        return differing.found, last

    async def compared(self, collection: str, epoch: int, found: Differences) -> None:
        shape = await self._shapes.of(collection)
        name = comparison.compared_in(epoch)
        values = {"missing": found.missing, "stale": found.stale, "orphaned": found.orphaned, "at": time.time()}
        await self._chroma.add(shape.facts, [Row(name, values, vector=places.point(name))])

    async def epoch(self) -> int:
        return await self._notes.epoch()

    async def watched(self, collection: str, grace: float, count: int) -> Watching:
        """Return nothing: in Chroma no application has a column of its own."""
        return Watching((), changed=False)

    async def _rows(self, shape: Shape, paid: Sequence[Paid], before: dict[str, list[Held]]) -> list[Row]:
        rows, copied = list[Row](), dict[str, tuple[str, int, bytes]]()
        for one in paid:
            debt, outcome = one.debt, one.outcome
            if isinstance(outcome, Written):
                rows.append(held.row(debt.id, debt.rev, outcome.text_hash, outcome.vector))
            elif isinstance(outcome, Rejected):
                rows.append(held.reason(debt.id, debt.rev, (outcome.reason, outcome.message), shape.dimensions))
            elif isinstance(outcome, bytes):
                same = [row for row in before.get(debt.id, []) if row.live and row.text_hash == outcome]
                if same and same[0].rev < debt.rev:
                    copied[same[0].row] = (debt.id, debt.rev, outcome)
        if copied:
            found = await self._chroma.get(shape.vectors, ids=list(copied), include=("metadatas", "embeddings"))
            rows += [held.row(*copied[row.id], row.vector) for row in found]
        return rows

    async def _clear(self, shape: Shape, settled: dict[str, Paid]) -> int:
        """Clear debts up to the revision that was paid."""
        if not settled:
            return 0
        rows = await self._chroma.get(shape.owed, where=places.of_documents(sorted(settled)))
        paid = [row for row in rows if int(row.values["rev"]) <= settled[str(row.values["doc"])].debt.rev]
        await self._chroma.delete(shape.owed, [row.id for row in paid])
        return len({str(row.values["doc"]) for row in paid})


async def owe(chroma: Chroma, shape: Shape, debts: Sequence[tuple[str, int, float]]) -> None:
    rows = []
    for document, rev, at in debts:
        name = f"{document}@{rev:016d}"
        rows.append(Row(name, {**places.tags(document), "rev": rev, "at": at}, vector=places.point(name)))
    await chroma.add(shape.owed, rows)


def _settled(one: Paid, rows: Sequence[Held]) -> bool:
    """Return whether a row of the debt's revision, or a later one, is there, or none has to be."""
    return one.outcome is None or any(row.rev >= one.debt.rev for row in rows)


def _replaced(row: Held, one: Paid) -> bool:
    return row.rev < one.debt.rev or (one.outcome is None and row.rev == one.debt.rev)
