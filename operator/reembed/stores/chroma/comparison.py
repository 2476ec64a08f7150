"""Source and collection compared, bucket by bucket: what nobody had seen, and what was left behind.

There is no snapshot over several questions, so they are asked in the order in which a change goes: the document, its
debts, the collection's rows. Each stage is stored before the one before it is cleared, so a change that is missing in
the last was never owed, and what differs was missed. Rows that are there without a document are looked at once more,
since the document may have come after the first question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reembed.stores.chroma import held, places
from reembed.stores.chroma.client import Chroma
from reembed.stores.chroma.documents import Source, Version
from reembed.stores.chroma.held import Held, Shape
from reembed.stores.protocol import Differences


@dataclass(frozen=True, slots=True)
class Differing:
    """What was found, what is owed for it by document and revision, and rows that newer ones cover."""

    found: Differences
    owed: tuple[tuple[str, int], ...]
    covered: tuple[str, ...]


async def compare(
    chroma: Chroma, source: Source, shape: Shape, after: str | None, limit: int
) -> tuple[Differing, str | None]:
    """Compare about `limit` documents behind the bucket `after`; return the last bucket, None at the end."""
    first = 0 if after is None else int(after) + 1
    width = max(1, limit * places.BUCKETS // max(1, await source.count(), await chroma.count(shape.vectors)))
    newest, last = await source.window(first, min(first + width, places.BUCKETS) - 1)
    where, _ = places.between(first, last)
    owed = {str(row.values["doc"]) for row in await chroma.get(shape.owed, where=where)}
    rows = held.by_document(await chroma.get(shape.vectors, where=where))
    rows = {name: found for name, found in rows.items() if places.bucket(name) >= first}
    again = await source.newest([name for name in rows if name not in newest or _stale(newest[name], rows[name])])
    kinds = {"missing": 0, "stale": 0, "orphaned": 0}
    debts: list[tuple[str, int]] = []
    covered: list[str] = []
    for name in sorted(newest.keys() | rows.keys()):
        now, there = again.get(name, newest.get(name)), rows.get(name, [])
        if name in owed or (now is not None and (now.marked or now != newest.get(name))):
            continue
        covered += [row.row for row in there[1:]] if _settled(now, there) else []
        if (kind := _kind(now, there)) is not None:
            kinds[kind] += 1
            debts.append((name, max([now.rev if now is not None else 0, *[row.rev for row in there]])))
            # A row under the revision that is owed now would stand in the way of the one that pays.
            covered += [row.row for row in there if kind == "stale" and row.rev == debts[-1][1]]
    end = None if last >= places.BUCKETS - 1 else str(last)
    return Differing(Differences(**kinds), tuple(debts), tuple(covered)), end


def compared_in(epoch: int) -> str:
    """Name of the fact that a collection was compared in an epoch of capture."""
    return f"compared/{epoch:010d}"


def _kind(now: Version | None, rows: Sequence[Held]) -> str | None:
    if now is None or now.gone:
        return "orphaned" if rows else None
    if not rows:
        return "missing"
    return "stale" if _stale(now, rows) else None


def _stale(now: Version, rows: Sequence[Held]) -> bool:
    """Return whether the newest row is a vector of another text; one without a vector says why there is none."""
    return bool(rows) and rows[0].live and rows[0].text_hash != now.text_hash


def _settled(now: Version | None, rows: Sequence[Held]) -> bool:
    return now is not None and not now.gone and bool(rows) and not _stale(now, rows)
