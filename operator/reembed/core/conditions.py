"""Conditions of the three kinds: what programs read, in the API's conventions.

A condition is True, False or Unknown with a CamelCase reason; `phase` and the printed columns are for people only. All
conditions of a kind are there from the first visit on. The shell keeps `lastTransitionTime`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reembed.core import reasons
from reembed.core.migration import Status
from reembed.core.model import IndexStatus, PoolReport, Problem
from reembed.core.transitions import FINISHED, WITH_TRAFFIC, State
from reembed.core.triggers import first_running


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `status` None is Unknown."""

    type: str
    status: bool | None
    reason: str
    message: str = ""


def of_migration(status: Status) -> tuple[Condition, ...]:
    """Return Ready, Progressing, Succeeded, Degraded and RolledBack of a migration."""
    state, reason, message = status.state, status.reason or status.state.value, status.message
    finished = state in FINISHED
    back = state in {State.ROLLING_BACK, State.ROLLED_BACK}
    bad = back or state is State.FAILED or _alarming(status) or reason in reasons.ALARMS
    degraded = (reason, message) if bad else (reasons.ROLLBACK_NOT_READY, status.no_way_back)
    bad = bad or bool(status.no_way_back)
    doing = f"{message}; waiting: {status.waiting}" if status.waiting else message
    return (
        Condition("Ready", state is State.SUCCEEDED, reason, message),
        # As a Deployment's: nothing moves, and that is what somebody wants.
        Condition("Progressing", None if reason in reasons.FOR_PEOPLE else not finished, reason, doing),
        Condition("Succeeded", state is State.SUCCEEDED if finished else None, reason, message),
        Condition("Degraded", bad, *(degraded if bad else ("AsExpected", ""))),
        Condition("RolledBack", state is State.ROLLED_BACK if finished or back else None, reason, message),
    )


def _alarming(status: Status) -> bool:
    return first_running(status.triggers) is not None and status.state in WITH_TRAFFIC


def of_pool(report: PoolReport, *, claimed: bool, wanted: int = 0) -> tuple[Condition, ...]:
    """Return Ready, Progressing and Degraded of a pool; one that nobody uses is ready with no pods.

    A pool is ready with the pods that it must have; it may want more for what is asked of it.
    """
    problem = report.problem
    if not claimed:
        idle = "no index or migration uses this pool: no pods run"
        return (
            Condition("Ready", True, "NotInUse", idle),
            Condition("Progressing", False, "NotInUse", idle),
            Condition("Degraded", False, "AsExpected"),
        )
    ready = 0 < report.desired_replicas <= report.ready_replicas
    wanted = max(report.desired_replicas, wanted)
    pods = f"{report.ready_replicas} of {wanted} pods ready"
    grows = report.ready_replicas < wanted and not report.permanent
    reason = "PodsReady" if ready else problem.reason if problem is not None else "PodsStarting"
    message = pods if ready or problem is None else problem.message
    return (
        Condition("Ready", ready, reason, message),
        Condition("Progressing", grows, reason, message),
        _degraded(problem if _degrades(problem, ready=ready) else None),
    )


def _degrades(problem: Problem | None, *, ready: bool) -> bool:
    if problem is None or problem.reason == reasons.MODEL_LOADING:
        return False
    return not ready or problem.reason in reasons.OF_ENDPOINT | {reasons.MODEL_CLASS_MISMATCH}


def of_index(
    status: IndexStatus, gateway: tuple[int, int], problem: Problem | None, *more: Condition
) -> tuple[Condition, ...]:
    """Return Ready, Progressing, Degraded and `more` of an index; `gateway` is its ready and wanted pods.

    An index that waits for its first migration is ready: nothing is wrong with it.
    """
    ready, wanted = gateway
    up = 0 < wanted <= ready
    serving = status.routing.serving
    pods = f"{ready} of {wanted} gateway pods ready"
    what = f"pool {serving.pool!r} serves" if serving is not None else "waiting for a first migration"
    reason = ("Serving" if serving is not None else "WaitingForMigration") if up else "GatewayStarting"
    active = status.active_migration
    moving = f"held by EmbeddingMigration {active.name!r}" if active is not None else "no migration"
    return (
        Condition("Ready", up, reason, f"{what}; {pods}"),
        Condition("Progressing", active is not None, "Migrating" if active is not None else "Idle", moving),
        _degraded(problem),
        *more,
    )


def _degraded(problem: Problem | None) -> Condition:
    if problem is None:
        return Condition("Degraded", False, "AsExpected")
    return Condition("Degraded", True, problem.reason, problem.message)
