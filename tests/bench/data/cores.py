"""Which cores a program may run on, so that an embedder has its own, as a pod's would on another node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.fixtures import postgres


def halves() -> tuple[Set[int], Set[int]]:
    """Return the cores that this process may use, in two halves; both are all of them where there is one core only."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return (set(cores[:half]), set(cores[half:])) if half else (set(cores), set(cores))


@contextmanager
def confined(cores: Set[int], processes: Sequence[int] = ()) -> Iterator[None]:
    """Keep this process and `processes`, with whatever they start, to `cores` while the block runs."""
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *processes)}
    for pid in before:
        os.sched_setaffinity(pid, cores)
    try:
        yield
    finally:
        for pid, allowed in before.items():
            os.sched_setaffinity(pid, allowed)


def postmaster(server: postgres.Server) -> int:
    """Return the process that starts a server's connections."""
    with psycopg.connect(server.dsn(postgres.SUPERUSER, "postgres")) as connection:
        fields = Path("/proc", str(connection.info.backend_pid), "stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1])
