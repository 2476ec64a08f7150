"""How an index goes on after something that should not happen: its status was emptied, or its holder vanished.

Both are somebody's hand: a restore without status, an edit of the subresource, a finalizer taken off. The store's
pointer is the truth that outlives the status; a holder that is gone is unwound by a deleted migration in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from reembed.core import names
from reembed.core.fingerprint import model_of
from reembed.core.migration import Migration, SeenIndex, Status, Visit
from reembed.core.model import (
    Arm,
    CollectionPlan,
    CollectionReport,
    Desired,
    GatewayReport,
    Holder,
    IndexStatus,
    Meta,
    MigrationSpec,
    Problem,
    Routing,
    StorePlan,
    StoreReport,
)
from reembed.core.transitions import State

_DESIRED = {"Indexed": Desired.INDEXED, "Withdrawn": Desired.WITHDRAWN}
# So many attempts of a vanished migration are looked for in the plan.
_ATTEMPTS = 16


def rebuilt(
    index: SeenIndex, store: StoreReport, pools: Mapping[str, str], gateways: Iterable[GatewayReport]
) -> IndexStatus | Problem | None:
    """Return an emptied status as the store remembers it; `pools` are the pools' names by fingerprint.

    Collections keep the state that they have; what was being filled is planned as it was, for the migration that fills
    it. A store with collections and without a pointer is being filled for the first time; what answers already, if
    anything does, is what gateways say. A store that holds nothing is a new index's: nothing is lost.
    """
    if store.problem is not None:
        return None
    pointer, newest = store.pointer, max(gateways, key=lambda report: report.epoch, default=None)
    epoch = newest.epoch if newest is not None else 0
    plan = StorePlan(tuple(_planned(one, pools) for one in store.collections), pointer)
    if pointer is None:
        # What was withdrawn answers nobody: it is left of an index that was deleted.
        held = {one.name for one in plan.collections if one.desired is not Desired.WITHDRAWN}
        serving = newest.serving if newest is not None else None
        answers = serving if serving is not None and serving.collection in held else None
        return IndexStatus(None, Routing(epoch + 1, answers), plan) if held else None
    pool = pools.get(model_of(pointer.fingerprint))
    if pool is None:
        text = (
            f"the status of index {index.meta.name!r} was emptied; the store says that collection {pointer.collection}"
            f" with fingerprint {pointer.fingerprint} answers, and no EmbedderPool of this namespace has that model;"
            " gateways that run go on with what they know. Create the pool again, and the index finds it"
        )
        return Problem("StatusLost", text)
    serving = Arm(pool, pointer.collection, pointer.fingerprint)
    return IndexStatus(None, Routing(epoch + 1, serving), plan)


def _planned(report: CollectionReport, pools: Mapping[str, str]) -> CollectionPlan:
    return CollectionPlan(
        name=report.name,
        pool=pools.get(model_of(report.fingerprint), "unknown"),
        fingerprint=report.fingerprint,
        dimensions=report.dimensions,
        shards=max(report.shards, 1),
        desired=_DESIRED.get(report.state, Desired.PRESENT),
    )


def in_place_of(holder: Holder, index: SeenIndex, now: datetime) -> Migration:
    """Return a deleted migration that unwinds what a vanished holder left in its index."""
    serving, candidate = index.status.routing.serving, _candidate(holder, index)
    meta = Meta(index.meta.namespace, holder.name, holder.uid, 0, "", deleting=True, finalizers=(names.FINALIZER,))
    spec = MigrationSpec(index.meta.name, candidate.pool if candidate is not None else "", None, steps=())
    text = f"EmbeddingMigration {holder.name!r} (UID {holder.uid}) vanished while it held the index"
    # It may have had traffic: gateways are asked.
    timeline = (Visit(State.CANARY, now, 0), Visit(State.UNWINDING, now))
    status = Status(State.UNWINDING, "HolderVanished", text, serving=serving, candidate=candidate, timeline=timeline)
    return Migration(meta, spec, status)


def _candidate(holder: Holder, index: SeenIndex) -> Arm | None:
    """Return the side that the holder was making, None if it made none or it serves already."""
    routing, plan = index.status.routing, index.status.plan
    if routing.candidate is not None:
        return routing.candidate
    answers = {one.collection for one in (routing.serving, plan.pointer) if one is not None}
    own = {names.collection(holder.uid, attempt) for attempt in range(1, _ATTEMPTS + 1)} - answers
    found = (Arm(one.pool, one.name, one.fingerprint) for one in plan.collections if one.name in own)
    return next(found, None)
