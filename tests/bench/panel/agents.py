"""Eight agents as processes, with what stands in for their Deployments and the kubelet.

Each agent has a Pod object that no node runs. If its process ends it is started again in the same pod, as a kubelet
does; if its pod is deleted the process is killed, and another one is started in another pod, as a Deployment does.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hack.cache import ROOT
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.panel.coordinator import LABEL_AGENT
from reembed.panel.settings import ROLES
from tests.bench.fleet.process import cpu_seconds
from tests.cluster import processes

NAMES = tuple(ROLES)
PANEL = "panel"
# What a kubelet needs to start a container whose image is there.
_START_SECONDS = 1.0


@dataclass
class Agents:
    """The processes; `account` are the variables of a pod, whose account is mounted at `mounted`."""

    cluster: Cluster
    namespace: str
    watched: str
    account: dict[str, str]
    mounted: Path
    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    _ending: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(self) -> None:
        for name in NAMES:
            await self._pod(name)
            self._start(name)
        for work in (self._deployments(), self._kubelet()):
            self._tasks.add(asyncio.create_task(work))

    async def end(self) -> None:
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self.running.values():
            process.kill()
            process.wait()

    def kill(self, name: str) -> None:
        self.running[name].kill()

    def hang(self, name: str) -> None:
        """Have an agent stand still: its process lives, so that no kubelet sees it."""
        self.running[name].send_signal(signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(process.pid) for process in self.running.values())

    def resident_mebibytes(self) -> list[float]:
        return [_resident(process.pid) for process in self.running.values()]

    def _start(self, name: str) -> None:
        self.starts += 1
        self.ports.setdefault(name, processes.free_port())
        environment = {
            **os.environ,
            **self.account,
            "BENCH_ACCOUNT": str(self.mounted),
            "REEMBED_NAMESPACE": self.namespace,
            "REEMBED_NAMESPACES": self.watched,
            "REEMBED_AGENT": name,
            "REEMBED_PANEL": PANEL,
            "REEMBED_POD": f"{name}-{self.starts}",
            "REEMBED_PORT": str(self.ports[name]),
        }
        command = [sys.executable, "-m", "tests.bench.panel.process", "--role", name]
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    async def _pod(self, name: str) -> None:
        meta = {"namespace": self.namespace, "generateName": f"{name}-", "labels": {LABEL_AGENT: name}}
        spec = {"containers": [{"name": "agent", "image": "bench"}]}
        made = await self.cluster.create(kinds.POD, self.namespace, {"metadata": meta, "spec": spec}, manager="bench")
        status = {"status": {"phase": "Running"}}
        await self.cluster.patch(
            kinds.POD, self.namespace, made["metadata"]["name"], status, manager="bench", subresource="status"
        )

    async def _deployments(self) -> None:
        while True:
            try:
                async for event, pod in self.cluster.watch(kinds.POD, self.namespace):
                    if event == "DELETED":
                        task = asyncio.create_task(self._anew(pod["metadata"]["labels"][LABEL_AGENT]))
                        self._tasks.add(task)
            except ClusterError:
                await asyncio.sleep(0.2)

    async def _anew(self, name: str) -> None:
        await self._pod(name)
        self.running[name].kill()  # the kubelet starts it again

    async def _kubelet(self) -> None:
        back: dict[str, float] = {}
        loop = asyncio.get_running_loop()
        while not self._ending:
            for name, process in self.running.items():
                if process.poll() is not None and loop.time() >= back.setdefault(name, loop.time() + _START_SECONDS):
                    del back[name]
                    self._start(name)
            await asyncio.sleep(0.05)


def _resident(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
