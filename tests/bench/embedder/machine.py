"""What processes take of this machine while something is measured: memory, and the CPU time of everybody else.

Two threads of one context slow each other down as soon as another program wants a core, so a figure that was measured
beside other work says little; `others` says how much of it there was. Linux only.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_SECONDS = 0.1
_MIB = 1 << 20


@dataclass
class Memory:
    """MiB of a process and its children: what is anonymous or shared, and what is resident; the most of both."""

    anonymous: float = 0.0
    resident: float = 0.0
    samples: list[tuple[float, float]] = field(default_factory=list)  # seconds, anonymous MiB

    def add(self, anonymous: int, resident: int) -> None:
        self.samples.append((time.perf_counter(), anonymous / _MIB))
        self.anonymous = max(self.anonymous, anonymous / _MIB)
        self.resident = max(self.resident, resident / _MIB)


def family(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    try:
        # Each thread has its own children.
        lists = [task / "children" for task in (_PROC / str(pid) / "task").iterdir()]
        children = [child for one in lists for child in one.read_text().split()]
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def memory(pids: Sequence[int | str]) -> tuple[int, int]:
    """Return the bytes that are anonymous or shared, and those that are resident at all."""
    anonymous = resident = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            continue
        table = dict(line.split(":", 1) for line in lines if ":" in line)
        anonymous += 1024 * sum(int(table.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem"))
        resident += 1024 * int(table.get("VmRSS", "0").split()[0])
    return anonymous, resident


@contextmanager
def watched(pid: int, every: float = _EVERY_SECONDS) -> Iterator[Memory]:
    """Note the memory of a process and its children while the block runs."""
    found, ended = Memory(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            found.add(*memory(family(pid)))
            ended.wait(every)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


@dataclass
class Others:
    """The share of all cores that programs took which are not ours, in percent."""

    percent: float = 0.0


@contextmanager
def others() -> Iterator[Others]:
    """Say afterwards what everybody else took while the block ran; what we started must live through it."""
    found = Others()
    began, busy, own = time.perf_counter(), _busy(), _own()
    yield found
    cores = os.cpu_count() or 1
    share = (_busy() - busy - (_own() - own)) / (time.perf_counter() - began) / cores
    found.percent = max(0.0, 100 * share)


def _busy() -> float:
    """Return the CPU seconds that were not idle, of all cores; stolen ones are somebody's, too."""
    user, nice, system, _, _, interrupts, soft, stolen = map(
        int, (_PROC / "stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + interrupts + soft + stolen) / _TICKS


def _own() -> float:
    total = 0
    for pid in family(os.getpid()):
        try:
            fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS
