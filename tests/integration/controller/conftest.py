"""A connection, and a namespace with a user's objects whose pods are answered for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from tests.integration.controller.world import World, objects


@pytest.fixture(autouse=True)
def left_to_the_collector() -> Iterator[None]:
    """Collect what kopf leaves behind when it is cut off: in the middle of an import, CPython 3.11 trips over it."""
    yield
    gc.collect()


@pytest.fixture
async def cluster(apiserver_with_crds: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver_with_crds))
    async with Cluster.connect(str(apiserver_with_crds)) as connected:
        yield connected


@pytest.fixture
async def world(cluster: Cluster, namespace: str) -> AsyncIterator[World]:
    """Pods for whatever the operator makes, and the objects of a user in `namespace`."""
    world = World(cluster, namespace, "docs")
    task = asyncio.create_task(world.run())
    for (kind, _), obj in objects(namespace).items():
        if kind != kinds.MIGRATION:
            await cluster.apply(kind, obj, manager="user")
    yield world
    task.cancel()
