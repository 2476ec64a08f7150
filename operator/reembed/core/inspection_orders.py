"""When a collection is inspected, and what is told of it: for the pass of its index.

An order comes of somebody's annotation, or of a migration that begins: what it moves away from is looked at while its
own pool starts. An order is named by who gave it, and is done once an outcome of that name is in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reembed.core import inspection, names
from reembed.core.conditions import Condition
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import Arm, AskedInspection, InspectionReport, JobReport, StoreReport
from reembed.core.transitions import State

ACCEPTED, REFUSED, DONE = "Accepted", "Refused", "Done"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of what somebody asked for last."""

    nonce: str
    outcome: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """An inspection that is to be made; without a pool nothing is embedded again."""

    id: str
    index: str
    index_uid: str
    collection: str
    fingerprint: str
    pool: str | None


def answer(
    index: SeenIndex, store: StoreReport | None, asked: AskedInspection | None, before: Answer | None
) -> Answer | None:
    """Return what is to be answered to the annotation; nothing new while the store is not heard."""
    if asked is None or (before is not None and before.nonce == asked.nonce and before.outcome != ACCEPTED):
        return before
    if store is None or store.problem is not None:
        return before
    if any(one.id == _asked_id(index, asked) for one in store.inspections or ()):
        return Answer(asked.nonce, DONE)
    refusal = _refusal(index, store, asked)
    return Answer(asked.nonce, REFUSED, refusal) if refusal else Answer(asked.nonce, ACCEPTED)


def due(
    index: SeenIndex,
    store: StoreReport | None,
    asked: tuple[AskedInspection | None, Answer | None],
    holder: Migration | None,
) -> Order | None:
    """Return the inspection that is to be made now; `asked` is the annotation with what is answered to it."""
    if index.meta.deleting or store is None or store.problem is not None or store.inspections is None:
        return None
    # A migration waits for its own, whatever becomes of one that somebody asked for.
    needed = _before_migration(index, store, store.inspections, holder)
    if needed is not None:
        return needed
    wanted, answered = asked
    if wanted is not None and answered is not None and (answered.nonce, answered.outcome) == (wanted.nonce, ACCEPTED):
        return _asked_for(index, store, wanted)
    return None


def condition(
    index: SeenIndex, reports: Sequence[InspectionReport] | None, order: Order | None, job: JobReport | None
) -> Condition:
    """Return the condition Inspected: whether what answers is known to be sound."""
    arm = index.status.routing.serving
    if arm is None:
        return Condition("Inspected", None, "NothingToInspect", "nothing answers yet")
    of_arm = [one for one in reports or () if one.collection == arm.collection]
    newest = max(of_arm, key=lambda one: one.at, default=None)
    # What keeps a new look from being taken is told before what an old one found.
    if order is not None and job is not None and job.exhausted:
        why = f"Job {job.name} gave up: {job.message}; the logs of its pods say why, and it is made again"
        return Condition("Inspected", None, "InspectionFailed", why)
    if order is not None and job is not None and job.problem is not None:
        why = f"{job.problem.message}; the inspection waits for it"
        return Condition("Inspected", None, "InspectionFailed", why)
    if newest is not None:
        reason = newest.findings[0].reason if newest.findings else "NothingFound"
        return Condition("Inspected", not newest.findings, reason, inspection.told(newest))
    if order is not None:
        return Condition("Inspected", None, "Inspecting", f"collection {order.collection} is looked at")
    text = "`kubectl reembed inspect` looks at it, and the next migration does"
    return Condition("Inspected", None, "NotInspected", text)


def _before_migration(
    index: SeenIndex, store: StoreReport, reports: Sequence[InspectionReport], holder: Migration | None
) -> Order | None:
    arm, active = index.status.routing.serving, index.status.active_migration
    if arm is None or holder is None or active is None or active.uid != holder.meta.uid:
        return None
    begun = holder.status.attempted_at
    if holder.status.state is not State.PREFLIGHT or begun is None or _held(store, arm.collection) is None:
        return None
    name = inspection.of_attempt(index.meta.uid, holder.meta.uid, holder.status.attempt, arm)
    if inspection.recent(reports, arm, name, begun) is not None:
        return None
    return Order(name, index.meta.name, index.meta.uid, arm.collection, arm.fingerprint, arm.pool)


def _asked_for(index: SeenIndex, store: StoreReport, asked: AskedInspection) -> Order | None:
    routing = index.status.routing
    arms: dict[str, Arm] = {arm.collection: arm for arm in (routing.candidate, routing.serving) if arm is not None}
    wanted = asked.collection or (routing.serving.collection if routing.serving is not None else "")
    fingerprint = _held(store, wanted)
    if fingerprint is None:  # it was dropped since
        return None
    # A pool that answers nobody may have no pods.
    pool = arms[wanted].pool if wanted in arms else None
    return Order(_asked_id(index, asked), index.meta.name, index.meta.uid, wanted, fingerprint, pool)


def _refusal(index: SeenIndex, store: StoreReport, asked: AskedInspection) -> str:
    if asked.problem:
        return asked.problem
    if asked.uid != index.meta.uid:
        return f"it is meant for UID {asked.uid}, and this index's is {index.meta.uid}"
    if store.inspections is None:
        return "the store of this index is of a kind that nothing inspects"
    serving = index.status.routing.serving
    if asked.collection is None and serving is None:
        return "nothing answers yet, so there is nothing to inspect"
    wanted = asked.collection or (serving.collection if serving is not None else "")
    if _held(store, wanted) is not None:
        return ""
    there = ", ".join(one.name for one in store.collections) or "none"
    return f"there is no collection {wanted!r}; there are: {there}"


def _held(store: StoreReport, collection: str) -> str | None:
    """Return the fingerprint of a collection, None if it is not there."""
    return next((one.fingerprint for one in store.collections if one.name == collection), None)


def _asked_id(index: SeenIndex, asked: AskedInspection) -> str:
    return names.digest([index.meta.uid, "asked", asked.nonce])
