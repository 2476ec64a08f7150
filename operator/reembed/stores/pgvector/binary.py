"""Arrays as PostgreSQL takes them in binary; vectors come from little-endian float32 bytes without a loop over them."""

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


class BinaryArray(bytes):
    """An array as PostgreSQL receives it in binary."""


class _BinaryArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer | None:
        return bytes(obj)


def vector_cursor(connection: Connection) -> AsyncCursor[TupleRow]:
    """Return a cursor that sends a `BinaryArray` as it is."""
    cursor = connection.cursor()
    cursor.adapters.register_dumper(BinaryArray, _BinaryArrayDumper)
    return cursor


async def vector_type(connection: Connection) -> tuple[str, int]:
    """Return schema and OID of the type `vector`, which do not change while its columns exist."""
    row = await (await connection.execute(_VECTOR)).fetchone()
    if row is None:
        raise StoreError("extension vector is missing; run CREATE EXTENSION vector; as an administrator")
    return row[0], row[1]


def array(values: Sequence[bytes], oid: int) -> BinaryArray:
    """Return values, as their type writes them in binary, as one binary array."""
    return BinaryArray(_header(len(values), oid) + b"".join([len(one).to_bytes(4, "big") + one for one in values]))


def vector_array(vectors: Sequence[bytes], dimensions: int, oid: int) -> BinaryArray:
    """Return float32 vectors as one binary array of pgvector's type, whose `oid` differs in every database."""
    header = _header(len(vectors), oid)
    length = 4 + 4 * dimensions  # a vector: its dimensions and a reserved zero, two bytes each, then its numbers
    rows = np.empty(
        len(vectors), dtype=[("length", ">i4"), ("of", ">i2"), ("zero", ">i2"), ("numbers", ">f4", dimensions)]
    )
    rows["length"], rows["of"], rows["zero"] = length, dimensions, 0
    rows["numbers"] = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), dimensions)
    return BinaryArray(header + rows.tobytes())


def _header(count: int, oid: int) -> bytes:
    """Return what precedes the values: dimensions, no NULLs, their type, and of the one dimension length and begin."""
    return np.array([1, 0, oid, count, 1] if count else [0, 0, oid], ">i4").tobytes()
