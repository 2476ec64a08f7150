"""`status.collections` of an index: what takes room in its database, told in steps; `controller.indexes` writes it."""

from __future__ import annotations

from typing import Any

from reembed.controller.cache import Object
from reembed.core import space
from reembed.core.migration import SeenIndex
from reembed.core.model import StoreReport


def told(index: SeenIndex, store: StoreReport | None, raw: Object) -> list[dict[str, Any]]:
    """Return what takes room, as the store said when it last could."""
    before: list[dict[str, Any]] = raw.get("status", {}).get("collections", [])
    if store is None or store.problem is not None:
        return before
    sizes = {one["name"]: one["bytes"] for one in before if "bytes" in one}
    return [_rendered(one, space.steadied(one.size, sizes, one.name)) for one in space.kept(index, store)]


def _rendered(one: space.Kept, size: int | None) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        **({"bytes": size} if size is not None else {}),
        **({"recall": round(one.recall, 4)} if one.recall is not None else {}),
        **({"orphaned": True} if one.orphaned else {}),
    }
