"""Namespaces that the operator may see whole, in part or not at all, on a real API server with the chart's Roles."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import yaml

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller import watching
from reembed.controller.operator import Operator
from reembed.controller.settings import Images, Settings
from reembed.controller.web import Metrics
from tests.integration.controller.world import World, objects
from tests.unit.chart.rendering import Manifest, render

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")
MISSING = "not-there"

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(kube_binary: Path, apiserver_with_crds: Path) -> Kubectl:
    def run(*arguments: str, given: str = "") -> str:
        command = [kube_binary, "kubectl", "--kubeconfig", apiserver_with_crds, *arguments]
        return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture
def account(
    kube_binary: Path, apiserver_with_crds: Path, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> Callable[..., Path]:
    """Give the operator's account the chart's rights in `namespace`, less some verbs; returns its kubeconfig."""

    def install(*, without: str = "") -> Path:
        rendered = render(kube_binary, f"watchNamespaces={{{namespace}}}")
        rights = [one for one in rendered if one["kind"] in {"ServiceAccount", "Role", "RoleBinding"}]
        moved = yaml.safe_dump_all([_less(one, without) for one in rights]).replace("reembed-system", namespace)
        kubectl("apply", "-f", "-", given=moved)
        config = yaml.safe_load(apiserver_with_crds.read_text())
        config["users"][0]["user"] = {"token": kubectl("create", "token", "reembed", "-n", namespace).strip()}
        path = tmp_path / "operator"
        path.write_text(yaml.safe_dump(config))
        return path

    return install


def _less(manifest: Manifest, verb: str) -> Manifest:
    for rule in manifest.get("rules", []):
        rule["verbs"] = [one for one in rule["verbs"] if one != verb]
    return manifest


@pytest.fixture
async def admin(apiserver_with_crds: Path) -> AsyncIterator[Cluster]:
    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        yield cluster


@asynccontextmanager
async def operator(kubeconfig: Path, *namespaces: str) -> AsyncIterator[tuple[Operator, asyncio.Task[None]]]:
    """Run an operator with the account of `kubeconfig`, and give its task as well."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("KUBECONFIG", str(kubeconfig))
        cluster = await stack.enter_async_context(Cluster.connect(str(kubeconfig)))
        scrape = World(cluster, namespaces[0], "docs")
        running = Operator(cluster, scrape, Settings(namespaces, IMAGES), Metrics())
        serving = asyncio.create_task(running.run(stop))
        try:
            yield running, serving
        finally:
            stop.set()
            await serving


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            if holds():
                return
            await asyncio.sleep(0.05)


async def phase(admin: Cluster, namespace: str) -> str | None:
    """Make a pool and return its phase as soon as the operator wrote one."""
    await admin.apply(kinds.POOL, objects(namespace)[(kinds.POOL, "old")], manager="user")
    async with asyncio.timeout(30):
        while True:
            pool = await admin.get(kinds.POOL, namespace, "old")
            if pool is not None and pool.get("status", {}).get("phase"):
                return str(pool["status"]["phase"])
            await asyncio.sleep(0.05)


async def test_the_chart_s_rights_suffice_and_a_namespace_without_them_holds_up_no_other(
    admin: Cluster, account: Callable[..., Path], namespace: str
) -> None:
    async with operator(account(), MISSING, namespace) as (running, _):
        served = await phase(admin, namespace)
        ready, report = running.readiness.report()
    missing, rag = report["namespaces"]
    assert (served, ready, rag) == ("Idle", False, {"namespace": namespace, "ready": True})
    assert (missing["namespace"], missing["kind"]) == (MISSING, "embedderpools")
    assert "cannot list resource" in missing["error"]
    assert missing["remedy"].startswith(
        f"the operator's account may not list embedderpools in namespace '{MISSING}': create the namespace"
    )


async def test_a_namespace_that_is_made_later_is_served_then(
    admin: Cluster, account: Callable[..., Path], namespace: str, kubectl: Kubectl
) -> None:
    kubeconfig = account()
    rights = kubectl("get", "rolebinding", "reembed-" + namespace, "-n", namespace, "-o", "yaml")
    kubectl("delete", "rolebinding", "reembed-" + namespace, "-n", namespace)
    async with operator(kubeconfig, namespace) as (running, _):
        await until(lambda: "cannot list" in running.readiness.report()[1]["namespaces"][0]["error"])
        kubectl("apply", "-f", "-", given=rights)
        assert (await phase(admin, namespace), running.readiness.ready(namespace)) == ("Idle", True)


async def test_a_namespace_whose_watches_fail_is_served_by_lists_and_the_process_lives(
    admin: Cluster,
    account: Callable[..., Path],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watching, "_BACKOFFS", (0.1,))
    async with operator(account(without="watch"), namespace) as _:
        await until(lambda: f"the watches of namespace {namespace} failed" in caplog.text)
        assert await phase(admin, namespace) == "Idle"


async def test_a_signal_ends_an_operator_whose_watches_stand(
    admin: Cluster, account: Callable[..., Path], namespace: str
) -> None:
    async with operator(account(), MISSING, namespace) as (_, serving):
        await phase(admin, namespace)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(4):
            await asyncio.shield(serving)
