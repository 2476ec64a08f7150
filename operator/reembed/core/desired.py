"""What the world should look like in each state of a migration: routing, store plan and Job.

Pure functions from the migration's own status and what is there now to what should be there; `decide` turns the
difference into effects. So every effect is idempotent, and an operator that died after any line goes on from the
objects alone. The index's status is one value: holder, routing and plan change together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reembed.core import hooks, names, traffic
from reembed.core.fingerprint import of_collection
from reembed.core.hooks import Situation
from reembed.core.migration import Migration, Seen, SeenIndex, SeenPool
from reembed.core.model import (
    Arm,
    CollectionPlan,
    CollectionReport,
    Desired,
    EvaluationPlan,
    Holder,
    IndexStatus,
    PointerPlan,
    Routing,
    StorePlan,
)
from reembed.core.quorum import acting
from reembed.core.transitions import FINISHED, WITH_TRAFFIC, State

# The candidate is known to the gateways, which probe it, from here on.
_CANDIDATE_KNOWN = frozenset(
    {State.EVALUATING, State.CANARY, State.RETAINING, State.ROLLING_BACK, State.UNWINDING},
)
_INDEXED = frozenset(
    {State.INDEXING, State.EVALUATING, State.CANARY, State.RETAINING, State.PROMOTING, State.SUCCEEDED},
)


# What was made is taken back.
TAKING_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.UNWINDING, State.FAILED})
# What somebody may hold up: nothing of it has been decided for good.
PAUSABLE = frozenset(
    {State.PREFLIGHT, State.BACKFILLING, State.INDEXING, State.EVALUATING, State.CANARY, State.RETAINING},
)
# The CRD's limit is 64; of the collections that are kept for nobody, the oldest leave the plan before that.
_MOST_COLLECTIONS = 32


@dataclass(frozen=True, slots=True)
class BackfillJob:
    """The Job that fills a collection, as far as decisions care."""

    migration: str
    migration_uid: str
    attempt: int
    index: str
    collection: str
    fingerprint: str
    pool: str
    shards: int
    parallelism: int  # 0 suspends it
    image: str


def holds(migration: Migration, index: SeenIndex | None) -> bool:
    """Return whether the migration holds the index."""
    holder = index.status.active_migration if index is not None else None
    return holder is not None and holder.uid == migration.meta.uid


def lost(index: SeenIndex) -> bool:
    """Return whether the index's status was emptied: whoever filled it planned, and whoever routed counted an epoch."""
    status = index.status
    return status.active_migration is None and status.routing.epoch == 0 and not status.plan.collections


def nothing_there(seen: Seen) -> bool:
    """Return whether an index without a status is a new one, by the word of its store and its gateways."""
    if seen.store is None or seen.store.problem is not None:
        return False
    held = seen.store.pointer is not None or bool(seen.store.collections)
    return not held and not any(report.epoch for report in seen.gateways)


def begins_anew(migration: Migration, index: SeenIndex, seen: Seen) -> bool:
    """Return whether a first fill, whose index's status was emptied before anything was made, should claim it again."""
    filling = migration.status.state is State.BACKFILLING and migration.status.serving is None
    return filling and lost(index) and nothing_there(seen)


def reclaims(migration: Migration, index: SeenIndex) -> bool:
    """Return whether the migration, well under way, should take hold of its index again.

    That is so when nobody holds it and it still serves one of the migration's own sides: somebody emptied or edited the
    index's status, and it was rebuilt from the store.
    """
    status, routing = migration.status, index.status.routing
    if status.state in FINISHED or status.state is State.PREFLIGHT or lost(index):
        return False
    if index.status.active_migration is not None or routing.serving not in (status.serving, status.candidate):
        return False
    # Who only takes back needs it for a weight, not for a collection of its own.
    return status.state not in TAKING_BACK or (routing.candidate is not None and routing.candidate == status.candidate)


def candidate_answers(migration: Migration, index: SeenIndex) -> bool:
    """Return whether the index still sends queries to the migration's candidate as such."""
    routing = index.status.routing
    return routing.weight > 0 and routing.candidate is not None and routing.candidate == migration.status.candidate


def hooking(migration: Migration, seen: Seen) -> Situation:
    """Return what `core.hooks` asks about: hooks, their Jobs, and the moment that the migration is at."""
    status, meta = migration.status, migration.meta
    when = hooks.moment(status.state, status.attempt, status.step)
    return Situation(meta.name, meta.uid, when, migration.spec.hooks, seen.hooks)


def step_weight(migration: Migration) -> int:
    """Return the share of the queries, in percent, that the migration's state means for the candidate."""
    if migration.status.state is State.CANARY:
        return migration.spec.steps[migration.status.step].weight
    return 100 if migration.status.state is State.RETAINING else 0


def weight(migration: Migration, seen: Seen) -> int:
    """Return the candidate's share of the queries now: what was told stays while something forbids to raise it.

    A migration moves to a step only when nothing did, but the operator may have been gone since, or somebody said to
    pause.
    """
    wanted, told = step_weight(migration), seen.index.status.routing.weight if seen.index is not None else 0
    if wanted <= told:
        return wanted
    return wanted if not migration.paused and traffic.obstacle(migration, seen) is None else told


def claimed(migration: Migration, index: SeenIndex) -> IndexStatus:
    """Return the index's status with the migration as its holder."""
    return replace(index.status, active_migration=Holder(migration.meta.name, migration.meta.uid))


def index_status(migration: Migration, index: SeenIndex, seen: Seen) -> IndexStatus:
    """Return what holder, routing and plan of the migration's index should be.

    Who does not hold the index changes nothing in it, but for withdrawing or dropping its own collection after it
    ended, whatever migration came since.
    """
    candidate = migration.status.candidate
    if not holds(migration, index):
        if migration.status.state not in TAKING_BACK or candidate is None:
            return index.status
        plan = replace(index.status.plan, collections=_collections(migration, candidate, index, seen))
        return replace(index.status, plan=plan)
    holder = None if migration.status.state in FINISHED else index.status.active_migration
    return IndexStatus(holder, _routing(migration, index.status.routing, seen), _plan(migration, index, seen))


def backfill_job(migration: Migration, *, suspended: bool) -> BackfillJob | None:
    """Return the Job that should exist, None if none should be made."""
    status, spec = migration.status, migration.spec
    if status.state is not State.BACKFILLING or status.candidate is None or status.backfill_image is None:
        return None
    return BackfillJob(
        migration=migration.meta.name,
        migration_uid=migration.meta.uid,
        attempt=status.attempt,
        index=spec.index,
        collection=status.candidate.collection,
        fingerprint=status.candidate.fingerprint,
        pool=spec.pool,
        shards=spec.shards,
        parallelism=0 if suspended else pods(migration),
        image=status.backfill_image,
    )


def pods(migration: Migration) -> int:
    """Return how many pods of the backfill may run at once: what user and panel allow, or fewer for others' sake."""
    most, lowered = acting.most(migration), migration.status.lowered
    return most if lowered is None else min(lowered.pods, most)


def candidate_arm(migration: Migration, target: SeenPool) -> Arm:
    """Return the side that the migration makes: a collection of its own for every attempt."""
    collection = names.collection(migration.meta.uid, migration.status.attempt)
    return Arm(target.meta.name, collection, of_collection(target.report.fingerprint, migration.spec.chunking))


def _routing(migration: Migration, now: Routing, seen: Seen) -> Routing:
    state, status = migration.status.state, migration.status
    if state in {State.PROMOTING, State.SUCCEEDED} and status.candidate is not None:
        wanted = replace(now, serving=status.candidate, candidate=None, weight=0)
    elif state in _CANDIDATE_KNOWN and status.candidate is not None and not _never_asked(migration):
        wanted = replace(now, candidate=status.candidate, weight=weight(migration, seen))
        if state in TAKING_BACK and now.serving == status.candidate and status.serving is not None:
            # A status that was rebuilt after the pointer had moved names the candidate: it goes back with the pointer.
            wanted = replace(wanted, serving=status.serving)
    elif now.candidate is not None and now.candidate == status.candidate:
        wanted = replace(now, candidate=None, weight=0)
    else:
        wanted = now
    # Gateways may know a higher epoch than a restored index: they would take nothing below it for an order.
    newest = max((now.epoch, *(report.epoch for report in seen.gateways)))
    epoch = now.epoch if wanted == now and newest == now.epoch else newest + 1
    # What has no weight yet has pods missing, or probes that fail: it gets no shadow queries either.
    return replace(wanted, epoch=epoch, shadow=_shadow(migration) if wanted.weight else 0.0)


def _shadow(migration: Migration) -> float:
    """Return the share of the queries that are put to both sides; the first thing that an emergency stops."""
    watched = migration.status.state in WITH_TRAFFIC and migration.status.emergency is None
    return migration.spec.shadow if watched else 0.0


def _plan(migration: Migration, index: SeenIndex, seen: Seen) -> StorePlan:
    if migration.status.candidate is None:
        return index.status.plan
    return StorePlan(
        collections=_collections(migration, migration.status.candidate, index, seen),
        pointer=_pointer(migration, migration.status.candidate, index, seen),
        evaluation=_evaluation(migration, migration.status.candidate),
    )


def _collections(migration: Migration, candidate: Arm, index: SeenIndex, seen: Seen) -> tuple[CollectionPlan, ...]:
    serving, entries = migration.status.serving, index.status.plan.collections
    changes = {candidate.collection: _desired_of_candidate(migration, candidate, index, seen)}
    if serving is not None and migration.status.state in {State.PROMOTING, State.SUCCEEDED}:
        # A collection that nobody keeps fresh must not answer again; gateways have let go of it by then.
        old = Desired.DROPPED if migration.spec.drop else Desired.WITHDRAWN
        released = promoted(migration, seen) and serving.collection not in _named(index)
        changes[serving.collection] = old if released else None
    kept = [
        replace(entry, desired=changes.get(entry.name) or entry.desired)
        for entry in entries
        if not _forgotten(entry, seen)
    ]
    known = {one.name for one in entries} | _answering(index)
    new = _new_entry(migration, candidate, index, seen) if candidate.collection not in known else None
    return tuple(kept) if new is None else (*_shortened(kept, index), new)


def _new_entry(migration: Migration, candidate: Arm, index: SeenIndex, seen: Seen) -> CollectionPlan | None:
    """Return the entry for the migration's own collection where the plan has none."""
    report = own_collection(migration, seen)
    if migration.status.state is State.UNWINDING and report is not None and let_go(migration, index, seen):
        # The plan was emptied or cut since: what is in the store is dropped all the same.
        shape, desired = (report.dimensions, max(report.shards, 1)), Desired.DROPPED
    elif migration.status.state is State.BACKFILLING and seen.target is not None:
        shape, desired = (seen.target.spec.model.dimensions, migration.spec.shards), Desired.PRESENT
    else:
        return None
    return CollectionPlan(candidate.collection, candidate.pool, candidate.fingerprint, *shape, desired)


def _shortened(entries: list[CollectionPlan], index: SeenIndex) -> list[CollectionPlan]:
    """Leave out the oldest of those that answer no more, so that there is room; their tables stay as they are."""
    named = _named(index)
    idle = [one.name for one in entries if one.desired is Desired.WITHDRAWN and one.name not in named]
    out = set(idle[: max(len(entries) + 1 - _MOST_COLLECTIONS, 0)])
    return [one for one in entries if one.name not in out]


def _named(index: SeenIndex) -> set[str]:
    """Return the collections that answer somebody or may soon."""
    candidate = index.status.routing.candidate
    return _answering(index) | ({candidate.collection} if candidate is not None else set())


def _answering(index: SeenIndex) -> set[str]:
    """Return the collections that answer whoever asks for what serves: by the routing, or by the store's pointer."""
    return {one.collection for one in (index.status.routing.serving, index.status.plan.pointer) if one is not None}


def _desired_of_candidate(migration: Migration, candidate: Arm, index: SeenIndex, seen: Seen) -> Desired | None:
    """Return what the migration's own collection should be, None to leave it as it is."""
    state = migration.status.state
    if state in _INDEXED:
        return Desired.INDEXED
    answers = candidate.collection in _answering(index)
    if state not in TAKING_BACK or answers or not let_go(migration, index, seen):
        return None
    # What the store never made cannot be withdrawn; should it still come to be made, there is nothing in it to keep.
    never_made = seen.store is not None and seen.store.problem is None and own_collection(migration, seen) is None
    return Desired.DROPPED if state is State.UNWINDING or never_made else Desired.WITHDRAWN


def let_go(migration: Migration, index: SeenIndex, seen: Seen) -> bool:
    """Return whether no gateway sends queries to the candidate any more, by its own word.

    A candidate that never had traffic needs nobody's word, and where no gateway runs, nobody sends any.
    """
    candidate = migration.status.candidate
    if candidate is None or not _had_traffic(migration):
        return True
    if index.status.routing.candidate != candidate:
        return traffic.unused(candidate, seen)
    return index.status.routing.weight == 0 and (not seen.gateway_pods or traffic.acknowledged(seen))


def _had_traffic(migration: Migration) -> bool:
    return any(visit.state is State.CANARY for visit in migration.status.timeline)


def _never_asked(migration: Migration) -> bool:
    """Return whether what is taken back never answered a caller: gateways end their probes as it is withdrawn."""
    return migration.status.state in TAKING_BACK and not _had_traffic(migration)


def settled(migration: Migration, index: SeenIndex) -> bool:
    """Return whether the plan of the index holds nothing that a migration which ended should still take back."""
    if migration.status.state not in {State.ROLLED_BACK, State.FAILED}:
        return True
    own = [one.desired for one in index.status.plan.collections if one.name == own_name(migration)]
    return not {Desired.PRESENT, Desired.INDEXED} & set(own)


def promoted(migration: Migration, seen: Seen) -> bool:
    """Return whether every gateway serves the new side as the only one."""
    if seen.index is None or seen.index.status.routing.serving != migration.status.candidate:
        return False
    return traffic.acknowledged(seen)


def _forgotten(entry: CollectionPlan, seen: Seen) -> bool:
    """Return whether the store has dropped what it was told to drop."""
    if entry.desired is not Desired.DROPPED or seen.store is None or seen.store.problem is not None:
        return False
    if entry.name in {report.name for report in seen.store.collections}:
        return False
    return seen.store.dropped is None or entry.name in seen.store.dropped


def _pointer(migration: Migration, candidate: Arm, index: SeenIndex, seen: Seen) -> PointerPlan | None:
    """Move the pointer after all gateways serve the new side, and back after none does.

    Where nothing served before, it follows the routing: what a panel has not agreed to answers nobody, in SQL neither.
    """
    state, now, routing = migration.status.state, index.status.plan.pointer, index.status.routing
    arm, alone = None, state is State.PROMOTING and routing.serving == candidate
    if alone or (state is State.RETAINING and routing.weight == 100 and traffic.acknowledged(seen)):
        arm = candidate
    elif state in {State.ROLLING_BACK, State.UNWINDING} and now is not None and now.collection == candidate.collection:
        arm = migration.status.serving if let_go(migration, index, seen) else None
    if arm is None or (now is not None and now.collection == arm.collection):
        return acting.pointer(migration, seen) or now
    return PointerPlan(arm.collection, arm.fingerprint, (now.generation if now is not None else 0) + 1)


def _evaluation(migration: Migration, candidate: Arm) -> EvaluationPlan | None:
    spec, state = migration.spec.evaluation, migration.status.state
    if state not in {State.EVALUATING} | WITH_TRAFFIC or spec is None:
        return None
    live = state in WITH_TRAFFIC
    return EvaluationPlan(evaluation_id(migration), migration.status.serving, candidate, spec, live)


def evaluation_id(migration: Migration) -> str:
    """Return the name under which the store worker keeps this attempt's comparison."""
    return f"{migration.meta.uid}-{migration.status.attempt}"


def own_name(migration: Migration) -> str:
    """Return the name of the migration's own collection, empty before there is one."""
    return migration.status.candidate.collection if migration.status.candidate is not None else ""


def own_collection(migration: Migration, seen: Seen) -> CollectionReport | None:
    """Return what the store says of the migration's own collection."""
    reports = seen.store.collections if seen.store is not None else ()
    return next((report for report in reports if report.name == own_name(migration)), None)
