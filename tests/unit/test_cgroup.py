"""Memory that can't be reclaimed and CPU quota, as the two kinds of cgroup and /proc write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reembed import cgroup
from reembed.cgroup import Memory

_MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
_CPUS = float(len(os.sched_getaffinity(0)))
_V2 = {"cgroup.controllers": "cpu memory"}
_V2_STAT = "anon 100\nfile 5000\nkernel 30\nshmem 7\nfile_mapped 4000\n"
_V1_STAT = "cache 5000\nrss 90\nshmem 6\ntotal_cache 5000\ntotal_rss 100\ntotal_shmem 7\n"
_ME = f"{os.getpid()}/status"


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        pytest.param(
            {**_V2, "memory.stat": _V2_STAT, "memory.max": "1000\n"}, Memory(137, 1000), id="v2 leaves mapped files out"
        ),
        pytest.param(
            {**_V2, "memory.stat": _V2_STAT, "memory.max": "max\n"}, Memory(137, _MACHINE), id="v2 without a limit"
        ),
        pytest.param(
            {**_V2, "memory.stat": "anon 100\nslab 5\nkernel_stack 3\npagetables 2\n", "memory.max": "1000"},
            Memory(110, 1000),
            id="v2 before Linux 5.18",
        ),
        pytest.param(
            {
                "memory/memory.stat": _V1_STAT,
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.kmem.usage_in_bytes": "30",
            },
            Memory(137, 1000),
            id="v1 counts shared and kernel memory",
        ),
        pytest.param(
            {"memory/memory.stat": _V1_STAT, "memory/memory.limit_in_bytes": "9223372036854771712"},
            Memory(3 * 1024, _MACHINE),
            id="v1 without a limit counts the processes",
        ),
        pytest.param({}, Memory(3 * 1024, _MACHINE), id="no cgroup counts the processes"),
    ],
)
def test_memory_is_what_cannot_be_reclaimed(files: dict[str, str], memory: Memory, tmp_path: Path) -> None:
    own = {
        _ME: "Name:\tpython\nPPid:\t1\nRssAnon:\t1 kB\nRssFile:\t9 kB\n",
        "999998/status": f"PPid:\t{os.getpid()}\nRssAnon:\t1 kB\nRssShmem:\t1 kB\n",
        "999999/status": "PPid:\t1\nRssAnon:\t500 kB\n",
    }
    root, proc = _tree(tmp_path / "cgroup", files), _tree(tmp_path / "proc", own)
    assert cgroup.memory(root, proc) == memory


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        pytest.param({**_V2, "cpu.max": "50000 100000"}, 0.5, id="v2"),
        pytest.param({**_V2, "cpu.max": "max 100000"}, _CPUS, id="v2 without a quota"),
        pytest.param({**_V2, "cpu.max": "99900000 100000"}, _CPUS, id="a quota above the machine"),
        pytest.param({"cpu/cpu.cfs_quota_us": "25000", "cpu/cpu.cfs_period_us": "100000"}, 0.25, id="v1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, _CPUS, id="v1 without a quota"),
        pytest.param({}, _CPUS, id="no cgroup"),
    ],
)
def test_the_quota_limits_the_cpus(files: dict[str, str], cpus: float, tmp_path: Path) -> None:
    assert cgroup.cpus(_tree(tmp_path, files)) == cpus
