"""Where things are in a Chroma database, and in which order documents come.

Chroma compares no texts, so documents are ordered by a hash of their ids: its first 16 bits are the bucket of a row, by
which rows are found, and a shard is a range of buckets. Rows of Reembed's own notes need vectors as all rows do; they
get two numbers of the same hash, since an index of equal points would be a heap.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

BUCKETS = 1 << 16
_COARSE = 1 << 8  # buckets that a coarse one holds
# So many values are asked for in one condition; more of the fine ones are asked for as coarse ones.
_MOST_VALUES = 1024
KIND, KEY = "reembed_kind", "reembed_key"


def documents(index_key: str) -> str:
    """Name of the collection with an index's documents."""
    return f"reembed-{_short(index_key)}-documents"


def notes(index_key: str) -> str:
    """Name of the collection with what is known of an index: claim, pointer, epochs, evaluations."""
    return f"reembed-{_short(index_key)}-notes"


def vectors(collection: str) -> str:
    return f"reembed.{collection}"


def facts(collection: str) -> str:
    """Name of the collection with a collection's shards and its state."""
    return f"reembed.{collection}.facts"


def owed(collection: str) -> str:
    return f"reembed.{collection}.owed"


def order(document: str) -> tuple[int, str]:
    """Return by what documents are ordered."""
    return int.from_bytes(_digest(document)[:8], "big"), document


def bucket(document: str) -> int:
    return int.from_bytes(_digest(document)[:2], "big")


def tags(document: str) -> dict[str, Any]:
    """Return by what a document's rows are found."""
    fine = bucket(document)
    return {"doc": document, "fine": fine, "coarse": fine // _COARSE}


def between(first: int, last: int) -> tuple[Mapping[str, Any], int]:
    """Return a condition for the rows of buckets from `first` on, and the last bucket that it holds up to `last`.

    It may hold rows of buckets before `first`.
    """
    if last - first < _MOST_VALUES:
        return {"fine": {"$in": list(range(first, last + 1))}}, last
    return {"coarse": {"$in": list(range(first // _COARSE, last // _COARSE + 1))}}, last | (_COARSE - 1)


def of_documents(ids: Sequence[str]) -> Mapping[str, Any]:
    return {"doc": {"$in": list(ids)}}


def point(name: str) -> bytes:
    return struct.pack("<2f", *[part / 2**31 - 1.0 for part in struct.unpack(">2I", _digest(name)[8:16])])


def stand_in(name: str, dimensions: int) -> bytes:
    """Return a vector for a row that has none, away from other such rows; it answers nothing."""
    seed = hashlib.shake_256(name.encode()).digest(dimensions)
    return struct.pack(f"<{dimensions}f", *[byte / 127.5 - 1.0 for byte in seed])


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _short(index_key: str) -> str:
    return hashlib.sha256(index_key.encode()).hexdigest()[:16]
