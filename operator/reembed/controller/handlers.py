"""What is watched, what an event of a watch does to the cache, and whom a change of the cache concerns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller import relations
from reembed.controller.cache import Cache, Key, Object, labels_of
from reembed.controller.relations import Relation
from reembed.core import names
from reembed.core.transitions import FINISHED

OWN = (kinds.POOL, kinds.INDEX, kinds.MIGRATION)
CHILDREN = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.POD, kinds.JOB, kinds.DISRUPTION_BUDGET)
CHILD_LABELS = {names.LABEL_PART_OF: names.PART_OF}

_FINISHED = frozenset(state.value for state in FINISHED)


def seen(kind: Kind, change: str | None, obj: Object, cache: Cache) -> None:
    """Take one change of the watch into the cache."""
    if change == "DELETED":
        cache.remove(kind, obj)
    else:
        cache.put(kind, obj)


def concerned(kind: Kind, obj: Object, cache: Cache, before: Object | None = None) -> Iterator[Key]:
    """Yield the objects whose next pass may decide differently because `obj` changed; some of them twice.

    `before` is what was known of the object until now, None if it is new or has ended.
    """
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    if kind in OWN:
        yield Key(kind, namespace, name)
        if before is not None and _said(kind, before) == _said(kind, obj):
            return
        # It may need them no longer.
        yield from _keys(kinds.POOL, namespace, (relations.USER, f"{kind.name}/{name}"), cache)
        yield from _OF_OWN[kind](obj, cache)
    else:
        yield from _of_child(obj, cache)


def _said(kind: Kind, obj: Object) -> Any:
    """Return what an object of ours says to others: how far a migration is, what an index routes, all of a pool."""
    meta, status = obj["metadata"], obj.get("status") or {}
    if kind == kinds.POOL:
        return meta["resourceVersion"]
    told = (
        ("state", "serving", "candidate", "executed")
        if kind == kinds.MIGRATION
        else ("activeMigration", "routing", "plan")
    )
    return (
        meta["uid"],
        meta.get("generation"),
        meta.get("deletionTimestamp"),
        meta.get("finalizers"),
        *(status.get(name) for name in told),
    )


def _of_migration(obj: Object, cache: Cache) -> Iterator[Key]:
    namespace, index = obj["metadata"]["namespace"], obj["spec"]["indexRef"]["name"]
    yield Key(kinds.POOL, namespace, obj["spec"]["target"]["poolRef"]["name"])
    yield Key(kinds.INDEX, namespace, index)
    # Others may wait for it.
    yield from _migrations(namespace, (relations.INDEX, index), cache)
    yield from _migrations(namespace, (relations.DEPENDS_ON, obj["metadata"]["name"]), cache)


def _of_index(obj: Object, cache: Cache) -> Iterator[Key]:
    namespace = obj["metadata"]["namespace"]
    holder = (obj.get("status") or {}).get("activeMigration")
    if holder is not None:
        # Also one that has ended: somebody put an older status back, and nobody else may let the index go.
        yield Key(kinds.MIGRATION, namespace, holder["name"])
    yield from (Key(kinds.POOL, namespace, pool) for pool in relations.routed_pools(obj))
    yield from _migrations(namespace, (relations.INDEX, obj["metadata"]["name"]), cache)


def _of_pool(obj: Object, cache: Cache) -> Iterator[Key]:
    yield from _migrations_of_pool(obj["metadata"]["namespace"], obj["metadata"]["name"], cache)


_OF_OWN = {kinds.MIGRATION: _of_migration, kinds.INDEX: _of_index, kinds.POOL: _of_pool}


def _of_child(obj: Object, cache: Cache) -> Iterator[Key]:
    """Yield whom an object that the operator made belongs to, and the migrations that look at it."""
    namespace, labels = obj["metadata"]["namespace"], labels_of(obj)
    for pool in _keys(kinds.POOL, namespace, (relations.FITTED, labels.get(names.LABEL_POOL, "")), cache):
        yield pool
        yield from _migrations_of_pool(namespace, pool.name, cache)
    for index in _keys(kinds.INDEX, namespace, (relations.FITTED, labels.get(names.LABEL_INDEX, "")), cache):
        yield index
        yield from _migrations(namespace, (relations.INDEX, index.name), cache)
    yield from _migrations(namespace, (relations.FITTED, labels.get(names.LABEL_MIGRATION, "")), cache)


def _migrations_of_pool(namespace: str, pool: str, cache: Cache) -> Iterator[Key]:
    """Yield the migrations to or from a pool: before it has begun, only the index of one says which that is."""
    yield from _migrations(namespace, (relations.POOL, pool), cache)
    for index in _keys(kinds.INDEX, namespace, (relations.POOL, pool), cache):
        yield from _migrations(namespace, (relations.INDEX, index.name), cache)


def _migrations(namespace: str, relation: Relation, cache: Cache) -> Iterator[Key]:
    """Yield the related migrations that are under way, or on their way out."""
    for migration in cache.related(kinds.MIGRATION, namespace, relation):
        if under_way(migration):
            yield Key(kinds.MIGRATION, namespace, migration["metadata"]["name"])


def under_way(migration: Object) -> bool:
    """Return whether a migration has not ended, or is on its way out."""
    state = (migration.get("status") or {}).get("state")
    return state not in _FINISHED or bool(migration["metadata"].get("deletionTimestamp"))


def _keys(kind: Kind, namespace: str, relation: Relation, cache: Cache) -> Iterator[Key]:
    for obj in cache.related(kind, namespace, relation):
        yield Key(kind, namespace, obj["metadata"]["name"])
