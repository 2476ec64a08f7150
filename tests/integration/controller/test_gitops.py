"""Manifests that are applied again and again during a migration, as GitOps does, find no drift and remove nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from tests.integration.controller.running import operator, state, until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

Object = dict[str, Any]


async def kubectl(binary: Path, kubeconfig: Path, words: list[str], manifests: list[Object]) -> tuple[int | None, str]:
    """Run kubectl over manifests, and return its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(str(binary), "kubectl", f"--kubeconfig={kubeconfig}", *words, "-f", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}).encode()
    said, _ = await process.communicate(text)
    return process.returncode, said.decode()


def committed(namespace: str) -> list[Object]:
    """Return a user's manifests as they are in Git."""
    found = objects(namespace)
    found[kinds.MIGRATION, "move"]["spec"]["canary"]["steps"] = [
        {"weight": weight, "hold": "2s"} for weight in (10, 50, 100)
    ]
    return [{"apiVersion": kind.api_version, "kind": kind.name, **obj} for (kind, _), obj in found.items()]


async def test_manifests_applied_every_second_during_a_migration_find_no_drift_and_take_nothing_away(
    cluster: Cluster, world: World, namespace: str, kube_binary: Path, apiserver_with_crds: Path
) -> None:
    manifests, rounds = committed(namespace), 0
    apply = ["apply", "--server-side", "--field-manager=argocd-controller", f"--namespace={namespace}"]
    diff = ["diff", "--server-side", "--field-manager=argocd-controller", f"--namespace={namespace}"]
    async with operator(cluster, world, namespace):
        # The fixture made them by another hand.
        first = await kubectl(kube_binary, apiserver_with_crds, [*apply, "--force-conflicts"], manifests)
        assert first[0] == 0, first[1]
        moved = asyncio.create_task(until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded")))
        while not moved.done():
            applied = await kubectl(kube_binary, apiserver_with_crds, apply, manifests)
            assert applied[0] == 0, applied[1]
            # kubectl reads an object twice, and the operator may write in between: what is drift is found again.
            found = [await kubectl(kube_binary, apiserver_with_crds, diff, manifests)]
            while found[-1] != (0, "") and len(found) < 4:
                found.append(await kubectl(kube_binary, apiserver_with_crds, diff, manifests))
            assert found[-1] == (0, ""), found
            rounds += 1
            await asyncio.sleep(1)
        ended = await moved
    visits = [one["state"] for one in ended["status"]["timeline"]]
    assert visits[-4:] == ["Canary", "Retaining", "Promoting", "Succeeded"]
    assert rounds >= 3
    assert world.weights == [0, 10, 50, 100, 0]
