"""Vectors as PostgreSQL takes them in binary, built from little-endian float32 bytes without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from psycopg import AsyncCursor
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import TupleRow

from reembed.stores.pgvector.connection import Connection
from reembed.stores.protocol import StoreError

_VECTOR = """
SELECT n.nspname, t.oid::bigint FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = 'vector' WHERE e.extname = 'vector'"""


class VectorArray(bytes):
    """An array of vectors as PostgreSQL receives it in binary."""


class _VectorArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer | None:
        return bytes(obj)


def vector_cursor(connection: Connection) -> AsyncCursor[TupleRow]:
    """Return a cursor that sends a `VectorArray` as it is."""
    cursor = connection.cursor()
    cursor.adapters.register_dumper(VectorArray, _VectorArrayDumper)
    return cursor


async def vector_type(connection: Connection) -> tuple[str, int]:
    """Return schema and OID of the type `vector`, which do not change while its columns exist."""
    row = await (await connection.execute(_VECTOR)).fetchone()
    if row is None:
        raise StoreError("extension vector is missing; run CREATE EXTENSION vector; as an administrator")
    return row[0], row[1]


def vector_array(vectors: Sequence[bytes], dimensions: int, oid: int) -> VectorArray:
    """Return float32 vectors as one binary array of pgvector's type, whose `oid` differs in every database."""
    if not vectors:
        return VectorArray(np.array([0, 0, oid], ">i4").tobytes())
    header = np.array([1, 0, oid, len(vectors), 1], ">i4").tobytes()
    length = 4 + 4 * dimensions  # a vector: its dimensions and a reserved zero, two bytes each, then its numbers
    rows = np.empty(
        len(vectors), dtype=[("length", ">i4"), ("of", ">i2"), ("zero", ">i2"), ("numbers", ">f4", dimensions)]
    )
    rows["length"], rows["of"], rows["zero"] = length, dimensions, 0
    rows["numbers"] = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), dimensions)
    return VectorArray(header + rows.tobytes())
