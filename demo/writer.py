"""Entry point of the demo's writer pod: an application that changes its documents all the time.

Each write is a transaction of one row on a connection of the application's own role. Most writes change a column that
is not embedded, as most writes of most applications do; the others change texts, add documents and delete those it
added. A write whose connection is cut is counted apart, since the application cannot know whether it was done; any
other error is a failure of ours: nothing that captures live writes may fail one. The tally is printed at SIGTERM.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg

# Shares of all writes.
TEXTS, ADDED, DELETED = 0.03, 0.01, 0.01
_OWN = 1_000_000  # ids from here on are documents that the writer added
_KEPT_PROBLEMS = 5

_OTHER_COLUMN = "UPDATE functions SET name = name WHERE id = %s"
_TEXT = "UPDATE functions SET body = split_part(body, E'\\n# revision', 1) || E'\\n# revision ' || %s WHERE id = %s"
_ADD = "INSERT INTO functions SELECT %s, name, body || E'\\n# copy' FROM functions WHERE id = %s"
_DELETE = "DELETE FROM functions WHERE id = %s"


@dataclass(slots=True)
class Tally:
    """What was written; latencies in seconds."""

    done: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def json(self) -> dict[str, Any]:
        ordered = sorted(self.latencies)
        return {
            "done": dict(self.done),
            "cut": self.cut,
            "failed": self.failed,
            "problems": self.problems,
            "perSecond": round(len(ordered) / self.seconds, 1) if self.seconds else 0.0,
            "p50Ms": round(1000 * ordered[len(ordered) // 2], 2) if ordered else None,
            "p99Ms": round(1000 * ordered[int(0.99 * len(ordered))], 2) if ordered else None,
        }


@dataclass(slots=True)
class Writer:
    """Draws writes; `documents` are the ids of the corpus."""

    documents: list[int]
    rng: random.Random
    added: list[int] = field(default_factory=list)
    number: int = 0

    def draw(self) -> tuple[str, str, tuple[object, ...]]:
        """Return the kind of the next write, its statement and its values."""
        self.number += 1
        chance, one = self.rng.random(), self.rng.choice(self.documents)
        if chance < DELETED and self.added:
            return "deleted", _DELETE, (self.added.pop(self.rng.randrange(len(self.added))),)
        if chance < DELETED + ADDED:
            self.added.append(_OWN + self.number)
            return "added", _ADD, (_OWN + self.number, one)
        if chance < DELETED + ADDED + TEXTS:
            return "texts", _TEXT, (self.number, one)
        return "others", _OTHER_COLUMN, (one,)


def write(dsn: str, rate: float, rng: random.Random) -> Tally:
    """Write until SIGTERM, `rate` times a second or as fast as the database answers."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    connection = _connect(dsn, stop)
    documents = [int(row[0]) for row in connection.execute("SELECT id FROM functions ORDER BY id").fetchall()]
    writer, tally, start = Writer(documents, rng), Tally(), time.monotonic()
    while not stop.wait(max(0.0, start + writer.number / rate - time.monotonic())):
        kind, statement, values = writer.draw()
        begun = time.monotonic()
        try:
            connection.execute(statement, values)
        except psycopg.OperationalError:
            tally.cut += 1
            connection = _connect(dsn, stop)
        except psycopg.Error as error:
            tally.failed += 1
            tally.problems = [*tally.problems, f"{kind}: {error}"][:_KEPT_PROBLEMS]
        else:
            tally.done[kind] += 1
            tally.latencies.append(time.monotonic() - begun)
    tally.seconds = time.monotonic() - start
    return tally


def _connect(dsn: str, stop: threading.Event) -> psycopg.Connection[tuple[Any, ...]]:
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True, application_name="application", connect_timeout=5)
        except psycopg.OperationalError:
            if stop.wait(0.2):
                raise


def main() -> None:
    tally = write(os.environ["APPLICATION_DSN"], float(os.environ["DEMO_WRITES"]), random.Random(7))
    print(json.dumps(tally.json()))


if __name__ == "__main__":
    main()
