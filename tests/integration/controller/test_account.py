"""A pod's account is enough to be known by the API server."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from reembed.cluster import kinds
from reembed.cluster.access import of_account
from reembed.cluster.client import Cluster, ClusterError
from tests.fixtures.account import mounted
from tests.integration.controller.world import objects


async def test_a_pod_reads_and_writes_by_its_account(
    cluster: Cluster, namespace: str, apiserver_with_crds: Path, kube_binary: Path, tmp_path: Path
) -> None:
    environment = mounted(kube_binary, apiserver_with_crds, namespace, tmp_path)
    pool = objects(namespace)[kinds.POOL, "old"]
    async with Cluster.of(of_account(tmp_path, environment)) as pod:
        made = await pod.apply(kinds.POOL, pool, manager="test")
        assert [one["metadata"]["uid"] for one in await pod.list(kinds.POOL, namespace)] == [made["metadata"]["uid"]]


async def test_a_token_that_is_not_valid_is_told_as_what_it_is(
    namespace: str, apiserver_with_crds: Path, kube_binary: Path, tmp_path: Path
) -> None:
    environment = mounted(kube_binary, apiserver_with_crds, namespace, tmp_path)
    (tmp_path / "token").write_text("nobody's")
    async with Cluster.of(of_account(tmp_path, environment)) as pod:
        with pytest.raises(ClusterError, match="401: Unauthorized") as refused:
            await pod.get(kinds.POOL, namespace, "old")
    assert refused.value.status == 401


async def test_an_object_as_large_as_they_come_is_watched_in_one_piece(cluster: Cluster, namespace: str) -> None:
    notes = {"metadata": {"namespace": namespace, "name": "notes"}, "data": {"notes": "x" * 1_000_000}}
    await cluster.apply(kinds.CONFIG_MAP, notes, manager="test")
    async with aclosing(cluster.watch(kinds.CONFIG_MAP, namespace, name="notes")) as changes:
        _, seen = await anext(changes)
    assert seen["data"] == notes["data"]
