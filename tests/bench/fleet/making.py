"""Puts a fleet's objects on an API server, and turns its active members from ended to under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.cluster.kinds import Kind
from reembed.core.model import Holder
from tests.bench.fleet import children, kubelet, objects, shape
from tests.bench.fleet.shape import Fleet, Role

_AT_ONCE = 16
# Whose fields these are once the operator is there.
_MANAGER = "reembed-migrations"


async def make(cluster: Cluster, fleet: Fleet) -> None:
    """Make indexes that serve, their pools, and the migrations that filled them long ago."""
    await cluster.create(kinds.NAMESPACE, "", {"metadata": {"name": shape.NAMESPACE}}, manager="user")

    async def one(member: int) -> None:
        for side in ("a", "b") if member < fleet.active else ("a",):
            await cluster.create(kinds.POOL, shape.NAMESPACE, objects.pool(member, side), manager="user")
        await cluster.create(kinds.INDEX, shape.NAMESPACE, objects.index(member), manager="user")
        await _status(cluster, kinds.INDEX, shape.index(member), objects.index_status(member))
        for number in fleet.ended(member):
            made = await cluster.create(kinds.MIGRATION, shape.NAMESPACE, objects.fill(number, member), manager="user")
            await _status(cluster, kinds.MIGRATION, shape.fill(number), objects.fill_status(made, member))
        for manager, kind, manifest in children.of_member(member):
            made = await cluster.apply(kind, manifest, manager=manager)
            if kind == kinds.DEPLOYMENT and manifest["spec"]["replicas"]:
                await kubelet.bring_up(cluster, made)

    await _all(one, fleet.members)


async def set_out(cluster: Cluster, fleet: Fleet) -> None:
    """Replace the ended migrations of the active members by such that hold their first step; no operator runs now."""

    async def one(member: int) -> None:
        await cluster.delete(kinds.MIGRATION, shape.NAMESPACE, shape.fill(member))
        made = await cluster.create(kinds.MIGRATION, shape.NAMESPACE, objects.move(member), manager="user")
        holder = Holder(shape.move(member), made["metadata"]["uid"])
        await _status(cluster, kinds.INDEX, shape.index(member), objects.index_status(member, holder))
        status = objects.move_status(made, member, datetime.now(UTC))
        await _status(cluster, kinds.MIGRATION, shape.move(member), status)
        gateway = await cluster.get(kinds.DEPLOYMENT, shape.NAMESPACE, f"reembed-gateway-{shape.index(member)}")
        if gateway is None:
            raise RuntimeError(f"the operator made no gateway for {shape.index(member)}")
        await kubelet.run_pod(cluster, gateway, Role.WITHHOLDING_GATEWAY, member, phase="Pending")

    await _all(one, range(fleet.active))


async def undone(cluster: Cluster) -> list[str]:
    """Return the objects of which the operator's status does not say yet that all is well."""
    found = []
    for kind in (kinds.INDEX, kinds.POOL):
        for obj in await cluster.list(kind, shape.NAMESPACE):
            phase = obj.get("status", {}).get("phase")
            idle = kind == kinds.POOL and obj["metadata"]["name"].endswith("-b")
            if phase not in ({"Idle", "Ready"} if idle else {"Ready", "Serving"}):
                found.append(f"{obj['metadata']['name']}: {phase}")
    return found


async def _status(cluster: Cluster, kind: Kind, name: str, status: objects.Object) -> None:
    body = {"metadata": {"namespace": shape.NAMESPACE, "name": name}, "status": status}
    await cluster.apply(kind, body, manager=_MANAGER, subresource="status")


async def _all(work: Callable[[int], Awaitable[None]], members: Iterable[int]) -> None:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(member: int) -> None:
        async with turn:
            await work(member)

    async with asyncio.TaskGroup() as tasks:
        for member in members:
            tasks.create_task(one(member))
