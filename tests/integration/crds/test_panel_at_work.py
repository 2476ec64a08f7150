"""The agents' program works with nothing but what the chart gives it: arguments, environment, account and rights."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hack.cache import ROOT
from reembed.api.panel import render_decision
from reembed.core.quorum.proposals import Subject
from reembed.plugin.agents import ROLES
from tests import panels
from tests.integration.crds.objects import Kubectl, Object, changed
from tests.integration.crds.releases import PATIENCE_SECONDS, account, helm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("reembed.panel.__main__") is None, reason="there is no program of an agent here"
)


@dataclass(frozen=True)
class Release:
    """A release with a panel: kubectl where indexes are, and where agents are."""

    indexes: Kubectl
    panel: Kubectl

    def plugin(self, *words: str) -> tuple[int, Any]:
        """Return the exit code and the JSON that is printed."""
        flags = (f"--kubeconfig={self.panel.kubeconfig}", f"--namespace={self.panel.namespace}", "-o", "json")
        command = (sys.executable, "-m", "reembed.plugin", "panel", *words, *flags)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.returncode, json.loads(done.stdout or "null") or done.stderr


@pytest.fixture
def release(kubectl: Kubectl) -> Iterator[Release]:
    there = replace(kubectl, namespace=f"{kubectl.namespace}-panel")
    values = f"crds.enabled=false,panel.enabled=true,panel.createNamespace=true,panel.namespace={there.namespace}"
    helm(kubectl, "install", "reembed", str(ROOT / "charts" / "reembed"), "--set", values)
    yield Release(kubectl, there)
    helm(kubectl, "uninstall", "reembed")


@pytest.fixture
def agents(release: Release, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the agents as their Deployments say."""
    found = json.loads(release.panel.ok("get", "deployments", "--output=json"))["items"]
    running = [started(release.panel, one, tmp_path) for one in found]
    yield running
    for one in running:
        one.terminate()
    for one in running:
        one.wait(timeout=30)


def started(panel: Kubectl, deployment: Object, directory: Path) -> subprocess.Popen[bytes]:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    fields = {"metadata.namespace": panel.namespace, "metadata.name": deployment["metadata"]["name"]}
    told = {
        one["name"]: one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container["env"]
    }
    told |= {"REEMBED_PORT": str(free_port()), "KUBECONFIG": str(login(panel, pod["serviceAccountName"], directory))}
    environment = {**os.environ, **told}
    with (directory / f"{deployment['metadata']['name']}.log").open("wb") as log:
        command = [sys.executable, "-m", "reembed.panel", *container["args"]]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def login(panel: Kubectl, name: str, directory: Path) -> Path:
    """Write a kubeconfig with the token of an account."""
    found = json.loads(panel.ok("config", "view", "--raw", "--output=json"))
    found["users"] = [{"name": name, "user": {"token": panel.ok("create", "token", name).strip()}}]
    for one in found["contexts"]:
        one["context"]["user"] = name
    path = directory / f"{name}.json"
    path.write_text(json.dumps(found))
    return path


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def eventually(ask: Any) -> Any:
    """Return the first answer that says something."""
    patient_until = time.monotonic() + PATIENCE_SECONDS
    while not (found := ask()):
        assert time.monotonic() < patient_until, "nothing came of it"
    return found


def test_agents_take_office_and_vote_with_the_chart_s_rights(
    release: Release, agents: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    code, made = release.plugin("init")
    assert code == 0, made
    eventually(lambda: release.plugin("status")[1]["version"])
    reference = {"namespace": release.panel.namespace, "name": "panel", "digest": made["digest"]}
    release.indexes.ok("create", "-f", "-", stdin=changed("index", "spec.panelRef", reference))
    uid = release.indexes.ok("get", "eidx", "functions", "--output=jsonpath={.metadata.uid}")
    operator = replace(release.panel, user=account(release.indexes, "reembed"))
    operator.ok("create", "-f", "-", stdin=proposal(release, uid))
    eventually(lambda: len(ballots(operator)) == len(ROLES))
    code, shown = release.plugin("status")
    assert (code, shown["digest"], shown["version"]) == (0, made["digest"], 1)
    assert [one["reachable"] for one in shown["members"]] == [True] * 8
    assert [one.poll() for one in agents] == [None] * 8
    logs = [line for path in tmp_path.glob("*.log") for line in path.read_text().splitlines()]
    assert [line for line in logs if "answered 403" in line] == []


def ballots(operator: Kubectl) -> list[Object]:
    found: list[Object] = json.loads(operator.ok("get", "ballots", "--output=json"))["items"]
    return found


def proposal(release: Release, uid: str) -> Object:
    expires = (datetime.now(UTC) + timedelta(minutes=5)).replace(microsecond=0)
    subject = Subject(release.indexes.namespace, "functions", uid, "to-new", "uid-migration")
    put = replace(panels.raising(10, 50), subject=subject, expires=expires)
    return render_decision(put, release.panel.namespace, "operator")
