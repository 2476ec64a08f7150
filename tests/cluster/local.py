"""A real single-node Kubernetes on this Linux machine, in namespaces of its own: started, found again, stopped.

Everything runs below one process (`node.py`) that has its own process, mount and network namespaces, so that stopping
means ending that process: containers, mounts, addresses, routes and firewall rules go with it, and a container runtime
or a firewall of the host is neither used nor disturbed. The cluster reaches this machine and nothing beyond it.
Needs root. Whether it runs is told by a lock that the node holds for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from hack import packages
from hack.cache import CACHE, ROOT
from hack.console import run, say, works
from tests.cluster import binary, layout, machine, processes

_READY_SECONDS = 120
_ENDS_SECONDS = 30
_LOCK = CACHE / "locks" / "node"
_LOGS = ROOT / "build" / "cluster" / "logs"
_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "openssl": "openssl",
    "mount": "mount",
    "unshare": "util-linux",
}


def up() -> None:
    """Start the cluster unless it runs already, and leave a kubeconfig and its client programs below build/."""
    if _running() and _answers():
        say(f"the cluster runs already: KUBECONFIG={layout.KUBECONFIG}")
        return
    packages.ensure(_PACKAGES, "a cluster on this machine")
    kube, pause = binary.kubernetes(), binary.pause()
    down()
    layout.STATE.mkdir(parents=True)
    machine.remember()
    try:
        _start(kube, pause)
    except BaseException:
        down(keep_logs=True)
        raise
    _publish(kube)
    say(f"the cluster runs: KUBECONFIG={layout.KUBECONFIG}")


def down(*, keep_logs: bool = False) -> None:
    """Stop the cluster if there is one and put the machine back as it was."""
    if _running():
        _end_all()
    works(["ip", "link", "delete", layout.LINK])
    machine.restore()
    layout.KUBECONFIG.unlink(missing_ok=True)
    if keep_logs:
        shutil.rmtree(_LOGS, ignore_errors=True)
        _LOGS.mkdir(parents=True)
        for log in layout.STATE.glob("*.log"):
            shutil.copy(log, _LOGS)
        say(f"the logs are in {_LOGS}")
    shutil.rmtree(layout.STATE, ignore_errors=True)


def _start(kube: Path, pause: Path) -> None:
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_LOCK, os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"]
    log = layout.STATE / "node.log"
    cable, laid = os.pipe()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*namespaces, sys.executable, "-m", "tests.cluster.node", kube, pause],
            cwd=ROOT,
            stdin=cable,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            start_new_session=True,
        )
    for inherited in (lock, cable):
        os.close(inherited)
    _LOCK.write_text(str(process.pid))
    node = processes.Program("the node", process, log)
    processes.wait_until(lambda: _has_own_network(process.pid), node, seconds=_READY_SECONDS)
    _connect(process.pid)
    os.close(laid)  # the node waits for this end of file
    processes.wait_until(layout.ready().exists, node, seconds=_READY_SECONDS)


def _running() -> bool:
    """Say whether the node holds its lock; the kernel frees it with the node's last breath, so nothing can be stale."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _answers() -> bool:
    kubectl: list[str | Path] = [layout.PROGRAMS / "kubectl", "--kubeconfig", layout.KUBECONFIG]
    return layout.KUBECONFIG.exists() and works([*kubectl, "get", "--raw", "/readyz"])


def _end_all() -> None:
    """End the node's first process and return once the kernel has ended and reaped all others with it."""
    outer = int(_LOCK.read_text())
    inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    for pid in [*map(int, inner), outer]:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue  # unshare(1) ends by itself when its child has
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], _ENDS_SECONDS)
        os.close(process)


def _publish(kube: Path) -> None:
    layout.KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    layout.KUBECONFIG.unlink(missing_ok=True)
    layout.KUBECONFIG.symlink_to(layout.STATE / "admin.kubeconfig")
    layout.PROGRAMS.mkdir(parents=True, exist_ok=True)
    for name in ("kubectl", "helm"):
        link = layout.PROGRAMS / name
        link.unlink(missing_ok=True)
        link.symlink_to(kube)


def _has_own_network(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _connect(pid: int) -> None:
    """Lay the virtual cable into the node's network namespace and route pods and services through it."""
    run(["ip", "link", "add", layout.LINK, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
    run(["ip", "address", "add", f"{layout.HOST}/30", "dev", layout.LINK])
    run(["ip", "link", "set", layout.LINK, "up"])
    for subnet in (layout.PODS, layout.SERVICES):
        run(["ip", "route", "add", subnet, "via", layout.NODE, "dev", layout.LINK])
