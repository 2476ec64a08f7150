"""The Lease that says which replica of the operator leads: read whole, written by compare-and-set.

`controller.leading` writes it; gateways read it, to know whether anybody watches over a migration. What follows from it
is decided in `core.leading`. Its times are for people: no program compares them with a clock of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reembed.cluster.client import Cluster
from reembed.cluster.kinds import LEASE
from reembed.core.leading import LEASE as SECONDS
from reembed.core.leading import Record

_MANAGER = "reembed-operator"


class Lease:
    """One Lease object."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"

    async def read(self) -> Record | None:
        """Return what it says now, None if there is none."""
        found = await self._cluster.get(LEASE, self._namespace, self._name)
        return None if found is None else _record(found)

    async def write(self, wanted: Record, before: Record | None) -> Record:
        """Write `wanted` over `before`, and return it with its new version.

        Raises:
            Conflict: the Lease is not as it was before.

        """
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: dict[str, Any] = {
            "holderIdentity": wanted.holder,
            "leaseDurationSeconds": int(wanted.duration),
            "leaseTransitions": wanted.transitions,
            "renewTime": stamp,
        }
        if before is None or before.holder != wanted.holder:
            spec["acquireTime"] = stamp
        if before is None:
            made = {"metadata": {"namespace": self._namespace, "name": self._name}, "spec": spec}
            return _record(await self._cluster.create(LEASE, self._namespace, made, manager=_MANAGER))
        change = {"metadata": {"resourceVersion": before.version}, "spec": spec}
        return _record(await self._cluster.patch(LEASE, self._namespace, self._name, change, manager=_MANAGER))


def _record(found: dict[str, Any]) -> Record:
    spec = found.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        transitions=spec.get("leaseTransitions") or 0,
        duration=float(spec.get("leaseDurationSeconds") or SECONDS),
        version=found["metadata"]["resourceVersion"],
    )
