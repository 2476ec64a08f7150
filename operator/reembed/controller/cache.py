"""The objects that the operator knows, by kind, namespace and name; filled by a listing, kept by watches.

Loops read it and never the API server, so an idle migration costs no request. It is filled before the first loop runs:
an operator that has not seen an index yet would believe that nobody uses its pool. What an apply returned is put in as
well, so that the next pass does not decide from an older state than its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.cluster.kinds import Kind

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """What names one object."""

    kind: Kind
    namespace: str
    name: str


def key_of(kind: Kind, obj: Object) -> Key:
    return Key(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])


def labels_of(obj: Object) -> Mapping[str, str]:
    found: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return found


class Cache:
    """The newest known version of each object."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}

    def put(self, kind: Kind, obj: Object) -> None:
        """Remember `obj` unless a newer version of it is known."""
        key = key_of(kind, obj)
        known = self._objects.get(key)
        if known is None or _version(known) <= _version(obj) or known["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._objects[key] = obj

    def remove(self, kind: Kind, obj: Object) -> None:
        """Forget `obj`; a new object of the same name stays."""
        known = self._objects.get(key_of(kind, obj))
        if known is not None and known["metadata"]["uid"] == obj["metadata"]["uid"]:
            del self._objects[key_of(kind, obj)]

    def forget(self, key: Key) -> None:
        self._objects.pop(key, None)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get(Key(kind, namespace, name))

    def all(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> Iterator[Object]:
        """Yield the objects of a kind in a namespace that carry all of `labels`."""
        wanted = (labels or {}).items()
        for key, obj in list(self._objects.items()):
            if key.kind == kind and key.namespace == namespace and wanted <= labels_of(obj).items():
                yield obj

    def keys(self) -> tuple[Key, ...]:
        return tuple(self._objects)


def _version(obj: Object) -> int:
    """Return the resourceVersion as a number: the API server's are comparable since 1.35, and were before in fact."""
    text = obj["metadata"].get("resourceVersion", "")
    return int(text) if text.isdecimal() else 0
