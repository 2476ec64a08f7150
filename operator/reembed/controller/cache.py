"""The objects that the operator knows, by kind, namespace and name; filled by a listing, kept by watches.

Loops read it and never the API server, so an idle migration costs no request. It is filled before the first loop runs:
an operator that has not seen an index yet would believe that nobody uses its pool. What an apply returned is put in as
well, so that the next pass does not decide from an older state than its own.

A watch may miss the end of an object (between two listings, or where it was cut off), and whoever is believed to live
is asked and waited for. So a list is taken from time to time, and what it lacks is forgotten. Lists, watches and the
answers to writes overtake each other; versions say which of them is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.cluster.client import Snapshot
from reembed.cluster.kinds import Kind

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """What names one object."""

    kind: Kind
    namespace: str
    name: str

    def belongs(self, kind: Kind, namespace: str) -> bool:
        return self.kind == kind and self.namespace == namespace


def key_of(kind: Kind, obj: Object) -> Key:
    return Key(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])


def labels_of(obj: Object) -> Mapping[str, str]:
    found: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return found


class Cache:
    """The newest known version of each object."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        # Since which version an object does not exist: an older word of it, still under way, must not bring it back.
        self._gone: dict[Key, int] = {}

    def put(self, kind: Kind, obj: Object) -> bool:
        """Remember `obj` unless something newer is known of its name; return whether it is news."""
        key, version = key_of(kind, obj), version_of(obj)
        known = self._objects.get(key)
        if (known is not None and version < version_of(known)) or version <= self._gone.get(key, -1):
            return False
        self._objects[key] = obj
        self._gone.pop(key, None)
        return known is None or version_of(known) < version

    def remove(self, kind: Kind, obj: Object) -> None:
        """Forget `obj`, of which the watch told the end; a new object of the same name stays."""
        key = key_of(kind, obj)
        known = self._objects.get(key)
        if known is None or known["metadata"]["uid"] == obj["metadata"]["uid"]:
            self._objects.pop(key, None)
            self._gone[key] = max(version_of(obj), self._gone.get(key, -1))

    def forget(self, key: Key) -> None:
        self._objects.pop(key, None)

    def settle(self, kind: Kind, namespace: str, listed: Snapshot) -> list[Object]:
        """Take a list of everything of a kind in a namespace, and return what is new or gone by it."""
        version = as_number(listed.version)
        there = {key_of(kind, obj) for obj in listed.objects}
        ended = [
            key
            for key, obj in self._objects.items()
            if key.belongs(kind, namespace) and key not in there and version_of(obj) <= version
        ]
        changed: list[Object] = [obj for obj in listed.objects if self.put(kind, obj)]
        changed += [self._objects.pop(key) for key in ended]
        # Whatever was under way at the list before has arrived by now.
        late = [key for key, since in self._gone.items() if key.belongs(kind, namespace) and since < version]
        for key in late:
            del self._gone[key]
        self._gone.update(dict.fromkeys(ended, version))
        return changed

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get(Key(kind, namespace, name))

    def all(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> Iterator[Object]:
        """Yield the objects of a kind in a namespace that carry all of `labels`."""
        wanted = (labels or {}).items()
        for key, obj in list(self._objects.items()):
            if key.belongs(kind, namespace) and wanted <= labels_of(obj).items():
                yield obj

    def keys(self) -> tuple[Key, ...]:
        return tuple(self._objects)


def version_of(obj: Object) -> int:
    return as_number(obj["metadata"].get("resourceVersion", ""))


def as_number(version: str) -> int:
    """Return a resourceVersion as a number: the API server's are comparable since 1.35, and were before in fact."""
    return int(version) if version.isdecimal() else 0
