"""Adopts the vectors that an application has already: they answer until a migration moves the index away from them.

The index's own pass plans the collection, and lets it serve once the store worker found that the column is what its
owner says. Nothing is copied: queries read the application's table. A migration waits for that, since it would take an
index in which nothing serves for one to fill first.
"""

from __future__ import annotations

from dataclasses import replace

from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import SeenIndex
from reembed.core.model import (
    Adopted,
    Arm,
    CollectionPlan,
    CollectionReport,
    Desired,
    IndexStatus,
    Model,
    PointerPlan,
    Problem,
    StoreReport,
)


def pending(index: SeenIndex) -> bool:
    """Return whether the index has vectors of its application that do not answer yet."""
    return index.spec.adopted is not None and index.status.routing.serving is None and not index.meta.deleting


def advanced(index: SeenIndex, model: Model | None, store: StoreReport | None) -> IndexStatus | Problem | None:
    """Return the next status of an index whose adoption is pending, or what keeps it from that; None to wait.

    `model` is of the pool that made the vectors, None if there is no such pool.
    """
    adopted = index.spec.adopted
    if adopted is None or not pending(index) or index.status.active_migration is not None:
        return None
    if model is None:
        return Problem(
            "PoolMissing",
            f"spec.adopted says that EmbedderPool {adopted.pool!r} made the vectors of column {adopted.column!r}, and "
            "there is no such pool: create it, since queries must be embedded with its model",
        )
    if store is None or store.problem is not None:
        return None
    arm = Arm(adopted.pool, names.adopted(index.meta.uid), fingerprint(model))
    report = next((one for one in store.collections if one.name == arm.collection), None)
    if report is None or all(one.name != arm.collection for one in index.status.plan.collections):
        return _planned(index, arm, model.dimensions)
    return _otherwise(report, adopted, arm) or (_serving(index, arm) if report.state == "Indexed" else None)


def _otherwise(report: CollectionReport, adopted: Adopted, arm: Arm) -> Problem | None:
    """Return why what the store holds may not answer queries of the pool."""
    if report.problem is not None or (report.fingerprint == arm.fingerprint and report.state != "Withdrawn"):
        return report.problem
    found = "is withdrawn" if report.state == "Withdrawn" else f"was adopted with model {report.fingerprint}"
    return Problem(
        "AdoptedOtherwise",
        f"column {adopted.column!r} {found}, and pool {adopted.pool!r} is model {arm.fingerprint}, so nothing answers; "
        "give the pool its model back, or create another EmbeddingIndex",
    )


def _planned(index: SeenIndex, arm: Arm, dimensions: int) -> IndexStatus | None:
    plan = index.status.plan
    entry = CollectionPlan(arm.collection, arm.pool, arm.fingerprint, dimensions, shards=1, desired=Desired.INDEXED)
    if entry in plan.collections:
        return None
    kept = tuple([one for one in plan.collections if one.name != entry.name])
    return replace(index.status, plan=replace(plan, collections=(*kept, entry)))


def _serving(index: SeenIndex, arm: Arm) -> IndexStatus:
    routing, now = index.status.routing, index.status.plan.pointer
    pointer = PointerPlan(arm.collection, arm.fingerprint, (now.generation if now is not None else 0) + 1)
    return replace(
        index.status,
        routing=replace(routing, epoch=routing.epoch + 1, serving=arm),
        plan=replace(index.status.plan, pointer=pointer),
    )
