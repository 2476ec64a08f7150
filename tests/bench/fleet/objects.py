"""The objects of a fleet: what its users wrote, and the statuses that an operator left on them long ago.

Statuses are rendered by the operator's own code, so that an operator that finds them has nothing to correct.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from reembed.api import parse_migration, parse_pool, render_index_status
from reembed.api.status import render_migration_status
from reembed.controller.writer import conditions
from reembed.core import names
from reembed.core.conditions import of_migration
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Backfill, Baseline, Status, Visit
from reembed.core.model import (
    Arm,
    CollectionPlan,
    Desired,
    Holder,
    IndexStatus,
    PointerPlan,
    Routing,
    StorePlan,
)
from reembed.core.transitions import State
from tests.bench.fleet import shape

Object = dict[str, Any]

DIMENSIONS = 384
DOCUMENTS = 25_000
WEIGHT = 10
_LONG_AGO = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
_FIRST_FILL = (
    *(State.PREFLIGHT, State.BACKFILLING, State.INDEXING),
    *(State.EVALUATING, State.PROMOTING, State.SUCCEEDED),
)
_ON_THE_WAY = (State.PREFLIGHT, State.BACKFILLING, State.INDEXING, State.EVALUATING, State.CANARY)


def pool(member: int, side: str) -> Object:
    model = {
        "uri": f"https://models.example.com/minilm-{member}-{side}.gguf",
        "sha256": f"{member:08x}{side * 56}",
        "pooling": "Mean",
        "dimensions": DIMENSIONS,
        "maxTokens": 256,
    }
    return _object(shape.pool(member, side), {"model": model, "variants": [{"name": "cpu"}]})


def index(member: int) -> Object:
    store = {
        "ownerSecretRef": {"name": "store", "key": "owner"},
        "gatewaySecretRef": {"name": "store", "key": "gateway"},
    }
    source = {"table": f"docs_{member}", "idColumn": "id", "textColumn": "body"}
    return _object(shape.index(member), {"store": store, "source": source})


def fill(number: int, member: int) -> Object:
    """Return a migration that filled an index."""
    obj = _object(shape.fill(number), {"indexRef": {"name": shape.index(member)}, "target": _ref(member, "a")})
    return {**obj, "metadata": {**obj["metadata"], "finalizers": []}}


def move(member: int) -> Object:
    """Return a migration of which the first step is held for longer than anybody measures."""
    obj = _object(
        shape.move(member),
        {
            "indexRef": {"name": shape.index(member)},
            "target": _ref(member, "b"),
            "from": _ref(member, "a"),
            "canary": {"steps": [{"weight": WEIGHT, "hold": "12h"}, {"weight": 100, "hold": "12h"}]},
        },
    )
    return {**obj, "metadata": {**obj["metadata"], "labels": {shape.ACTIVE_LABEL: "true"}}}


def fill_status(raw: Object, member: int) -> Object:
    timeline = tuple(Visit(state, _LONG_AGO + timedelta(minutes=9 * n)) for n, state in enumerate(_FIRST_FILL))
    return _migration_status(
        raw,
        Status(
            state=State.SUCCEEDED,
            reason="Promoted",
            message=f"pool {shape.pool(member, 'a')!r} serves the index",
            candidate=arm(member, "a"),
            backfill_image="backfill:1",
            backfill=_backfill(raw["metadata"]["name"]),
            timeline=timeline,
            observed_generation=1,
        ),
    )


def move_status(raw: Object, member: int, now: datetime) -> Object:
    begun = [now - timedelta(minutes=20) + timedelta(minutes=4 * n) for n in range(len(_ON_THE_WAY))]
    return _migration_status(
        raw,
        Status(
            state=State.CANARY,
            reason="Holding",
            message=f"{WEIGHT} % until later",
            acknowledged_at=now,
            serving=arm(member, "a"),
            candidate=arm(member, "b"),
            backfill_image="backfill:1",
            baseline=Baseline(timedelta(milliseconds=20), 1200, begun[0]),
            backfill=_backfill(shape.move(member)),
            weight=WEIGHT,
            weight_acknowledged=WEIGHT,
            timeline=tuple(
                Visit(state, at, 0 if state is State.CANARY else None)
                for state, at in zip(_ON_THE_WAY, begun, strict=True)
            ),
            observed_generation=1,
        ),
    )


def index_status(member: int, holder: Holder | None = None) -> Object:
    """Return the operator's part of an index's status; with a holder, a candidate has its share of the queries."""
    sides = ("a",) if holder is None else ("a", "b")
    arms = {side: arm(member, side) for side in sides}
    plan = StorePlan(
        collections=tuple(
            CollectionPlan(one.collection, one.pool, one.fingerprint, DIMENSIONS, 4, Desired.INDEXED)
            for one in arms.values()
        ),
        pointer=pointer(member),
    )
    return render_index_status(IndexStatus(holder, routing(member, moving=holder is not None), plan))


def routing(member: int, *, moving: bool) -> Routing:
    if not moving:
        return Routing(epoch=1, serving=arm(member, "a"))
    return Routing(epoch=2, serving=arm(member, "a"), candidate=arm(member, "b"), weight=WEIGHT)


def pointer(member: int) -> PointerPlan:
    serving = arm(member, "a")
    return PointerPlan(serving.collection, serving.fingerprint, 1)


@cache
def arm(member: int, side: str) -> Arm:
    raw = pool(member, side)
    _, spec = parse_pool({**raw, "metadata": {**raw["metadata"], "uid": ""}})
    return Arm(shape.pool(member, side), shape.collection(member, side), fingerprint(spec.model))


def _object(name: str, spec: Object) -> Object:
    meta = {"namespace": shape.NAMESPACE, "name": name, "finalizers": [names.FINALIZER]}
    return {"metadata": meta, "spec": spec}


def _ref(member: int, side: str) -> Object:
    return {"poolRef": {"name": shape.pool(member, side)}}


def _backfill(name: str) -> Backfill:
    return Backfill(DOCUMENTS, DOCUMENTS, 0, 410.5, None, "embed", f"reembed-backfill-{name}-1-0123abcd")


def _migration_status(raw: Object, status: Status) -> Object:
    meta, spec = parse_migration(raw)
    entered = status.entered_at or _LONG_AGO
    return {
        **render_migration_status(status, spec),
        "conditions": conditions(of_migration(status), raw, meta, entered),
    }
