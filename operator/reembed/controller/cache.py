"""The objects that the operator knows, by kind, namespace and name; filled by a listing, kept by watches.

Loops read it and never the API server, so an idle migration costs no request. It is filled before the first loop runs:
an operator that has not seen an index yet would believe that nobody uses its pool. What an apply returned is put in as
well, so that the next pass does not decide from an older state than its own.

A watch may miss the end of an object (between two listings, or where it was cut off), and whoever is believed to live
is asked and waited for. So a list is taken from time to time, and what it lacks is forgotten. Lists, watches and the
answers to writes overtake each other; versions say which of them is right.

What is news is told at once, wherever it came from: the watch that brings an own write back has nothing to add to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.cluster.kinds import POD, Kind
from reembed.controller import relations
from reembed.controller.relations import Relation

Object = Mapping[str, Any]
Shelf = tuple[Kind, str]  # a kind in a namespace
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Hears of an object as it is now, or was when it ended, and of what was known of it before.
News = Callable[[Kind, Object, Object | None], None]


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
    """The newest known version of each object, filed by what it is related to; `news` hears of each change."""

    def __init__(self, news: News = lambda kind, obj, before: None) -> None:
        self._news = news
        self._objects: dict[Shelf, dict[str, Object]] = {}
        self._filed: dict[tuple[Shelf, Relation], dict[str, Object]] = {}
        # Since which version an object does not exist: an older word of it, still under way, must not bring it back.
        self._gone: dict[Key, int] = {}

    def put(self, kind: Kind, obj: Object) -> bool:
        """Remember `obj` unless as much is known of its name already; return whether it is news."""
        key, version = key_of(kind, obj), version_of(obj)
        known = self._known(key)
        if (known is not None and version <= version_of(known)) or version <= self._gone.get(key, -1):
            return False
        self._take(key, known)
        self._file(key, kept(kind, obj))
        self._gone.pop(key, None)
        self._news(kind, obj, known)
        return True

    def remove(self, kind: Kind, obj: Object) -> None:
        """Forget `obj`, of which the watch told the end; a new object of the same name stays."""
        key = key_of(kind, obj)
        known = self._known(key)
        if known is None or known["metadata"]["uid"] == obj["metadata"]["uid"]:
            self._take(key, known)
            self._gone[key] = max(version_of(obj), self._gone.get(key, -1))
            self._news(kind, obj, None)

    def forget(self, key: Key) -> None:
        known = self._known(key)
        if known is not None:
            self._take(key, known)
            self._news(key.kind, known, None)

    def settle(self, kind: Kind, namespace: str, there: Collection[str], listed: str) -> None:
        """Take the names of all of a kind in a namespace as of the version `listed`: what they lack has ended."""
        version = as_number(listed)
        shelf = self._objects.get((kind, namespace), {})
        ended = [obj for name, obj in shelf.items() if name not in there and version_of(obj) <= version]
        for obj in ended:
            self._take(key_of(kind, obj), obj)
        # Whatever was under way at the list before has arrived by now.
        late = [key for key, since in self._gone.items() if key.belongs(kind, namespace) and since < version]
        for key in late:
            del self._gone[key]
        self._gone.update({key_of(kind, obj): version for obj in ended})
        for obj in ended:
            self._news(kind, obj, None)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get((kind, namespace), {}).get(name)

    def related(self, kind: Kind, namespace: str, relation: Relation) -> Iterator[Object]:
        """Yield the objects of a kind in a namespace that are filed under `relation`."""
        yield from list(self._filed.get(((kind, namespace), relation), {}).values())

    def all(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> Iterator[Object]:
        """Yield the objects of a kind in a namespace that carry all of `labels`."""
        shelf = (kind, namespace)
        filed = [one for name, value in (labels or {}).items() if (one := self._bucket(shelf, name, value)) is not None]
        found = min(filed, key=len) if filed else self._objects.get(shelf, {})
        wanted = (labels or {}).items()
        for obj in list(found.values()):
            if wanted <= labels_of(obj).items():
                yield obj

    def keys(self) -> tuple[Key, ...]:
        return tuple(Key(kind, namespace, name) for (kind, namespace), shelf in self._objects.items() for name in shelf)

    def _bucket(self, shelf: Shelf, name: str, value: str) -> dict[str, Object] | None:
        """Return what is filed under a label, None if it is not one that objects are filed under."""
        return self._filed.get((shelf, (name, value)), {}) if name in relations.LABELS else None

    def _known(self, key: Key) -> Object | None:
        return self.get(key.kind, key.namespace, key.name)

    def _file(self, key: Key, obj: Object) -> None:
        shelf = (key.kind, key.namespace)
        self._objects.setdefault(shelf, {})[key.name] = obj
        for relation in relations.relations(key.kind, obj):
            self._filed.setdefault((shelf, relation), {})[key.name] = obj

    def _take(self, key: Key, obj: Object | None) -> None:
        """Take an object that is known from everywhere it is filed."""
        if obj is None:
            return
        shelf = (key.kind, key.namespace)
        del self._objects[shelf][key.name]
        for relation in relations.relations(key.kind, obj):
            filed = self._filed[shelf, relation]
            filed.pop(key.name, None)
            if not filed:
                del self._filed[shelf, relation]


def kept(kind: Kind, obj: Object) -> dict[str, Any]:
    """Return what anybody here reads of an object: half of one as the API server tells it is about who wrote what."""
    meta = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if _LAST_APPLIED in meta.get("annotations", ()):
        meta["annotations"] = {name: text for name, text in meta["annotations"].items() if name != _LAST_APPLIED}
    parts = (
        ("status",) if kind == POD else tuple(name for name in obj if name not in {"metadata", "apiVersion", "kind"})
    )
    return {"metadata": meta, **{name: obj[name] for name in parts if name in obj}}


def version_of(obj: Object) -> int:
    return as_number(obj["metadata"].get("resourceVersion", ""))


def as_number(version: str) -> int:
    """Return a resourceVersion as a number: the API server's are comparable since 1.35, and were before in fact."""
    return int(version) if version.isdecimal() else 0
