"""Evidence of a healthy raise, and the proposal it speaks for; tests change the one thing that they are about."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from reembed.core.migration import Migration
from reembed.core.model import Arm, EvaluationSpec, PointerPlan, Routing, Step
from reembed.core.quorum import raising
from reembed.core.quorum.evidence import (
    Collection,
    Evidence,
    Gateways,
    Objects,
    PodAnswers,
    Pods,
    PoolObject,
    Retrieval,
    Sample,
    Stored,
)
from reembed.core.quorum.proposals import Kind, Proposal, Subject
from reembed.core.transitions import State
from tests import builders
from tests.builders import NEW, NOON, OLD

TERMS = "t" * 64
STEPS = (Step(10, timedelta(minutes=5)), Step(50, timedelta(minutes=5)), Step(100, timedelta(minutes=5)))
UIDS = {"old": "uid-old", "new": "uid-new"}
# So many queries, of which a tenth changed a little for the better.
DIFFERENCES = (0.0,) * 450 + (0.1,) * 50
LABELS = EvaluationSpec("public", "labels", "query", "id")


def migration(state: State = State.CANARY, **changes: Any) -> Migration:
    spec = {"evaluation": LABELS, "retention": timedelta(hours=1), "steps": STEPS} | changes.pop("spec", {})
    return builders.migration(state, spec=spec, **changes)


def routing(weight: int = 10, candidate: Arm | None = NEW, serving: Arm | None = OLD) -> Routing:
    return Routing(7, serving, candidate, weight)


def objects(weight: int = 10, **changes: Any) -> Objects:
    found = builders.index(weight)
    status = replace(found.status, routing=changes.pop("routing", routing(weight)))
    pools = {
        name: PoolObject(pool.meta, pool.spec, pool.report.fingerprint, (f"{name}-1",))
        for name in ("old", "new")
        for pool in (builders.pool(name),)
    }
    return replace(Objects(NOON, replace(found, status=status), migration(), TERMS, pools), **changes)


def pods(name: str, **changes: Any) -> Pods:
    answers = PodAnswers(texts=5, cosine=0.9999, nearest=1.0, seconds=0.01, memory=0.5)
    return Pods(NOON, {f"{name}-1": replace(answers, **changes)})


def collection(arm: Arm, **changes: Any) -> Collection:
    return replace(
        Collection(arm.collection, arm.fingerprint, 384, "Indexed", 8, 8, 1000, 0, 1000, valid=True), **changes
    )


def stored(pointer: Arm | None = OLD, **changes: Any) -> Stored:
    named = PointerPlan(pointer.collection, pointer.fingerprint, 1) if pointer is not None else None
    return Stored(NOON, (collection(OLD), collection(NEW, **changes)), named)


def retrieval(differences: tuple[float, ...] = DIFFERENCES, **changes: Any) -> Retrieval:
    return replace(
        Retrieval(NOON, (OLD, NEW), 2 * len(differences), len(differences), "h" * 64, differences), **changes
    )


def evidence(weight: int = 10, **changes: Any) -> Evidence:
    """Return what an agent knows of a step that was held for long."""
    found = objects(weight)
    now = found.index.status.routing
    reports = tuple(
        builders.GatewayReport(pod, now.epoch, now.weight, now.serving, now.candidate) for pod in ("a", "b")
    )
    healthy = Evidence(
        objects=found,
        gateways=Gateways(NOON, ("a", "b"), reports, NOON - timedelta(hours=3)),
        pods={"old": pods("old"), "new": pods("new")},
        stored=stored(NEW if weight == 100 else OLD),
        retrieval=retrieval(),
        sample=Sample(NOON, NEW.collection, (0.9999,) * 60),
    )
    return replace(healthy, **changes)


def proposal(before: int = 10, after: int = 50, /, **changes: Any) -> Proposal:
    """Return the proposal to give the candidate more; all of it and for good, if it has all."""
    start = raising.split(routing(before), UIDS)
    more = raising.split(replace(routing(after), epoch=8), UIDS)
    done = raising.split(Routing(8, NEW), UIDS)
    kind = Kind.COMPLETE if before == 100 else Kind.TRAFFIC
    made = Proposal(
        kind=kind,
        subject=Subject("rag", "docs", "uid-docs", "move", "uid-move"),
        epoch=8,
        before=start,
        after=done if kind is Kind.COMPLETE else more,
        terms=TERMS,
        expires=at(300),
    )
    return replace(made, **changes)


def standing(kind: Kind, change: dict[str, str], weight: int = 10) -> Proposal:
    """Return a proposal that moves no queries."""
    here = raising.split(routing(weight), UIDS)
    named = tuple(sorted(change.items()))
    return replace(proposal(), kind=kind, epoch=1, before=here, after=here, change=named)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)
