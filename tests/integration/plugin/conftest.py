"""A namespace of a real API server with a user's index and pools, and the command line as people run it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from tests.integration.controller.world import objects

Object = dict[str, Any]


@dataclass(frozen=True)
class Cli:
    """`kubectl-reembed` in a process of its own."""

    kubeconfig: Path
    namespace: str

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reembed.plugin", *words, f"--kubeconfig={self.kubeconfig}"]
        environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "FORCE_COLOR"}}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*command, f"-n={self.namespace}"], stdout=pipe, stderr=pipe, text=True, env=environment
        )

    def on_terminal(self, *words: str) -> tuple[int, str]:
        """Return exit code and all that reached a terminal of 200 by 100, control sequences included."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 200, 0, 0))
        command = [sys.executable, "-m", "reembed.plugin", *words, f"--kubeconfig={self.kubeconfig}"]
        environment = {**os.environ, "TERM": "xterm-256color"}
        with subprocess.Popen(
            [*command, f"-n={self.namespace}"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        ) as process:
            os.close(theirs)
            shown = b""
            # Linux ends a terminal that nobody writes to any more with an error.
            with contextlib.suppress(OSError):
                while chunk := os.read(ours, 65536):
                    shown += chunk
            os.close(ours)
            return process.wait(timeout=30), shown.decode()

    def run(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, result, and what was told beside it."""
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def cli(apiserver_with_crds: Path, namespace: str) -> Cli:
    return Cli(apiserver_with_crds, namespace)


@dataclass(frozen=True)
class Written:
    """A namespace whose migrations have the statuses that a test wants; no operator runs."""

    cluster: Cluster
    namespace: str

    async def migration(self, name: str, status: Object, **spec: Any) -> None:
        """Create a migration if it is not there, and write its status."""
        meta = {"namespace": self.namespace, "name": name}
        if await self.cluster.get(kinds.MIGRATION, self.namespace, name) is None:
            made = objects(self.namespace)[kinds.MIGRATION, "move"]
            await self.cluster.apply(
                kinds.MIGRATION, {"metadata": meta, "spec": {**made["spec"], **spec}}, manager="user"
            )
        await self.status(kinds.MIGRATION, name, status)

    async def status(self, kind: kinds.Kind, name: str, status: Object) -> None:
        obj = {"metadata": {"namespace": self.namespace, "name": name}, "status": status}
        await self.cluster.apply(kind, obj, manager="operator", subresource="status")

    async def annotations(self, name: str) -> dict[str, str]:
        found = await self.cluster.get(kinds.MIGRATION, self.namespace, name) or {}
        annotations: dict[str, str] = found["metadata"].get("annotations", {})
        return annotations

    async def uid(self, name: str) -> str:
        found = await self.cluster.get(kinds.MIGRATION, self.namespace, name) or {}
        return str(found["metadata"]["uid"])


@pytest.fixture
async def written(apiserver_with_crds: Path, namespace: str) -> AsyncIterator[Written]:
    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        for (kind, _), obj in objects(namespace).items():
            if kind != kinds.MIGRATION:
                await cluster.apply(kind, obj, manager="user")
        yield Written(cluster, namespace)
