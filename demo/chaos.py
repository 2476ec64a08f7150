"""What goes wrong on purpose. The product has no fault injection: everything here could happen to any cluster.

`kill_operator` is kill -9 where the runner sees the operator's process (a cluster on this machine), else a pod deletion
without grace. `lose_candidate` is a node that dies while the model's origin is away: the candidate's pods are gone at
once and their successors cannot fetch the model, so its share of the queries fails until it is taken away.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from demo.kubectl import KEY, Failed, Kubectl

OPERATOR = "app.kubernetes.io/component=operator"
_AT_ONCE = ("--grace-period=0", "--force", "--wait=false")


async def kill_operator(system: Kubectl, proc: Path = Path("/proc")) -> str:
    """Kill every replica of the operator without warning; return how."""
    pods = await system.list("pods", OPERATOR)
    if not pods:
        raise Failed(f"there is no operator to kill in namespace {system.namespace}")
    found = [one for pod in pods for one in processes(pod["metadata"]["uid"], b"reembed.controller", proc)]
    for process in found:
        os.kill(process, signal.SIGKILL)
    if found:
        return "kill -9"
    await system.run("delete", "pods", f"--selector={OPERATOR}", *_AT_ONCE)
    return "pod deleted without grace"


async def lose_candidate(work: Kubectl, pool: str) -> None:
    """Stop the model server, then take the pool's pods away."""
    await work.run("scale", "deployment/models", "--replicas=0")
    await work.run("wait", "pod", "--selector=app.kubernetes.io/name=models", "--for=delete", "--timeout=60s")
    await work.run("delete", "pods", f"--selector={KEY}/pool={pool}", *_AT_ONCE)


async def restore_models(work: Kubectl) -> None:
    await work.run("scale", "deployment/models", "--replicas=1")


def processes(pod: str, command: bytes, proc: Path) -> list[int]:
    """Return the processes of a pod that run `command`: a control group's path carries the pod's UID."""
    names = (pod, pod.replace("-", "_"))  # as cgroupfs and systemd write it
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            groups, words = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it ended while we looked
        if command in words and any(name in groups for name in names):
            found.append(int(folder.name))
    return found
