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
from reembed.controller.cache import Cache, Key, Object, labels_of
from reembed.controller.loop import Loops
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
    """Yield the objects whose next pass may decide differently because `obj` changed."""
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    if kind in OWN:
        yield Key(kind, namespace, name)
        yield from _users_pools(f"{kind.name}/{name}", namespace, cache)
    if kind == kinds.MIGRATION:
        yield Key(kinds.POOL, namespace, obj["spec"]["target"]["poolRef"]["name"])
        yield Key(kinds.INDEX, namespace, obj["spec"]["indexRef"]["name"])
        yield from _active(cache, namespace)  # another migration may wait for this one
    elif kind == kinds.INDEX:
        yield from (Key(kinds.POOL, namespace, pool) for pool in _routed_pools(obj))
        yield from _active(cache, namespace)
    elif kind == kinds.POOL:
        yield from _active(cache, namespace)
    else:
        labels = labels_of(obj)
        for label, owner in (
            (names.LABEL_POOL, kinds.POOL),
            (names.LABEL_INDEX, kinds.INDEX),
        ):
            yield from _labelled(owner, namespace, labels.get(label), cache)
        if names.LABEL_POOL in labels or names.LABEL_INDEX in labels:
            yield from _active(cache, namespace)


def _active(cache: Cache, namespace: str) -> Iterator[Key]:
    """Yield the migrations that are under way, or on their way out."""
    for migration in cache.all(kinds.MIGRATION, namespace):
        state = migration.get("status", {}).get("state")
        if state not in _FINISHED or migration["metadata"].get("deletionTimestamp"):
            yield Key(kinds.MIGRATION, namespace, migration["metadata"]["name"])


def _users_pools(user: str, namespace: str, cache: Cache) -> Iterator[Key]:
    """Yield the pools that run for `user`: it may need them no longer."""
    for pool in cache.all(kinds.POOL, namespace):
        if user in pool.get("status", {}).get("inUseBy", ()):
            yield Key(kinds.POOL, namespace, pool["metadata"]["name"])


def _labelled(kind: Kind, namespace: str, label: str | None, cache: Cache) -> Iterator[Key]:
    """Yield the objects whose name, cut to what a label holds, is `label`."""
    for owner in cache.all(kind, namespace) if label is not None else ():
        if names.fit(owner["metadata"]["name"]) == label:
            yield Key(kind, namespace, owner["metadata"]["name"])


def _routed_pools(index: Object) -> Iterator[str]:
    routing = index.get("status", {}).get("routing") or {}
    for arm in (routing.get("serving"), routing.get("candidate")):
        if arm:
            yield arm["pool"]
