"""What is fixed of a collection for its life: where its vectors are, and what they and their documents look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from reembed.core.fingerprint import chunking_of
from reembed.stores.pgvector import tables

OF_COLLECTION = """
SELECT name, source, id_type, dimensions, fingerprint, type, adopted FROM reembed.collection WHERE name = %s"""


@dataclass(frozen=True, slots=True)
class Shape:
    """A row of reembed.collection, as far as it never changes."""

    name: str
    source: dict[str, Any]
    id_type: str
    dimensions: int
    fingerprint: str
    kind: str  # vector or halfvec
    adopted: str | None  # the column of the source that holds its vectors; None: a table of its own does

    @property
    def is_cut(self) -> bool:
        return chunking_of(self.fingerprint) is not None


def names(shape: Shape) -> dict[str, sql.Composable]:
    return {"collection": tables.collection(shape.name), "type": tables.written(shape.id_type)}
