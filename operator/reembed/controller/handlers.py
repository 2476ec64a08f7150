"""kopf's watches, as one-liners: every event changes the cache and wakes the loops that it concerns.

No handler here does anything else. kopf keeps no state of ours: no daemon, timer or change-detecting handler exists, so
it adds neither its finalizer nor its annotations to anybody's objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kopf

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller import relations
from reembed.controller.cache import Cache, Key, Object, labels_of
from reembed.controller.loop import Loops
from reembed.controller.relations import Relation
from reembed.core import names
from reembed.core.transitions import FINISHED

OWN = (kinds.POOL, kinds.INDEX, kinds.MIGRATION)
CHILDREN = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.POD, kinds.JOB, kinds.DISRUPTION_BUDGET)
CHILD_LABELS = {names.LABEL_PART_OF: names.PART_OF}

_FINISHED = frozenset(state.value for state in FINISHED)


def register(registry: kopf.OperatorRegistry, cache: Cache, loops: Loops) -> None:
    """Watch our kinds, and what carries our label of the others."""
    for kind in OWN:
        _register(registry, kind, cache, loops, labels=None)
    for kind in CHILDREN:
        _register(registry, kind, cache, loops, labels=CHILD_LABELS)


def _register(
    registry: kopf.OperatorRegistry, kind: Kind, cache: Cache, loops: Loops, labels: dict[str, str] | None
) -> None:
    # A coroutine: kopf runs plain functions in threads, where loops must not be woken.
    async def changed(*, event: kopf.RawEvent, **_: Any) -> None:
        seen(kind, event["type"], dict(event["object"]), cache, loops)

    kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, labels=labels, id=kind.plural)(changed)


def seen(kind: Kind, change: str | None, obj: Object, cache: Cache, loops: Loops) -> None:
    """Take one change of the watch into the cache and wake whom it concerns."""
    if change == "DELETED":
        cache.remove(kind, obj)
    else:
        cache.put(kind, obj)
    for key in concerned(kind, obj, cache):
        loops.wake(key)


def concerned(kind: Kind, obj: Object, cache: Cache) -> Iterator[Key]:
    """Yield the objects whose next pass may decide differently because `obj` changed; some of them twice."""
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    if kind in OWN:
        yield Key(kind, namespace, name)
        # It may need them no longer.
        yield from _keys(kinds.POOL, namespace, (relations.USER, f"{kind.name}/{name}"), cache)
        yield from _OF_OWN[kind](obj, cache)
    else:
        yield from _of_child(obj, cache)


def _of_migration(obj: Object, cache: Cache) -> Iterator[Key]:
    namespace, index = obj["metadata"]["namespace"], obj["spec"]["indexRef"]["name"]
    yield Key(kinds.POOL, namespace, obj["spec"]["target"]["poolRef"]["name"])
    yield Key(kinds.INDEX, namespace, index)
    # Others may wait for it.
    yield from _migrations(namespace, (relations.INDEX, index), cache)
    yield from _migrations(namespace, (relations.DEPENDS_ON, obj["metadata"]["name"]), cache)


def _of_index(obj: Object, cache: Cache) -> Iterator[Key]:
    namespace = obj["metadata"]["namespace"]
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
        state = migration.get("status", {}).get("state")
        if state not in _FINISHED or migration["metadata"].get("deletionTimestamp"):
            yield Key(kinds.MIGRATION, namespace, migration["metadata"]["name"])


def _keys(kind: Kind, namespace: str, relation: Relation, cache: Cache) -> Iterator[Key]:
    for obj in cache.related(kind, namespace, relation):
        yield Key(kind, namespace, obj["metadata"]["name"])
