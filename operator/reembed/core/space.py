"""How much room collections take: estimated before one is made, measured where it is there.

PostgreSQL does not tell how much of its disk is free. Where an index's owner says how large the database may become
(`spec.store.capacity`), `core.preflight` holds a migration whose collection would not fit; elsewhere the estimate is
told, and that is all. What no plan names is listed for people and never dropped. Of documents that are cut the parts
are counted: estimated by the lengths of the source's texts, since nobody here has the tokenizer.

The estimate follows the layout of pages: 8 KiB each; a vector that makes its row longer than a quarter of one is kept
in chunks beside the table, four to a page; an element of the vector index and its list of neighbours share a page where
both fit. A test compares it with what PostgreSQL takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reembed.core import desired
from reembed.core.chunking import MOST_PARTS
from reembed.core.fingerprint import chunking_of
from reembed.core.migration import SeenIndex
from reembed.core.model import Chunking, CollectionReport, CutAt, Desired, StoreReport, TextSizes

_PAGE = 8192 - 24
_ROW = 76  # header, line pointer, id, part, revision and hash of a text
_PRIMARY_KEY = 40
_LONGEST_ROW = 2032
_POINTER = 24  # to a vector beside the table
_CHUNK = 1996
_CHUNKS_PER_PAGE = 4
_CHUNK_KEY = 32
# Of the vector index (pgvector's HnswElementTupleData and HnswNeighborTupleData).
_INDEX_PAGE = _PAGE - 8
_ELEMENT = 72
_LINK = 6
_VECTOR_DIMENSIONS = 2000  # above, numbers have two bytes

# Bytes of a token, and the share of a part that is full where it ends at such a place, by MiniLM's vocabulary
# over prose (3.4) and code (3.7) and parts of 16 to 256 tokens (0.71 to 0.83, 0.76 to 0.9, 0.9 to 0.95).
_TOKEN_BYTES = 3.5
_FILLED = {CutAt.SENTENCE: 0.75, CutAt.LINE: 0.8, CutAt.TOKEN: 0.93}

# A collection of fewer rows says little of what a row takes.
_ENOUGH_ROWS = 1000
# What updates leave behind comes with time: a new collection is estimated by a measured one up to this factor.
_MOST_FACTOR = 2.0
# A size is told anew when it differs by this share from the one that was told.
_STEP = 0.05
_MOST_LISTED = 64  # the CRD's limit


@dataclass(frozen=True, slots=True)
class Kept:
    """A collection that takes room. `orphaned`: no plan of the index names it."""

    name: str
    state: str
    size: int | None
    orphaned: bool = False
    recall: float | None = None  # of its vector index


def estimate(documents: int, dimensions: int, m: int = 16) -> int:
    """Return the bytes of a collection of so many documents with its indexes; `m` is the vector index's."""
    vector = 8 + dimensions * (4 if dimensions <= _VECTOR_DIMENSIONS else 2)
    row = _ROW + vector
    beside = 0.0
    if row > _LONGEST_ROW:
        row, chunks = _ROW + _POINTER, -(-vector // _CHUNK)
        beside = chunks * (_PAGE / _CHUNKS_PER_PAGE + _CHUNK_KEY)
    return round(documents * (_share(row) + _PRIMARY_KEY + beside + _in_index(vector, m)))


def _share(size: int) -> float:
    """Return what an entry of this size takes of its page, with what is left over there."""
    return 8192 / (_PAGE // size)


def _in_index(vector: int, m: int) -> float:
    element, neighbours = _ELEMENT + vector + 4, (2 * m + 2) * _LINK + 12
    both = element + neighbours
    return 8192 / (_INDEX_PAGE // both) if both <= _INDEX_PAGE else 2 * 8192.0


def vectors(store: StoreReport, documents: int | None, chunking: Chunking | None) -> int | None:
    """Return how many vectors so many documents of the source get, None before they are counted and measured."""
    if documents is None or (chunking is not None and store.texts is None):
        return None
    return round(documents * (parts(store.texts or (), chunking) if chunking is not None else 1.0))


def parts(texts: Iterable[TextSizes], chunking: Chunking) -> float:
    """Return how many parts a document of the source has on the average, about."""
    found = [(one.documents, _parts(one.bytes / one.documents, chunking)) for one in texts if one.documents]
    return sum(count * each for count, each in found) / sum(count for count, _ in found) if found else 1.0


def _parts(size: float, chunking: Chunking) -> float:
    tokens = size / _TOKEN_BYTES
    if tokens <= chunking.max_tokens:
        return 1.0
    filled = _FILLED[chunking.at] * chunking.max_tokens
    # The last part is half full on the average.
    return min(1.5 + (tokens - filled) / (filled - min(chunking.overlap_tokens, filled / 2)), MOST_PARTS)


def needed(store: StoreReport, dimensions: int, m: int = 16, chunking: Chunking | None = None) -> int | None:
    """Return the bytes that a new collection of the source will take, None before its documents are counted.

    What documents of this source take beyond the estimate is seen at the collections that are there.
    """
    count = vectors(store, store.documents, chunking)
    return round(estimate(count, dimensions, m) * _factor(store)) if count is not None else None


def _factor(store: StoreReport) -> float:
    measured = [
        one.size / estimate(count, one.dimensions)
        for one in store.collections
        if one.size is not None and one.state == "Indexed" and one.written >= _ENOUGH_ROWS
        if (count := vectors(store, one.written, chunking_of(one.fingerprint)))
    ]
    return min(max([1.0, *measured]), _MOST_FACTOR)


def kept(index: SeenIndex, store: StoreReport) -> tuple[Kept, ...]:
    """Return what takes room in the store: what is planned as it is planned, then what is not, the largest first.

    Of an index whose status was emptied nothing is known to be orphaned: its plan is about to be rebuilt.
    """
    reports = {one.name: one for one in store.collections}
    names = [one.name for one in index.status.plan.collections if one.name in reports]
    planned = [_kept(reports[name], orphaned=False) for name in names]
    unnamed = [one for one in store.collections if one.name not in names]
    if desired.lost(index):
        return tuple([_kept(one, orphaned=False) for one in unnamed][:_MOST_LISTED])
    others = [_kept(one, orphaned=True) for one in unnamed]
    left = [Kept(one.name, one.state, one.size, orphaned=True) for one in store.left or ()]
    return tuple((planned + sorted(others + left, key=lambda one: (-(one.size or 0), one.name)))[:_MOST_LISTED])


def _kept(one: CollectionReport, *, orphaned: bool) -> Kept:
    return Kept(one.name, one.state, one.size, orphaned, one.recall)


def unsettled(index: SeenIndex, store: StoreReport) -> bool:
    """Return whether the store is about to change what is told of a planned collection."""
    states = {one.name: one.state for one in store.collections}
    plans = [one for one in index.status.plan.collections if one.name in states]
    return any(one.desired is not Desired.PRESENT and one.desired.value != states[one.name] for one in plans)


def orphans(index: SeenIndex, store: StoreReport) -> str:
    """Say how much room it would give to drop what no plan names, empty if there is nothing."""
    found = [one for one in kept(index, store) if one.orphaned]
    size = sum(one.size or 0 for one in found)
    return (
        f"collections that no plan names take {text(size)}: {', '.join([one.name for one in found[:3]])}"
        if size
        else ""
    )


def steadied(size: int | None, told: Mapping[str, int], name: str) -> int | None:
    """Return the size to tell: what was told stays until it is wrong, so that nothing is written for a few pages."""
    before = told.get(name)
    if size is None or before is None:
        return size if size is not None else before
    return before if abs(size - before) <= _STEP * before else size


def text(size: int) -> str:
    """Return bytes for people, with two digits."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
