"""What a container may use and what it uses: CPU quota and memory, from cgroup v1 or v2.

Memory used is what cannot be reclaimed: anonymous, shared and kernel memory. Pages of a mapped model file are left out;
the kernel takes them back when it needs room. Without a cgroup file the machine's own figures stand in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# cgroup v1 writes "no limit" as the largest multiple of the page size.
_UNLIMITED = 1 << 60


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that cannot be reclaimed, and the limit."""

    used: int
    limit: int


def cpus(root: Path = ROOT) -> float:
    """Return how many CPUs the container may use at a time; the machine's, where nothing limits it."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota = _quota_v2(root) if (root / "cgroup.controllers").exists() else _quota_v1(root)
    return min(allowed, quota) if quota is not None else allowed


def memory(root: Path = ROOT) -> Memory:
    """Return the container's memory."""
    if (root / "memory.stat").exists():
        stat = _table(root / "memory.stat")
        used = sum(stat.get(name, 0) for name in ("anon", "shmem", "kernel"))
        return Memory(used, _limit(_text(root / "memory.max")))
    directory = root / "memory"
    stat = _table(directory / "memory.stat")
    if not stat:
        return Memory(_own_anonymous(), _machine())
    # v1 counts shared memory among the cache, and kernel memory apart.
    kernel = int(_text(directory / "memory.kmem.usage_in_bytes") or 0)
    used = stat.get("total_rss", 0) + stat.get("total_shmem", 0) + kernel
    return Memory(used, _limit(_text(directory / "memory.limit_in_bytes")))


def _quota_v2(root: Path) -> float | None:
    quota, _, period = _text(root / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _quota_v1(root: Path) -> float | None:
    quota = _text(root / "cpu" / "cpu.cfs_quota_us")
    period = _text(root / "cpu" / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _limit(text: str) -> int:
    machine = _machine()
    return min(int(text), machine) if text.isdecimal() and int(text) < _UNLIMITED else machine


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _own_anonymous() -> int:
    return _table(Path("/proc/self/status")).get("RssAnon:", 0) * 1024


def _table(path: Path) -> dict[str, int]:
    """Return lines of a name and a number as a mapping; lines of another form are passed over."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
