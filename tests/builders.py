"""Builders of what decisions see: a healthy world in one call, with the one thing that a test changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Baseline, Migration, Seen, SeenIndex, SeenPool, Status, Visit
from reembed.core.model import (
    Arm,
    ArmMeasure,
    CollectionPlan,
    CollectionReport,
    Desired,
    EvaluationSpec,
    GatewayReport,
    Holder,
    IndexSpec,
    IndexStatus,
    Meta,
    MigrationSpec,
    Model,
    PointerPlan,
    Pooling,
    PoolReport,
    PoolSpec,
    Routing,
    SecretKey,
    Step,
    StorePlan,
    StoreReport,
    Variant,
)
from reembed.core.transitions import State

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STEPS = (
    Step(10, timedelta(minutes=5)),
    Step(50, timedelta(minutes=5)),
    Step(100, timedelta(minutes=5)),
)

EVALUATION = EvaluationSpec("public", "labels", "query", "id")


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def model(name: str = "new", dimensions: int = 384) -> Model:
    return Model(f"http://models/{name}.gguf", names.fit(name).ljust(64, "0"), Pooling.MEAN, dimensions, 256)


def meta(name: str, *, deleting: bool = False, finalizers: tuple[str, ...] = (names.FINALIZER,)) -> Meta:
    return Meta("rag", name, f"uid-{name}", 1, "7", deleting=deleting, finalizers=finalizers)


def pool(name: str = "new", ready: int = 1, **report: object) -> SeenPool:
    spec = PoolSpec(model(name), (Variant("cpu"),))
    found = PoolReport(fingerprint(spec.model), ready_replicas=ready, desired_replicas=1, memory=0.5)
    return SeenPool(meta(name), spec, replace(found, **report))  # type: ignore[arg-type]


OLD = Arm("old", "c_old", fingerprint(model("old")))
NEW = Arm("new", names.collection("uid-move", 1), fingerprint(model("new")))


def migration(state: State = State.PREFLIGHT, *, deleting: bool = False, **changes: object) -> Migration:
    """Return a migration of index `docs` from old to new; `changes` go to its status, or `spec` to its spec."""
    spec = replace(
        MigrationSpec(index="docs", pool="new", from_pool="old", steps=STEPS),
        **changes.pop("spec", {}),  # type: ignore[arg-type]
    )
    claimed = state is not State.PREFLIGHT
    status = Status(
        state=state,
        serving=OLD if claimed else None,
        candidate=NEW if claimed else None,
        backfill_image="backfill:1" if claimed else None,
        baseline=Baseline(timedelta(milliseconds=40), 500, NOON) if claimed else None,
        timeline=_timeline(state),
        observed_generation=1,
    )
    return Migration(meta("move", deleting=deleting), spec, replace(status, **changes))  # type: ignore[arg-type]


def _timeline(state: State) -> tuple[Visit, ...]:
    visits = (Visit(State.PREFLIGHT, NOON),)
    if state in {State.CANARY, State.RETAINING, State.PROMOTING, State.ROLLING_BACK, State.ROLLED_BACK}:
        visits += (Visit(State.CANARY, NOON, 0),)
    return visits if state in {State.PREFLIGHT, State.CANARY} else (*visits, Visit(state, NOON))


def index(weight: int = 0, *, held: bool = True, candidate: Arm | None = NEW, **changes: object) -> SeenIndex:
    """Return index `docs`, served by pool old, held by migration `move`."""
    spec = IndexSpec(
        SecretKey("store", "owner"), SecretKey("store", "gateway"), "gateway", "public", "docs", "id", "body"
    )
    plans = [CollectionPlan(OLD.collection, OLD.pool, OLD.fingerprint, 384, 8, Desired.INDEXED)]
    if candidate is not None:
        plans.append(CollectionPlan(NEW.collection, NEW.pool, NEW.fingerprint, 384, 8, Desired.INDEXED))
    status = IndexStatus(
        active_migration=Holder("move", "uid-move") if held else None,
        routing=Routing(epoch=3, serving=OLD, candidate=candidate, weight=weight, shadow=0.05 if weight else 0.0),
        plan=StorePlan(tuple(plans), PointerPlan(OLD.collection, OLD.fingerprint, 1)),
    )
    return SeenIndex(meta("docs"), spec, replace(status, **changes))  # type: ignore[arg-type]


def collection(state: str = "Indexed", **changes: object) -> CollectionReport:
    """Return the store's word on the candidate's collection: all of 1,000 documents have a vector."""
    report = CollectionReport(NEW.collection, NEW.fingerprint, 384, state, 8, 8, 1000, 0, 1000, 50.0)
    return replace(report, **changes)  # type: ignore[arg-type]


def store(*collections: CollectionReport, **changes: object) -> StoreReport:
    old = CollectionReport(OLD.collection, OLD.fingerprint, 384, "Indexed", 8, 8, 1000, 0, 1000, 0.0)
    report = StoreReport(None, PointerPlan(OLD.collection, OLD.fingerprint, 1), 1000, (old, *collections))
    return replace(report, **changes)  # type: ignore[arg-type]


def seen(found: SeenIndex | None = None, **changes: object) -> Seen:
    """Return a healthy world in which two gateways serve exactly what the index says."""
    found = found if found is not None else index()
    routing = found.status.routing
    quick = ArmMeasure(requests=500, errors=0, p95=timedelta(milliseconds=40))
    world = Seen(
        index=found,
        target=pool("new"),
        source=pool("old"),
        store=store(collection()),
        gateways=tuple(
            GatewayReport(pod, routing.epoch, routing.weight, routing.serving, routing.candidate) for pod in ("a", "b")
        ),
        gateway_pods=("a", "b"),
        arms={OLD.collection: quick, NEW.collection: quick},
        probes={OLD.collection: quick, NEW.collection: quick},
        backfill_image="backfill:1",
    )
    return replace(world, **changes)  # type: ignore[arg-type]
