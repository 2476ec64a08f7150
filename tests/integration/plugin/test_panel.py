"""`kubectl reembed panel` against a real API server; agents are played by the tests."""

from __future__ import annotations

import asyncio
import json

from reembed.api.panel import parse_panel
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from tests.integration.plugin.conftest import Cli, Written
from tests.panels import key
from tests.unit.plugin.panels import NAMES, council, lease


async def publish(cluster: Cluster, namespace: str) -> None:
    for name in NAMES:
        one = lease(name, key(name).public, beat=None)
        meta = {**one["metadata"], "namespace": namespace}
        await cluster.create(kinds.LEASE, namespace, {"metadata": meta, "spec": {}}, manager="test")


async def test_a_panel_is_made_of_the_keys_that_are_published_and_shown(written: Written, cli: Cli) -> None:
    await publish(written.cluster, cli.namespace)
    code, out, err = await asyncio.to_thread(cli.run, "panel", "init", "-o", "json")
    assert (code, err, json.loads(out)["digest"]) == (0, "", council().membership.digest)
    raw = await written.cluster.get(kinds.PANEL, cli.namespace, "panel")
    assert raw is not None
    assert parse_panel(raw).wished.digest == council().membership.digest
    code, out, _ = await asyncio.to_thread(cli.run, "panel", "status")
    assert (code, "0 of 8 reachable, 6 votes decide" in out) == (1, True)


async def test_a_panel_that_the_api_server_refuses_is_not_made(written: Written, cli: Cli) -> None:
    await publish(written.cluster, cli.namespace)
    code, _, err = await asyncio.to_thread(cli.run, "panel", "init", "--faulty", "3")
    assert (code, "8 members tolerate 2 faulty ones at most" in err) == (3, True)
    code, _, err = await asyncio.to_thread(cli.run, "panel", "status")
    assert (code, err.count("\n"), "`kubectl reembed panel init` makes it" in err) == (3, 1, True)


async def test_a_namespace_that_is_missing_is_told(cli: Cli) -> None:
    code, _, err = await asyncio.to_thread(Cli(cli.kubeconfig, "nowhere").run, "panel", "init", "--timeout", "1s")
    assert (code, "no key of" in err) == (3, True)
