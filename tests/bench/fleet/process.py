"""Starts and ends an operator of its own, and reads from /proc and from its metrics what it costs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from hack.cache import ROOT
from tests.bench.fleet import children, shape
from tests.cluster import processes

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Operator:
    """One operator process at a time, and where its output goes."""

    kubeconfig: Path
    directory: Path
    account: dict[str, str]  # the variables of a pod; its files are in directory/account
    pods_port: int
    trace: Path | None = None
    port: int = field(default_factory=processes.free_port)
    began: float = 0.0
    _process: subprocess.Popen[bytes] | None = None
    _starts: int = 0

    def start(self) -> None:
        self._starts += 1
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "REEMBED_NAMESPACES": shape.NAMESPACE,
            "REEMBED_IMAGE_EMBEDDER": children.IMAGES.embedder,
            "REEMBED_IMAGE_GATEWAY": children.IMAGES.gateway,
            "REEMBED_IMAGE_BACKFILL": children.IMAGES.backfill,
            "REEMBED_LEASE": "reembed-operator",
            "POD_NAMESPACE": shape.NAMESPACE,
            "POD_NAME": "reembed-operator-0",
            **self.account,
            "BENCH_ACCOUNT": str(self.directory / "account"),
            "BENCH_PODS": str(self.pods_port),
            "BENCH_PORT": str(self.port),
        }
        if self.trace is not None:
            environment["BENCH_TRACE"] = str(self.trace)
        command = [sys.executable, "-m", "tests.bench.fleet.operator_process"]
        with (self.directory / f"operator-{self._starts}.log").open("wb") as log:
            self.began = monotonic()
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def pid(self) -> int:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the operator ended; see {self.directory}/operator-{self._starts}.log")
        return self._process.pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def resident_mebibytes(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def passes(self) -> dict[str, tuple[int, float]]:
        """Return how many passes there were of each kind and how long they took together; nothing before it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found = re.findall(r'^reembed_operator_pass_seconds_(count|sum)\{kind="(\w+)"\} (\S+)', text, re.MULTILINE)
        values = {(kind, what): float(value) for what, kind, value in found}
        return {kind: (int(values[kind, "count"]), values[kind, "sum"]) for kind, what in values if what == "count"}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def load() -> float:
    """Return the load average of the last minute."""
    return float(Path("/proc/loadavg").read_text().split()[0])
