"""An API server in memory, as far as the operator's own parts need one, with faults to inject."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from typing import Any

from reembed.cluster.client import Cluster, ClusterError, Snapshot
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Key, key_of

Object = dict[str, Any]


class FakeCluster(Cluster):
    """Objects with versions; with `generations` also those of their specs, which Services have not."""

    def __init__(self, *, generations: bool = False) -> None:
        self.objects: dict[Key, Object] = {}
        self.version = 0
        self.applies = 0
        self.faults: dict[tuple[Kind, str], ClusterError] = {}  # what listing a kind in a namespace raises
        self.lists = 0
        self._generations = generations

    def write(self, kind: Kind, obj: Object) -> Object:
        """Store `obj` as somebody else would; the version moves only if it says something new."""
        key = key_of(kind, obj)
        known = self.objects.get(key, {"metadata": {"uid": f"uid-{self.version}"}})
        said = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
        merged = deepcopy({**known, **obj, "metadata": {**known["metadata"], **said}})
        if merged != known:
            self.version += 1
            merged["metadata"]["resourceVersion"] = str(self.version)
            if self._generations and known.get("spec") != merged.get("spec"):
                merged["metadata"]["generation"] = self.version
            self.objects[key] = merged
        return deepcopy(merged)

    def gone(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete at once, without telling anybody."""
        self.version += 1
        del self.objects[Key(kind, namespace, name)]

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return deepcopy(self.objects.get(Key(kind, namespace, name)))

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        self.lists += 1
        if (kind, namespace) in self.faults:
            raise self.faults[kind, namespace]
        found = [obj for key, obj in self.objects.items() if (key.kind, key.namespace) == (kind, namespace)]
        return Snapshot(deepcopy(found), str(self.version))

    async def pages(self, kind: Kind, namespace: str, *, selector: str = "") -> AsyncIterator[Snapshot]:
        yield await self.snapshot(kind, namespace, selector=selector)

    async def apply(self, kind: Kind, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        self.applies += 1
        return self.write(kind, obj)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
    ) -> Object:
        """Merge metadata; an object on its way out goes with its last finalizer, as on a real server."""
        meta = {key: value for key, value in change["metadata"].items() if key != "resourceVersion"}
        result = self.write(kind, {"metadata": {"namespace": namespace, "name": name, **meta}})
        if "deletionTimestamp" in result["metadata"] and not result["metadata"].get("finalizers"):
            self.gone(kind, namespace, name)
        return result
