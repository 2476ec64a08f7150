"""What must hold before a migration makes anything: ordered checks, the first finding is reported.

Absent or unready things wait, since `kubectl apply -f folder/` creates all at once; only what waiting cannot heal
refuses. A check that looks at the store, the pods or the gateways comes after the one that claims the index, because
they are made for whoever holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Migration, Seen

# HNSW indexes of pgvector hold at most this many dimensions (as halfvec).
MAX_DIMENSIONS = 4000
# Whoever waits for another migration has not begun: no deadline runs.
INDEX_HELD = "IndexHeld"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a migration cannot start yet, or, if permanent, ever."""

    reason: str
    message: str
    permanent: bool = False


Check = Callable[[Migration, Seen], Obstacle | None]


def index_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.index is not None and not seen.index.meta.deleting:
        return None
    return Obstacle("IndexMissing", f"waiting for EmbeddingIndex {migration.spec.index!r}; create it")


def pool_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.target is not None and not seen.target.meta.deleting:
        return None
    return Obstacle("PoolMissing", f"waiting for EmbedderPool {migration.spec.pool!r}; create it")


def dimensions_too_large(migration: Migration, seen: Seen) -> Obstacle | None:
    found = seen.target.spec.model.dimensions if seen.target is not None else 0
    if found <= MAX_DIMENSIONS:
        return None
    message = f"the model has {found} dimensions, the vector index holds {MAX_DIMENSIONS}; choose a smaller model"
    return Obstacle("DimensionsTooLarge", message, permanent=True)


def other_pool_serves(migration: Migration, seen: Seen) -> Obstacle | None:
    """`spec.from` names who is expected to serve: a manifest replayed elsewhere must not move another index."""
    serving = seen.index.status.routing.serving if seen.index is not None else None
    expected = migration.spec.from_pool
    if expected is None or (serving is not None and serving.pool == expected):
        return None
    found = f"{serving.pool!r} serves" if serving is not None else "nothing serves yet"
    return Obstacle("OtherPoolServes", f"{found}, but spec.from expects {expected!r}; waiting until it does")


def index_held(migration: Migration, seen: Seen) -> Obstacle | None:
    holder = seen.index.status.active_migration if seen.index is not None else None
    if holder is None or holder.uid == migration.meta.uid:
        return None
    who = f"EmbeddingMigration {holder.name!r}"
    if holder.name == migration.meta.name:
        who += f" of UID {holder.uid}, which had the same name"
    return Obstacle(INDEX_HELD, f"waiting for {who}, which holds the index")


def store_not_ready(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.store is None:
        name = migration.spec.index
        return Obstacle("StoreWorkerMissing", f"waiting for the store worker of index {name!r} to report")
    problem = seen.store.problem
    return Obstacle(problem.reason, problem.message) if problem is not None else None


def model_not_ready(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.target is None:
        return None
    report = seen.target.report
    if report.problem is not None:
        return Obstacle(report.problem.reason, report.problem.message, report.permanent)
    if 0 < report.desired_replicas <= report.ready_replicas:
        return None
    ready = f"{report.ready_replicas} of {report.desired_replicas} pods ready"
    return Obstacle("PoolNotReady", f"waiting for EmbedderPool {migration.spec.pool!r}: {ready}")


def gateways_not_ready(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.gateway_pods and len(seen.gateways) == len(seen.gateway_pods):
        return None
    found = f"{len(seen.gateways)} of {len(seen.gateway_pods)} gateway pods answer"
    return Obstacle("GatewayNotReady", f"waiting for the gateway of index {migration.spec.index!r}: {found}")


def baseline_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    """Latency is judged against the serving model's own: without it nothing may start."""
    serving = migration.status.serving
    if serving is None:
        return None
    measure = seen.arms.get(serving.collection)
    if measure is not None and measure.p95 is not None:
        return None
    return Obstacle("MeasuringBaseline", "measuring the serving model's p95 latency, up to two minutes without traffic")


# Before the index is claimed: nothing is made for a migration that may not have it.
BEFORE_CLAIM: tuple[Check, ...] = (
    index_missing,
    pool_missing,
    dimensions_too_large,
    index_held,
    other_pool_serves,
)
# Once it is claimed: its pods, its store, its gateways.
AFTER_CLAIM: tuple[Check, ...] = (store_not_ready, model_not_ready, gateways_not_ready, baseline_missing)


def first_obstacle(checks: tuple[Check, ...], migration: Migration, seen: Seen) -> Obstacle | None:
    """Return what the first failing check found."""
    return next((found for check in checks if (found := check(migration, seen)) is not None), None)


def target_serves(migration: Migration, seen: Seen) -> bool:
    """Return whether the target already answers, so that a replayed manifest does nothing twice."""
    serving = seen.index.status.routing.serving if seen.index is not None else None
    if serving is None or seen.target is None:
        return False
    return serving.pool == migration.spec.pool and serving.fingerprint == fingerprint(seen.target.spec.model)
