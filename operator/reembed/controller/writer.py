"""Writes that change nothing are not sent: applies are remembered, statuses compared.

One field manager per writer and part of an object. What an apply returns goes into the cache, so that the next pass
sees its own work; after a conflict the newer object is fetched, so that the next pass decides from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Conflict
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, Object, key_of
from reembed.core import names
from reembed.core.conditions import Condition
from reembed.core.model import Meta
from reembed.core.notes import Note

_LONGEST_MESSAGE = 1024
# What an apply says of a field that the CRD has not; a patch prunes it.
_UNKNOWN_FIELD = "field not declared in schema"
_DIGEST = f"{names.GROUP}/manifest"


class Writer:
    """The operator's only way to change the cluster."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._applied: dict[Key, tuple[Object, Any]] = {}
        self._doubted: set[Key] = set()

    async def ensure(self, kind: Kind, manifest: dict[str, Any], manager: str) -> None:
        """Apply `manifest` unless it was applied as it is and nobody changed the object's spec since.

        What an operator before this one applied is known by an annotation, and looked through once: a start with a
        thousand objects that stand writes none of them.
        """
        key = key_of(kind, manifest)
        known = self._cache.get(kind, key.namespace, key.name) if key not in self._doubted else None
        if known is not None and self._applied.get(key) == (manifest, _edition(known)):
            return
        signed = _signed(manifest)
        if known is not None and key not in self._applied and _stands(signed, known):
            self._applied[key] = (manifest, _edition(known))
            return
        result = await self._cluster.apply(kind, signed, manager=manager)
        self._applied[key] = (manifest, _edition(result))
        self._doubted.discard(key)
        self._cache.put(kind, result)

    def doubt(self, kind: Kind, namespace: str, name: str) -> None:
        """Have the next `ensure` of an object apply it, whatever watches said of it and whatever is remembered."""
        self._doubted.add(Key(kind, namespace, name))

    async def make(self, kind: Kind, manifest: dict[str, Any], manager: str) -> None:
        """Create an object that is never changed; that it is there already is as good."""
        try:
            made = await self._cluster.create(kind, manifest["metadata"]["namespace"], manifest, manager=manager)
        except Conflict:
            return
        self._cache.put(kind, made)

    async def status(self, kind: Kind, meta: Meta, status: Mapping[str, Any], manager: str) -> None:
        """Apply the part of a status that `manager` owns, if nobody wrote to the object since `meta` was read.

        What is None in `status` is there no more, whoever wrote it; an apply alone removes only what is nobody else's.

        Raises:
            Conflict: somebody did; the cache holds the newer object.

        """
        body = {
            "metadata": {"namespace": meta.namespace, "name": meta.name, "resourceVersion": meta.resource_version},
            "status": {name: value for name, value in status.items() if value is not None},
        }
        try:
            written = await self._apply_status(kind, body, manager)
            left = _left_over(written.get("status") or {}, status)
            if left:
                written = await self._take_out(kind, written, left, manager)
        except Conflict:
            await self._refresh(kind, meta)
            raise
        self._cache.put(kind, written)

    async def _apply_status(self, kind: Kind, body: dict[str, Any], manager: str) -> Object:
        """Apply a status; what older CRDs do not know of it is left out, so that what they know is still remembered.

        Else nothing could be written to them at all: not even for how long a trigger has been exceeded.
        """
        try:
            return await self._cluster.apply(kind, body, manager=manager, subresource="status")
        except ClusterError as error:
            if _UNKNOWN_FIELD not in str(error):
                raise
        meta = body["metadata"]
        change = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": body["status"]}
        return await self._cluster.patch(
            kind, meta["namespace"], meta["name"], change, manager=manager, subresource="status"
        )

    async def _take_out(self, kind: Kind, obj: Object, left: Mapping[str, Any], manager: str) -> Object:
        """Remove what an apply leaves in place because somebody else once wrote it as well."""
        meta = obj["metadata"]
        change = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": left}
        return await self._cluster.patch(
            kind, meta["namespace"], meta["name"], change, manager=manager, subresource="status"
        )

    async def finalizers(self, kind: Kind, meta: Meta, wanted: Sequence[str], manager: str) -> None:
        """Replace the finalizers; a deleted object without any is gone, and its watch may have said so already."""
        change = {"metadata": {"finalizers": list(wanted), "resourceVersion": meta.resource_version}}
        try:
            result = await self._cluster.patch(kind, meta.namespace, meta.name, change, manager=manager)
        except Conflict:
            await self._refresh(kind, meta)
            raise
        except ClusterError as error:
            if error.status != 404:
                raise
            self._cache.forget(Key(kind, meta.namespace, meta.name))
        else:
            found = result["metadata"]
            if found.get("deletionTimestamp") and not found.get("finalizers"):
                self._cache.forget(key_of(kind, result))
            else:
                self._cache.put(kind, result)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        known = self._cache.get(kind, namespace, name)
        # What came in its place meanwhile is another's.
        await self._cluster.delete(kind, namespace, name, uid=known["metadata"]["uid"] if known is not None else None)
        self._applied.pop(Key(kind, namespace, name), None)

    async def evict(self, namespace: str, pod: str, manager: str) -> None:
        """Have a pod end as a drained node would; one that its disruption budget keeps for now is left alone."""
        known = self._cache.get(kinds.POD, namespace, pod)
        if known is None:
            return
        body = {
            "apiVersion": "policy/v1",
            "metadata": {"namespace": namespace, "name": pod},
            "deleteOptions": {"preconditions": {"uid": known["metadata"]["uid"]}},
        }
        try:
            await self._cluster.create(kinds.eviction(pod), namespace, body, manager=manager)
        except ClusterError as error:
            # 404 and 409: it is gone, or another one; 429: the budget; 500: two budgets are about it.
            if error.status not in {404, 409, 429, 500}:
                raise

    def forget(self, key: Key) -> None:
        """Drop what is remembered of an object that is gone."""
        self._applied.pop(key, None)
        self._doubted.discard(key)

    async def note(self, kind: Kind, meta: Meta, note: Note, now: datetime) -> None:
        """Post a Kubernetes event about an object."""
        stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        suffix = hashlib.sha256(f"{meta.uid}/{note.reason}/{now.timestamp()}".encode()).hexdigest()[:16]
        event = {
            "metadata": {"name": f"{meta.name[:200]}.{suffix}", "namespace": meta.namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
            "type": "Warning" if note.warning else "Normal",
            "reason": note.reason,
            "message": note.message[:_LONGEST_MESSAGE],
            "source": {"component": "reembed"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self._cluster.create(kinds.EVENT, meta.namespace, event, manager="reembed")

    async def _refresh(self, kind: Kind, meta: Meta) -> None:
        newer = await self._cluster.get(kind, meta.namespace, meta.name)
        if newer is not None:
            self._cache.put(kind, newer)


def _signed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with a digest of itself, by which a field that it no longer has is missed."""
    text = json.dumps(manifest, sort_keys=True, default=str)
    meta = manifest["metadata"]
    annotations = {**(meta.get("annotations") or {}), _DIGEST: hashlib.sha256(text.encode()).hexdigest()[:16]}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


def _stands(wanted: Any, found: Any) -> bool:
    """Return whether `found` says all that is wanted; what the API server fills in besides is not looked at."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_stands(value, found.get(name)) for name, value in wanted.items())
    if isinstance(wanted, (list, tuple)):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(_stands(one, other) for one, other in zip(wanted, found, strict=True))
    return bool(wanted == found)


def _edition(obj: Object) -> Any:
    """Return what moves whenever somebody changes the spec.

    A Service has no generation; its resourceVersion moves with its status too, which costs one apply that changes
    nothing (and moves nothing, so that it is not repeated).
    """
    meta = obj["metadata"]
    return meta.get("generation", meta.get("resourceVersion"))


def conditions(wanted: Sequence[Condition], raw: Object, meta: Meta, now: datetime) -> list[dict[str, Any]]:
    """Return conditions for the API; `lastTransitionTime` moves only when a condition's status does."""
    before = {one["type"]: one for one in raw.get("status", {}).get("conditions") or []}
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    rendered = []
    for one in wanted:
        status = "Unknown" if one.status is None else str(one.status)
        old = before.get(one.type)
        kept = old["lastTransitionTime"] if old is not None and old["status"] == status else stamp
        rendered.append(
            {
                "type": one.type,
                "status": status,
                "reason": one.reason,
                "message": one.message[:_LONGEST_MESSAGE],
                "observedGeneration": meta.generation,
                "lastTransitionTime": kept,
            }
        )
    return rendered


def standing(raw: Object, kind: str) -> Condition:
    """Return a condition as it was told last, for a pass that learns nothing new of it."""
    last = next((one for one in raw.get("status", {}).get("conditions") or () if one["type"] == kind), None)
    if last is None or last["status"] == "Unknown":
        return Condition(kind, None, "NotKnown", "what it is about was not heard of yet")
    return Condition(kind, last["status"] == "True", last["reason"], last["message"])


def differs(wanted: Mapping[str, Any], raw: Object) -> bool:
    """Return whether the object's status lacks or contradicts any field of `wanted`."""
    found = raw.get("status", {})
    return any(found.get(name) != value for name, value in wanted.items())


def _left_over(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `found` has and `wanted` has not, as nulls of a merge patch: its Nones, and all else inside it."""
    left: dict[str, Any] = {}
    for name, value in wanted.items():
        there = found.get(name)
        if value is None and there is not None:
            left[name] = None
        elif isinstance(value, Mapping) and isinstance(there, Mapping):
            inside = _left_over(there, {**dict.fromkeys(there), **value})
            if inside:
                left[name] = inside
    return left
