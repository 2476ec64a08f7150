"""Which objects name which: what the cache files an object under, so that nobody has to look through all of them.

An index or pool that is named by a label is named by what a label can hold of its name (`names.fit`); one that is named
in a spec or status by its whole name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.core import names

Object = Mapping[str, Any]
# What an object is filed under: a relation and the name of what it is related to.
Relation = tuple[str, str]

# Of migrations, to their index, their pools, and the migrations that they depend on.
INDEX, POOL, DEPENDS_ON = "index", "pool", "dependsOn"
# Of pools, to whom they run for; of objects that have labels, to the owner whose name the label holds.
USER, FITTED = "user", "fitted"
# Of migrations, to what they have put to the panel.
SLOT = "slot"
LABELS = (names.LABEL_POOL, names.LABEL_INDEX, names.LABEL_MIGRATION)


def relations(kind: Kind, obj: Object) -> Iterator[Relation]:
    """Yield everything that `obj` is filed under."""
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    for name in LABELS:
        if name in labels:
            yield name, labels[name]
    if kind in (kinds.POOL, kinds.INDEX, kinds.MIGRATION):
        yield FITTED, names.fit(obj["metadata"]["name"])
    if kind == kinds.POOL:
        yield from ((USER, user) for user in _status(obj).get("inUseBy") or ())
    elif kind == kinds.INDEX:
        yield from ((POOL, pool) for pool in routed_pools(obj))
    elif kind == kinds.MIGRATION:
        yield from _of_migration(obj)


def routed_pools(index: Object) -> Iterator[str]:
    """Yield the pools that an index sends queries to, or will as soon as its application's vectors are adopted."""
    routing = _status(index).get("routing") or {}
    adopted = (index.get("spec") or {}).get("adopted") if not routing.get("serving") else None
    arms = (routing.get("serving"), routing.get("candidate"), {"pool": adopted["poolRef"]["name"]} if adopted else None)
    yield from {arm["pool"] for arm in arms if arm}


def _of_migration(obj: Object) -> Iterator[Relation]:
    spec = obj.get("spec") or {}
    yield INDEX, spec["indexRef"]["name"]
    serving = _status(obj).get("serving") or {}
    yield from ((POOL, pool) for pool in {spec["target"]["poolRef"]["name"], serving.get("pool")} if pool)
    slot = (_status(obj).get("proposal") or {}).get("slot")
    if slot:
        yield SLOT, slot
    yield from ((DEPENDS_ON, one["name"]) for one in spec.get("dependsOn") or ())


def _status(obj: Object) -> Mapping[str, Any]:
    return obj.get("status") or {}
