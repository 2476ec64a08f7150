"""One agent as a process on a real API server: it becomes ready, tells its figures, and drains."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from hack.cache import ROOT
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.panel.keys import ANNOTATION_KEY, SECRET
from tests.cluster import processes
from tests.fixtures.account import mounted

NAME = "memory-analyst"


@asynccontextmanager
async def process(kube: Path, kubeconfig: Path, namespace: str, directory: Path) -> AsyncIterator[tuple[str, int]]:
    """Run the agent; yield its address and its process id."""
    port = processes.free_port()
    environment = {
        **os.environ,
        **mounted(kube, kubeconfig, namespace, directory),
        "BENCH_ACCOUNT": str(directory),
        "REEMBED_NAMESPACE": namespace,
        "REEMBED_NAMESPACES": namespace,
        "REEMBED_AGENT": NAME,
        "REEMBED_PANEL": "panel",
        "REEMBED_PORT": str(port),
    }
    command = [sys.executable, "-m", "tests.bench.panel.process", "--role", NAME]
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
    try:
        yield f"http://127.0.0.1:{port}", running.pid
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 20) == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def answer(url: str, seconds: float = 30) -> str:
    """Return what is answered once it is 200."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(seconds):
        while True:
            try:
                async with session.get(url) as found:
                    if found.status == 200:
                        return await found.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_an_agent_becomes_ready_beats_and_ends_in_order(
    kube_binary: Path, apiserver_with_crds: Path, namespace: str, tmp_path: Path
) -> None:
    async with process(kube_binary, apiserver_with_crds, namespace, tmp_path / "account") as (url, _):
        await answer(f"{url}/ready")
        assert "reembed_panel_recovery_seconds_bucket" in await answer(f"{url}/metrics")
        assert "ok" in await answer(f"{url}/health")
        async with Cluster.connect(str(apiserver_with_crds)) as cluster:
            lease = await cluster.get(kinds.LEASE, namespace, f"reembed-panel-{NAME}")
            secret = await cluster.get(SECRET, namespace, f"reembed-panel-{NAME}")
        assert lease is not None
        assert secret is not None
        assert len(lease["metadata"]["annotations"][ANNOTATION_KEY]) == 44
        assert set(secret["data"]) == {"key", "anchor", "version", "vows"}
        await asyncio.sleep(0.3)
