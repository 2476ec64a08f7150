"""The application's table that everybody migrates: documents with vectors of an older model, as many as asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from tests.fixtures.postgres import Database, Server, empty

DIMENSIONS = 384


@dataclass(frozen=True, slots=True)
class Source:
    """A database of its own with a table `docs (id, body, embedding)` of so many documents."""

    database: Database
    count: int

    @property
    def dsn(self) -> str:
        return self.database.owner_dsn

    def value(self, statement: str) -> int:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return int(row[0] or 0) if row else 0


@contextmanager
def source(server: Server, texts: Sequence[str], count: int) -> Iterator[Source]:
    """Make the table anew, so that nobody finds what another left: dead rows, full caches, an older column."""
    with empty(server) as database:
        made = Source(database, count)
        _fill(made, texts)
        yield made


def _fill(made: Source, texts: Sequence[str]) -> None:
    old = "[" + ",".join(["0.05"] * DIMENSIONS) + "]"
    with psycopg.connect(made.dsn) as connection:
        connection.execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, body text, embedding vector({DIMENSIONS}))")  # type: ignore[arg-type]
        with connection.cursor().copy("COPY docs FROM STDIN") as copy:
            for number, text in zip(range(1, made.count + 1), itertools.cycle(texts)):
                copy.write_row((number, text, old))
    with psycopg.connect(made.dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE docs")
