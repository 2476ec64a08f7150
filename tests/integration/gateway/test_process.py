"""The gateway as a process of its own, with a real API server and database: its start, its size and its end."""

import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import processes
from tests.fixtures.postgres import Database

# What the chart's memory request leaves room for.
LARGEST = 120 * 1024 * 1024


class Process:
    """A running gateway."""

    def __init__(self, program: processes.Program, port: int) -> None:
        self.program = program
        self.port = port

    def get(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Return status and body; status 0 if nobody listens."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def resident(self) -> int:
        status = Path(f"/proc/{self.program.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.program.log.read_text().splitlines()]


@pytest.fixture
def gateway(apiserver_with_crds: Path, namespace: str, database: Database, tmp_path: Path) -> Iterator[Process]:
    port = processes.free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(apiserver_with_crds),
        "REEMBED_NAMESPACE": namespace,
        "REEMBED_INDEX": "docs",
        "REEMBED_DSN": database.gateway_dsn,
        "REEMBED_PORT": str(port),
        "REEMBED_POD": "gateway-a",
    }
    program = processes.start("gateway", [sys.executable, "-m", "reembed.gateway"], tmp_path, env=environment)
    process = Process(program, port)
    processes.wait_until(lambda: process.get("/ready")[0] == 200, program, seconds=30)
    yield process
    processes.stop(program)


def test_a_gateway_of_an_empty_index_is_ready_small_and_says_why_it_cannot_answer(gateway: Process) -> None:
    report = {"pod": "gateway-a", "epoch": 0, "weight": 0, "serving": None, "candidate": None}
    assert gateway.get("/v1/index") == (200, report)
    status, answer = gateway.get("/v1/search", {"query": "keys"})
    assert (status, answer["error"]["type"]) == (503, "no_vectors")
    assert gateway.resident() < LARGEST


def test_a_gateway_that_is_told_to_end_answers_for_a_while_and_exits_with_0(gateway: Process) -> None:
    gateway.program.process.send_signal(signal.SIGTERM)
    processes.wait_until(lambda: gateway.get("/ready")[0] == 503, gateway.program, seconds=5)
    assert gateway.get("/v1/index")[0] == 200
    assert gateway.program.process.wait(30) == 0
    assert gateway.lines()[-1]["message"] == "drained; the process ends"


def test_a_gateway_without_its_settings_says_which_and_exits_with_2(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "REEMBED_INDEX": "docs"}
    program = processes.start("gateway", [sys.executable, "-m", "reembed.gateway"], tmp_path, env=environment)
    assert program.process.wait(30) == 2
    (line,) = program.log.read_text().splitlines()
    assert json.loads(line)["message"].startswith("REEMBED_NAMESPACE, REEMBED_DSN not set")
