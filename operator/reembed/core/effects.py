"""What a pass does to the world, as values: the difference between what is there and what `core.desired` asks for.

`controller/apply` carries them out in their order and stops at the first that fails. What takes traffic from the
candidate comes before the migration's status is written, everything else after it: see `core.decide`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reembed.core import desired, hooks, triggers
from reembed.core.hooks import RunHook
from reembed.core.migration import Migration, Seen, SeenIndex
from reembed.core.model import IndexStatus, PanelRef
from reembed.core.names import FINALIZER
from reembed.core.quorum import queen
from reembed.core.quorum.counting import Standing
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.core.transitions import FINISHED, State


@dataclass(frozen=True, slots=True)
class SetIndexStatus:
    """Write holder, routing and plan of the index, if nobody wrote to the index since it was seen."""

    index: str
    resource_version: str
    status: IndexStatus


@dataclass(frozen=True, slots=True)
class ApplyJob:
    """Make the backfill's Job, or change its parallelism."""

    job: desired.BackfillJob


@dataclass(frozen=True, slots=True)
class DeleteJob:
    name: str


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Keep the migration's object until it is unwound, or let it go."""

    present: bool


@dataclass(frozen=True, slots=True)
class ProtectPools:
    """Have the pods of these pools work with conservative limits for a while; told again for as long as it holds."""

    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """Put a proposal to the panel of the index, once."""

    panel: PanelRef
    proposal: Proposal


Effect = SetIndexStatus | ApplyJob | DeleteJob | SetFinalizer | ProtectPools | RunHook | Propose


def effects(migration: Migration, seen: Seen) -> tuple[tuple[Effect, ...], tuple[Effect, ...]]:
    """Return what takes (before the status is written) and what gives (after it)."""
    before: list[Effect] = []
    after: list[Effect] = []
    status, index = migration.status, seen.index
    if index is not None:
        effect = _index_effect(migration, index, seen)
        lowered = effect is not None and effect.status.routing.weight < index.status.routing.weight
        takes = lowered and status.state in desired.TAKING_BACK
        if effect is not None:
            (before if takes else after).append(effect)
    after.extend(_proposals(migration, seen))
    after.extend(_job_effects(migration, seen))
    after.extend(_hook_effects(migration, seen))
    careful = queen.agreed(seen, Kind.MEMORY) is not None and status.state not in FINISHED
    if status.emergency is not None or careful:
        after.append(ProtectPools(tuple(pool.meta.name for pool in (seen.target, seen.source) if pool is not None)))
    if status.state in {State.SUCCEEDED, State.GONE} and FINALIZER in migration.meta.finalizers:
        # What serves now must outlive the migration that brought it: there is nothing left to unwind.
        after.append(SetFinalizer(present=False))
    return tuple(before), tuple(after)


def _index_effect(migration: Migration, index: SeenIndex, seen: Seen) -> SetIndexStatus | None:
    claiming = migration.status.state is State.PREFLIGHT and migration.status.reason == "ClaimingIndex"
    claiming = claiming or desired.reclaims(migration, index) or desired.begins_anew(migration, index, seen)
    wanted = desired.claimed(migration, index) if claiming else _routed(migration, index, seen)
    if wanted == index.status:
        return None
    return SetIndexStatus(index.meta.name, index.meta.resource_version, wanted)


def _routed(migration: Migration, index: SeenIndex, seen: Seen) -> IndexStatus:
    return queen.allowed(migration, index, desired.index_status(migration, index, seen), seen)


def _proposals(migration: Migration, seen: Seen) -> tuple[Propose, ...]:
    asked, index = migration.status.asked, seen.index
    if asked is None or index is None or index.spec.panel is None or asked.standing is not Standing.OPEN:
        return ()
    return (Propose(index.spec.panel, asked.proposal),)


def _hook_effects(migration: Migration, seen: Seen) -> tuple[Effect, ...]:
    situation, runs = desired.hooking(migration, seen), migration.status.hooks
    due = hooks.to_make(situation, runs)
    stopped = tuple(DeleteJob(name) for name in hooks.to_stop(situation, runs))
    return stopped if due is None else (*stopped, due)


def _job_effects(migration: Migration, seen: Seen) -> tuple[Effect, ...]:
    state = migration.status.state
    if state in desired.TAKING_BACK | {State.PREFLIGHT} and seen.job is not None:  # it has nothing to do any more
        return (DeleteJob(seen.job.name),)
    due = triggers.first_due(migration, seen, migration.status.triggers) is not None
    unreadable = triggers.unreadable_source(seen) is not None
    suspended = due or unreadable or migration.paused or migration.status.emergency is not None
    job = desired.backfill_job(migration, suspended=suspended)
    # Pods of the Job look for the collection: it is there once the store worker reports it.
    if job is None or desired.own_collection(migration, seen) is None:
        return ()
    return (ApplyJob(job),)
