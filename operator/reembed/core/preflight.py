"""What must hold before a migration makes anything: ordered checks, the first finding is reported.

Absent or unready things wait, since `kubectl apply -f folder/` creates all at once; only what waiting cannot heal
refuses. A check that looks at the store, the pods or the gateways comes after the one that claims the index, because
they are made for whoever holds it.
"""

from __future__ import annotations

from collections.abc import Callable

from reembed.core import adoption, desired, inspection, reasons, space, triggers, wishes
from reembed.core.fingerprint import fingerprint, of_collection
from reembed.core.migration import Migration, Neighbour, Seen
from reembed.core.model import InspectionReport
from reembed.core.transitions import FINISHED, State
from reembed.core.wishes import Obstacle

Check = Callable[[Migration, Seen], Obstacle | None]


def index_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.index is not None and not seen.index.meta.deleting:
        return None
    return Obstacle("IndexMissing", f"waiting for EmbeddingIndex {migration.spec.index!r}; create it")


def pool_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.target is not None and not seen.target.meta.deleting:
        return None
    return Obstacle("PoolMissing", f"waiting for EmbedderPool {migration.spec.pool!r}; create it")


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
    return Obstacle(reasons.INDEX_HELD, f"waiting for {who}, which holds the index")


def candidate_left(migration: Migration, seen: Seen) -> Obstacle | None:
    """Queries that go to another migration's candidate are that one's to take back or to promote."""
    routing = seen.index.status.routing if seen.index is not None else None
    if routing is None or routing.candidate is None:
        return None
    told = f"{routing.weight} % of its queries go to pool {routing.candidate.pool!r}"
    text = f"waiting until the candidate of an earlier migration is taken back or promoted: {told}"
    return Obstacle(reasons.INDEX_HELD, text)


def dependency_cycle(migration: Migration, seen: Seen) -> Obstacle | None:
    """Whoever waits for a migration that waits for it would wait for ever."""
    own = migration.meta.name
    if own not in _reachable(migration.spec.depends_on, seen):
        return None
    message = f"dependsOn leads from {own!r} back to itself, so that none of them could begin; remove one"
    return Obstacle("DependencyCycle", message, permanent=True)


def dependency_unfinished(migration: Migration, seen: Seen) -> Obstacle | None:
    for name in migration.spec.depends_on:
        found = seen.neighbours.get(name)
        if found is not None and found.state is State.SUCCEEDED:
            continue
        if found is None:
            text = f"waiting for EmbeddingMigration {name!r}: it does not exist; create it, or take it from dependsOn"
        elif found.state in FINISHED:
            text = f"EmbeddingMigration {name!r} ended as {found.state.value}; retry it, or take it from dependsOn"
        else:
            text = f"waiting for EmbeddingMigration {name!r}, which is in {found.state.value}"
        return Obstacle(reasons.WAITING_FOR_DEPENDENCY, text)
    return None


def _reachable(names: tuple[str, ...], seen: Seen) -> set[str]:
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(seen.neighbours.get(name, Neighbour(State.SUCCEEDED)).depends_on)
    return found


def crds_too_old(migration: Migration, seen: Seen) -> Obstacle | None:
    found = triggers.crds_too_old(seen)
    return Obstacle(found.reason, found.message) if found is not None else None


def query_without_value(migration: Migration, seen: Seen) -> Obstacle | None:
    for one in migration.spec.limits.prometheus:
        if one.name not in (seen.queries or {}):
            text = f"the query of trigger {one.name!r} gives no value; it must give one number, not NaN: {one.query}"
            return Obstacle("QueryWithoutValue", text)
    return None


def job_left_over(migration: Migration, seen: Seen) -> Obstacle | None:
    """What an earlier attempt ran must not be taken for this one's."""
    if seen.job is None:
        return None
    return Obstacle("JobLeftOver", f"waiting until Job {seen.job.name} of an earlier attempt and its pods are gone")


def status_lost(migration: Migration, seen: Seen) -> Obstacle | None:
    """An index whose status was emptied looks like a new one, and whoever claimed it so would take what serves away."""
    if seen.index is None or not desired.lost(seen.index):
        return None
    if seen.store is None or seen.store.problem is not None:
        return store_not_ready(migration, seen)
    if desired.nothing_there(seen):
        return None
    text = f"the status of index {seen.index.meta.name!r} was emptied; waiting until it is rebuilt from the store"
    return Obstacle("StatusLost", text)


def not_adopted(migration: Migration, seen: Seen) -> Obstacle | None:
    """An index whose application has vectors is not filled for the first time: what serves would not be compared."""
    if seen.index is None or not adoption.pending(seen.index):
        return None
    column = seen.index.spec.adopted.column if seen.index.spec.adopted is not None else ""
    text = f"waiting until column {column!r} is adopted and answers; conditions of index {migration.spec.index!r} say"
    return Obstacle("NotAdopted", f"{text} what keeps it from that")


def store_not_ready(migration: Migration, seen: Seen) -> Obstacle | None:
    if seen.store is None:
        name = migration.spec.index
        return Obstacle("StoreWorkerMissing", f"waiting for the store worker of index {name!r} to report")
    problem = seen.store.problem
    return Obstacle(problem.reason, problem.message) if problem is not None else None


def space_insufficient(migration: Migration, seen: Seen) -> Obstacle | None:
    """A disk that is full stops the application's writes too: what would not fit is not begun."""
    capacity = seen.index.spec.capacity if seen.index is not None else None
    if capacity is None or seen.index is None or seen.target is None or seen.store is None:
        return None
    dimensions, chunking = seen.target.spec.model.dimensions, migration.spec.chunking
    needed = space.needed(seen.store, dimensions, seen.index.spec.vector_index.m, chunking)
    vectors, used = space.vectors(seen.store, seen.store.documents, chunking), seen.store.database
    if needed is None or used is None:
        return Obstacle(
            "MeasuringSpace", "spec.store.capacity is set; waiting until documents and database are measured"
        )
    if used + needed <= capacity:
        return None
    left = space.orphans(seen.index, seen.store)
    count = f"{vectors} vectors" if chunking is None else f"about {vectors} parts of {seen.store.documents} documents"
    text = (
        f"a collection of {count} with {dimensions} dimensions and its index need about {space.text(needed)}, and the"
        f" database has {space.text(used)} of the {space.text(capacity)} that spec.store.capacity of the index says;"
        " nothing is made. Make room, or give the database more and raise it"
    )
    return Obstacle("SpaceInsufficient", f"{text}; {left}" if left else text)


def room(migration: Migration, seen: Seen) -> str:
    """Say what the new collection will take, where the store measures what is there."""
    if seen.store is None or seen.store.database is None or seen.target is None:
        return ""
    m = seen.index.spec.vector_index.m if seen.index is not None else 16
    chunking = migration.spec.chunking
    needed = space.needed(seen.store, seen.target.spec.model.dimensions, m, chunking)
    if needed is None:
        return ""
    used, count = space.text(seen.store.database), space.vectors(seen.store, seen.store.documents, chunking)
    cut = f" for about {count} parts" if chunking is not None else ""
    return f"; the new collection takes about {space.text(needed)}{cut}, beside the {used} of the database"


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


def vectors_not_reproduced(migration: Migration, seen: Seen) -> Obstacle | None:
    """Who moves away from vectors of an unknown model compares the new one with nobody knows what."""
    report = _inspected(migration, seen)
    if report is None or not inspection.refused(report) or _acknowledged(migration):
        return None
    found = next((one for one in report.findings if one.reason == inspection.NOT_REPRODUCED), None)
    text = found.message if found is not None else inspection.told(report)
    return Obstacle(inspection.NOT_REPRODUCED, f"{text} (spec.acknowledge), and retry", permanent=True)


def not_inspected(migration: Migration, seen: Seen) -> Obstacle | None:
    """Wait for the look at what serves, which begins when the index is claimed."""
    serving, store = migration.status.serving, seen.store
    if serving is None or store is None or store.inspections is None or _acknowledged(migration):
        return None
    if _inspected(migration, seen) is not None:
        return None
    text = f"waiting for the inspection of collection {serving.collection}, whether its pool makes its vectors"
    hosted = seen.source.report.problem if seen.source is not None else None
    if hosted is not None and hosted.reason in reasons.OF_ENDPOINT:  # it embeds no documents, whoever waits for it
        return Obstacle(hosted.reason, f"{hosted.message}; the inspection of {serving.collection} waits for it")
    return Obstacle("Inspecting", f"{text}; condition Inspected of index {migration.spec.index!r} has more")


def _acknowledged(migration: Migration) -> bool:
    return inspection.NOT_REPRODUCED in migration.spec.acknowledge


def _inspected(migration: Migration, seen: Seen) -> InspectionReport | None:
    """Return the inspection of what serves that counts for this attempt."""
    status, begun = migration.status, migration.status.attempted_at
    if status.serving is None or begun is None or seen.store is None or seen.index is None:
        return None
    own = inspection.of_attempt(seen.index.meta.uid, migration.meta.uid, status.attempt, status.serving)
    return inspection.recent(seen.store.inspections or (), status.serving, own, begun)


# Before anybody asks whether the target serves already.
BEFORE_THERE: tuple[Check, ...] = (index_missing, pool_missing, wishes.dimensions_too_large, wishes.chunks_unfit)
# Before the index is claimed: nothing is made for a migration that may not have it.
BEFORE_CLAIM: tuple[Check, ...] = (
    crds_too_old,
    wishes.trigger_unmeasurable,
    wishes.gate_unmeasurable,
    dependency_cycle,
    dependency_unfinished,
    job_left_over,
    index_held,
    candidate_left,
    status_lost,
    not_adopted,
    other_pool_serves,
    wishes.panel_missing,
)
# Once it is claimed: its pods, its store, its gateways.
AFTER_CLAIM: tuple[Check, ...] = (
    store_not_ready,
    vectors_not_reproduced,
    wishes.follower_missing,
    space_insufficient,
    model_not_ready,
    gateways_not_ready,
    query_without_value,
    baseline_missing,
    not_inspected,
)


def first_obstacle(checks: tuple[Check, ...], migration: Migration, seen: Seen) -> Obstacle | None:
    """Return what the first failing check found."""
    return next((found for check in checks if (found := check(migration, seen)) is not None), None)


def target_serves(migration: Migration, seen: Seen) -> bool:
    """Return whether the target already answers, so that a replayed manifest does nothing twice."""
    serving = seen.index.status.routing.serving if seen.index is not None else None
    if serving is None or seen.target is None:
        return False
    wanted = of_collection(fingerprint(seen.target.spec.model), migration.spec.chunking)
    return serving.pool == migration.spec.pool and serving.fingerprint == wanted
