"""How many pods should fill a collection at once, by what an agent measured of the pool that they ask.

Pods of a backfill yield by themselves to callers and store (`core.throttle`, `core.elastic`). What nobody yields to is
a pool whose every pod has more texts waiting than its target: more pods that ask only wait longer, each with memory and
a connection of its own. The parallelism optimizer proposes half of them then, and twice as many once the queues are
short; whoever judges that looks at the queues by itself.
"""

from __future__ import annotations

from datetime import datetime

from reembed.core.migration import Migration
from reembed.core.quorum import acting, measured
from reembed.core.quorum.asking import objects_of
from reembed.core.quorum.evidence import Evidence, Pods, PoolObject
from reembed.core.quorum.proposals import Proposal
from reembed.core.transitions import State
from reembed.core.triggers import Finding


def wanted(evidence: Evidence, now: datetime) -> tuple[int, str] | None:
    """Return the number to propose, and why; None to leave it as it is."""
    migration = objects_of(evidence).migration
    pool, pods = _target(evidence)
    if migration is None or pool is None or pods is None or measured.stale("pods", pods, now) is not None:
        return None
    if migration.status.state is not State.BACKFILLING:
        return None
    here, allowed = acting.most(migration), _allowed(migration)
    if here > 1 and _whole(pool) and _idle(pool, pods) is None:
        return (
            here // 2,
            f"every pod has more than {pool.spec.scaling.queue_target} tokens waiting, and no more may run",
        )
    if here < allowed and _crowded(pool, pods, 0.5) is None and _short_of_memory(migration, pods) is None:
        return min(2 * here, allowed), f"no pod has more than half of {pool.spec.scaling.queue_target} tokens waiting"
    return None


def tunes(proposal: Proposal, evidence: Evidence, now: datetime) -> Finding | None:
    """Find a number that the user does not allow, or that what the agent measured does not ask for."""
    migration = objects_of(evidence).migration
    if migration is None or migration.status.state is not State.BACKFILLING:
        return Finding("NotBackfilling", "the migration fills no collection now")
    text, allowed, here = dict(proposal.change).get("parallelism", ""), _allowed(migration), acting.most(migration)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= allowed:
        return Finding("ParallelismInvalid", f"{text!r} pods at once; the migration's spec allows 1 to {allowed}")
    pool, pods = _target(evidence)
    late = measured.stale(f"pods of {migration.spec.pool!r}", pods, now)
    if pool is None or pods is None or late is not None:
        return late or Finding("PoolMissing", "the pool of the migration's target is not there")
    if int(text) == here:
        return Finding("NothingTuned", f"{here} pods may run already")
    if int(text) < here:
        # Memory above its target is a reason as good as a queue.
        return _idle(pool, pods) if _short_of_memory(migration, pods) is None else None
    return _crowded(pool, pods) or _short_of_memory(migration, pods)


def _allowed(migration: Migration) -> int:
    return min(migration.spec.parallelism, migration.spec.shards)


def _target(evidence: Evidence) -> tuple[PoolObject | None, Pods | None]:
    migration = objects_of(evidence).migration
    name = migration.spec.pool if migration is not None else ""
    return objects_of(evidence).pools.get(name), evidence.pods.get(name)


def _whole(pool: PoolObject) -> bool:
    """Return whether the pool cannot grow any more; else more pods of it come by themselves."""
    return len(pool.ready) >= sum(one.max_replicas for one in pool.spec.variants)


def _queues(pods: Pods) -> list[float | None]:
    return [one.queue for one in pods.load.readings.values()]


def _idle(pool: PoolObject, pods: Pods) -> Finding | None:
    """Find a pod whose queue is no longer than the pool's target."""
    target, queues = pool.spec.scaling.queue_target, _queues(pods)
    if not queues or any(one is None for one in queues):
        return Finding("QueueNotMeasured", "a pod does not say how much waits in it")
    least = min(one for one in queues if one is not None)
    return None if least > target else Finding("QueueShort", f"{least:.0f} tokens wait in a pod, not above {target}")


def _crowded(pool: PoolObject, pods: Pods, share: float = 1.0) -> Finding | None:
    """Find a pod whose queue is longer than `share` of the pool's target."""
    target, queues = share * pool.spec.scaling.queue_target, _queues(pods)
    if not queues or any(one is None for one in queues):
        return Finding("QueueNotMeasured", "a pod does not say how much waits in it")
    longest = max(one for one in queues if one is not None)
    return Finding("QueueLong", f"{longest:.0f} tokens wait in a pod, above {target:.0f}") if longest > target else None


def _short_of_memory(migration: Migration, pods: Pods) -> Finding | None:
    """Find a pod that uses more memory than the migration's trigger allows, or does not say."""
    share = migration.spec.limits.memory.share or 1.0
    used = [one.memory for one in pods.answers.values()]
    if any(one is None or one > share for one in used) or not used:
        return Finding("MemoryPressure", "pods are short of memory, or do not say what they use")
    return None
