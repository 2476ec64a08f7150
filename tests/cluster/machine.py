"""What a node changes on the machine in spite of its namespaces, and how that is undone.

Processes, mounts, the network and its rules end with the namespaces they live in. Left are kernel settings that the
kubelet insists on, empty directories to mount over, and cgroups. `remember` runs before a node starts, `restore` after
it ended; both may be repeated.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.cluster import layout

_MEMORY = "machine.json"

# kubelet: pkg/kubelet/cm, setupKernelTunables. None of these is kept per namespace.
_KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def remember() -> None:
    """Note how the machine is, then make the directories and cgroups that a node needs."""
    settings = {name: _setting(name).read_text().strip() for name in _KERNEL_SETTINGS if _setting(name).exists()}
    missing = [str(path) for path in layout.PRIVATE if not path.exists()]
    (layout.STATE / _MEMORY).write_text(json.dumps({"settings": settings, "directories": missing}))
    for path in missing:
        Path(path).mkdir()
    for hierarchy in _hierarchies():
        (hierarchy / layout.CGROUP).mkdir(exist_ok=True)


def restore() -> None:
    """Put back what `remember` noted; do nothing if it noted nothing."""
    memory = layout.STATE / _MEMORY
    if not memory.exists():
        return
    noted = json.loads(memory.read_text())
    for name, value in noted["settings"].items():
        if _setting(name).read_text().strip() != value:
            _setting(name).write_text(value)
    for path in reversed(noted["directories"]):
        if Path(path).is_dir() and not any(Path(path).iterdir()):
            Path(path).rmdir()
    for hierarchy in _hierarchies():
        _remove_cgroup(hierarchy / layout.CGROUP)


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _hierarchies() -> list[Path]:
    """Return the roots of all cgroup hierarchies: one in version 2, one per controller in version 1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]


def _remove_cgroup(top: Path) -> None:
    # The files in a cgroup are the kernel's and go with it; only the directories are removed, innermost first.
    for directory, _, _ in os.walk(top, topdown=False):
        Path(directory).rmdir()
