"""What a container may use and what it uses: CPU quota and memory, from cgroup v1 or v2.

Memory used is what cannot be reclaimed: anonymous, shared and kernel memory. Pages of a mapped model file are left out;
the kernel takes them back when it needs room. Where no cgroup limits this container (on a developer's machine, whose
root cgroup counts everybody's memory), this process and those it started are counted instead, and the limit is what the
machine has. Read by whoever exposes metrics or works by pressure; nothing here fails, since a figure is no duty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")
# cgroup v1 writes "no limit" as the largest multiple of the page size.
_UNLIMITED = 1 << 60
# What cgroup v2 sums up as `kernel` since Linux 5.18.
_KERNEL = ("slab", "kernel_stack", "pagetables", "percpu", "sock")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that cannot be reclaimed, and the limit."""

    used: int
    limit: int


def cpus(root: Path = ROOT) -> float:
    """Return how many CPUs the container may use at a time; the machine's, where nothing limits it."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota = _quota_v2(root) if _is_v2(root) else _quota_v1(root)
    return min(allowed, quota) if quota is not None else allowed


def memory(root: Path = ROOT, proc: Path = PROC) -> Memory:
    """Return the container's memory."""
    found = _memory_v2(root) if _is_v2(root) else _memory_v1(root / "memory")
    return found if found is not None else Memory(_own(proc), _machine())


def _is_v2(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _quota_v2(root: Path) -> float | None:
    return _quota(*_text(root / "cpu.max").partition(" ")[::2])


def _quota_v1(root: Path) -> float | None:
    return _quota(_text(root / "cpu" / "cpu.cfs_quota_us"), _text(root / "cpu" / "cpu.cfs_period_us"))


def _quota(quota: str, period: str) -> float | None:
    # "max" in v2 and -1 in v1 mean that there is none.
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _memory_v2(root: Path) -> Memory | None:
    limit = _text(root / "memory.max")
    if not limit:  # the machine's root, which has no limit
        return None
    stat = _table(root / "memory.stat")
    kernel = stat["kernel"] if "kernel" in stat else sum(stat.get(name, 0) for name in _KERNEL)
    used = stat.get("anon", 0) + stat.get("shmem", 0) + kernel
    return Memory(used, min(int(limit), _machine()) if limit.isdecimal() else _machine())


def _memory_v1(directory: Path) -> Memory | None:
    limit = _text(directory / "memory.limit_in_bytes")
    if not limit.isdecimal() or int(limit) > _UNLIMITED:
        return None
    stat = _table(directory / "memory.stat")
    # Shared memory is counted among the cache there, and kernel memory apart.
    kernel = _text(directory / "memory.kmem.usage_in_bytes")
    used = stat.get("total_rss", 0) + stat.get("total_shmem", 0) + (int(kernel) if kernel.isdecimal() else 0)
    return Memory(used, min(int(limit), _machine()))


def _own(proc: Path) -> int:
    """Return the anonymous and shared memory of this process and its descendants."""
    status = {int(path.name): _table(path / "status") for path in proc.glob("[0-9]*")}
    return 1024 * sum(
        status[pid].get("RssAnon:", 0) + status[pid].get("RssShmem:", 0) for pid in _descendants(os.getpid(), status)
    )


def _descendants(pid: int, status: Mapping[int, Mapping[str, int]]) -> Iterator[int]:
    if pid in status:
        yield pid
    for child, table in status.items():
        if table.get("PPid:") == pid:
            yield from _descendants(child, status)


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _table(path: Path) -> dict[str, int]:
    """Return lines of a name and a number as a mapping; lines of another form are passed over."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
