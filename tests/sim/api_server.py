"""An API server in memory: versions, generations, finalizers, server-side apply, and everybody who watches.

Objects are values: a write makes a new one that shares what did not change, so that nothing needs to be copied and a
reader may keep what it got. Field ownership is simple: what a manager applied last is remembered, and what it applies
no more is removed; lists are replaced as a whole. That is all that Reembed relies on, as each part of an object has one
manager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict
from reembed.cluster.kinds import Kind

Object = dict[str, Any]
NAMESPACE = "rag"

# These move no generation with their spec.
_NO_GENERATION = frozenset({kinds.SERVICE, kinds.POD, kinds.EVENT, kinds.CONFIG_MAP})


@dataclass(frozen=True, slots=True)
class Change:
    """One write that changed something. `before` is None for a new object, `after` for one that is gone."""

    kind: Kind
    name: str
    before: Object | None
    after: Object | None
    by: str
    version: int

    @property
    def newest(self) -> Object:
        found = self.after if self.after is not None else self.before
        assert found is not None
        return found


class ApiServer:
    """The objects of one namespace."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._objects: dict[str, dict[str, Object]] = {}
        self._applied: dict[tuple[str, str, str], Object] = {}
        self.version = 100
        self._uids = 0
        self.evict: Callable[[str], None] = lambda pod: None
        self.listeners: list[Callable[[Change], None]] = []
        self._objects[kinds.NAMESPACE.plural] = {NAMESPACE: {"metadata": {"name": NAMESPACE}, "status": {}}}

    def get(self, kind: Kind, name: str) -> Object | None:
        return self._objects.get(kind.plural, {}).get(name)

    def all(self, kind: Kind) -> list[Object]:
        return list(self._objects.get(kind.plural, {}).values())

    def labelled(self, kind: Kind, labels: Mapping[str, str]) -> Iterator[Object]:
        for obj in self.all(kind):
            if labels.items() <= (obj["metadata"].get("labels") or {}).items():
                yield obj

    def apply(self, kind: Kind, body: Object, manager: str, subresource: str = "") -> Object:
        meta = body["metadata"]
        before = self.get(kind, meta["name"])
        if subresource and before is None:
            raise ClusterError(404, f"{kind.plural} {meta['name']!r} not found")
        _same_version(kind, meta, before)
        if before is None:
            before = self._new(kind, meta["name"])
        wanted = {"status": body["status"]} if subresource else _applied(body)
        owner = (before["metadata"]["uid"], manager, subresource)
        after = _merged(_pruned(before, self._applied.get(owner, {}), wanted), wanted)
        self._applied[owner] = wanted
        return self._store(kind, before, after, manager)

    def create(self, kind: Kind, body: Object, manager: str) -> Object:
        if kind == kinds.eviction(body["metadata"]["name"]):
            return self._evict(body)
        if self.get(kind, body["metadata"]["name"]) is not None:
            raise Conflict(409, f"{kind.plural} {body['metadata']['name']!r} already exists")
        before = self._new(kind, body["metadata"]["name"])
        return self._store(kind, before, _merged(before, _applied(body)), manager)

    def _evict(self, body: Object) -> Object:
        pod = self.get(kinds.POD, body["metadata"]["name"])
        if pod is None or pod["metadata"]["uid"] != body["deleteOptions"]["preconditions"]["uid"]:
            raise ClusterError(404, f"pod {body['metadata']['name']!r} not found")
        self.evict(pod["metadata"]["name"])
        return body

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any], manager: str) -> Object:
        """Merge, where None removes; a deleted object that loses its last finalizer goes."""
        before = self.get(kind, name)
        if before is None:
            raise ClusterError(404, f"{kind.plural} {name!r} not found")
        _same_version(kind, change.get("metadata", {}), before)
        return self._store(kind, before, _patched(before, change), manager)

    def delete(self, kind: Kind, name: str, *, uid: str | None = None, by: str = "somebody") -> None:
        before = self.get(kind, name)
        if before is None or (uid is not None and before["metadata"]["uid"] != uid):
            return
        meta = before["metadata"]
        if not meta.get("finalizers"):
            self._remove(kind, before, by)
        elif "deletionTimestamp" not in meta:
            self._store(kind, before, _merged(before, {"metadata": {"deletionTimestamp": self.stamp()}}), by)

    def put(self, kind: Kind, name: str, fields: Object, by: str) -> Object:
        """Merge fields into an object, new or not, for whoever the server trusts blindly."""
        before = self.get(kind, name) or self._new(kind, name)
        return self._store(kind, before, _merged(before, fields), by)

    def stamp(self) -> str:
        return self._clock().isoformat(timespec="seconds").replace("+00:00", "Z")

    def _new(self, kind: Kind, name: str) -> Object:
        self._uids += 1
        meta = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{self._uids}-{name}",
            "creationTimestamp": self.stamp(),
        }
        return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta}

    def _store(self, kind: Kind, before: Object, after: Object, by: str) -> Object:
        known = "resourceVersion" in before["metadata"]
        if known and after == before:
            return before
        self.version += 1
        meta = {**after["metadata"], "resourceVersion": str(self.version)}
        if kind not in _NO_GENERATION:
            moved = after.get("spec") != before.get("spec") or meta.get("deletionTimestamp") != before["metadata"].get(
                "deletionTimestamp"
            )
            meta["generation"] = meta.get("generation", 0) + 1 if moved or not known else meta["generation"]
        stored = {**after, "metadata": meta}
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and kind != kinds.POD:
            self._drop(kind, stored)
            self._tell(Change(kind, meta["name"], before, None, by, self.version))
            return stored
        self._objects.setdefault(kind.plural, {})[meta["name"]] = stored
        self._tell(Change(kind, meta["name"], before if known else None, stored, by, self.version))
        return stored

    def remove(self, kind: Kind, name: str, by: str) -> None:
        """Remove an object whatever its finalizers say."""
        before = self.get(kind, name)
        if before is not None:
            self._remove(kind, before, by)

    def _remove(self, kind: Kind, before: Object, by: str) -> None:
        self.version += 1
        gone = _merged(before, {"metadata": {"resourceVersion": str(self.version)}})
        self._drop(kind, before)
        self._tell(Change(kind, before["metadata"]["name"], gone, None, by, self.version))

    def _drop(self, kind: Kind, obj: Object) -> None:
        self._objects[kind.plural].pop(obj["metadata"]["name"], None)
        uid = obj["metadata"]["uid"]
        self._applied = {owner: one for owner, one in self._applied.items() if owner[0] != uid}

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)


def _applied(body: Object) -> Object:
    """Return what an apply or create of an object itself owns."""
    fields = {key: value for key, value in body.items() if key not in {"apiVersion", "kind", "metadata", "status"}}
    kept = ("labels", "annotations", "ownerReferences", "finalizers")
    return {**fields, "metadata": {key: body["metadata"][key] for key in kept if key in body["metadata"]}}


def _same_version(kind: Kind, meta: Mapping[str, Any], before: Object | None) -> None:
    wanted = meta.get("resourceVersion")
    if wanted and (before is None or before["metadata"]["resourceVersion"] != wanted):
        raise Conflict(409, f"{kind.plural}: the object has been modified")


def _merged(old: Any, wanted: Any) -> Any:
    """Return `old` with `wanted` laid over it."""
    if not isinstance(old, dict) or not isinstance(wanted, dict):
        return wanted
    return {**old, **{key: _merged(old.get(key), value) for key, value in wanted.items()}}


def _pruned(old: Object, was: Object, wanted: Object) -> Object:
    """Return `old` without what was applied and is not wanted any more."""
    kept = dict(old)
    for key, value in was.items():
        if key not in kept:
            continue
        if key not in wanted and not isinstance(value, dict):
            del kept[key]
        elif isinstance(value, dict) and isinstance(kept[key], dict):
            rest = _pruned(kept[key], value, wanted.get(key) or {})
            if rest or key in wanted:
                kept[key] = rest
            else:
                del kept[key]
    return kept


def _patched(old: Any, change: Mapping[str, Any]) -> Object:
    kept = dict(old) if isinstance(old, dict) else {}
    for key, value in change.items():
        if value is None:
            kept.pop(key, None)
        elif isinstance(value, Mapping):
            kept[key] = _patched(kept.get(key), value)
        elif key != "resourceVersion":
            kept[key] = value
    return kept
