"""A hosted model as the operator sees it: what its pods spent, what they may spend, whether it is still the same. Pure.

Pods spend nothing on background texts but what they were granted: at each look the tokens that are left of the budget
are divided among them, on top of what each has spent; a request that is larger than a share gets all that is left. So
the budget is never exceeded while the pods live; what a pod spent after its last look is lost from the count when it
dies, which is at most its share.

A model that changes behind its name is found by the probes that each pod embeds at its start and every hour. Two
failed checks in a row say that it changed: one may be the endpoint's bad moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reembed.core import reasons
from reembed.core.model import Problem
from reembed.core.model_class import LEAST_COSINE
from reembed.core.sketch import cosine

_FAILED_CHECKS = 2


@dataclass(frozen=True, slots=True)
class PodSaid:
    """One pod: tokens of background texts since it started, as the endpoint counts them, and its last check."""

    spent: int
    check: int  # its number, from 1; 0 before the first
    probes: str = ""  # a sketch of the probes' vectors at that check
    error: str = ""  # why the endpoint has given nothing for a while
    short: int = 0  # tokens of the smallest request that it turned away lately for want of budget


@dataclass(frozen=True, slots=True)
class HostedStatus:
    """What is remembered of an endpoint."""

    spent: int = 0
    probes: str = ""  # a sketch of the first vectors
    cosine: float | None = None  # at the last check
    failed_checks: int = 0  # in a row
    pods: Mapping[str, PodSaid] = field(default_factory=dict)  # what each spent, and its check

    @property
    def changed(self) -> bool:
        return self.failed_checks >= _FAILED_CHECKS


def seen(before: HostedStatus, said: Mapping[str, PodSaid], alive: frozenset[str]) -> HostedStatus:
    """Return what is known after a look; `alive` are the pods that there are, `said` those that answered."""
    after = before
    for name in sorted(said):
        after = _checked(after, before.pods.get(name), said[name])
    spent = sum(_newly_spent(before.pods.get(name), one) for name, one in said.items())
    kept = {name: one for name, one in before.pods.items() if name in alive}
    told = {name: replace(one, probes="", error="", short=0) for name, one in said.items()}
    return replace(after, spent=before.spent + spent, pods=kept | told)


def grants(status: HostedStatus, budget: int | None, said: Mapping[str, PodSaid]) -> dict[str, int | None]:
    """Return how many tokens of background texts each pod may have spent in all; None for no bound."""
    if budget is None:
        return dict.fromkeys(said)
    left = max(budget - status.spent, 0)
    share = left // len(said) if said else 0
    needy = next((name for name in sorted(said) if share < said[name].short <= left), None)
    if needy is None:
        return {name: one.spent + share for name, one in said.items()}
    return {name: one.spent + (left if name == needy else 0) for name, one in said.items()}


def problem(status: HostedStatus, budget: int | None, said: Mapping[str, PodSaid]) -> Problem | None:
    """Return what people should know of an endpoint though its pods are ready."""
    if status.changed:
        return Problem(
            reasons.MODEL_CHANGED,
            "the endpoint has another model under the same name: in "
            f"{status.failed_checks} checks in a row the probes' smallest cosine was below {LEAST_COSINE} (last "
            f"{status.cosine or 0:.4f}); documents are not embedded with it, and answers to queries may be worse: ask "
            "its host, or migrate to a pool with the next external.generation",
        )
    if said and all(one.error for one in said.values()):
        name, one = min(said.items())
        return Problem(reasons.ENDPOINT_FAILING, f"no pod gets an answer; pod {name}: {one.error}; it is tried again")
    if budget is None:
        return None
    needs = min((one.short for one in said.values() if one.short), default=0)
    if status.spent >= budget or status.spent + needs > budget:
        return Problem(
            reasons.BUDGET_SPENT,
            f"{status.spent} tokens of documents were embedded, the budget is {budget}: backfill and follower wait, "
            "queries go on; raise external.budget.tokens to go on",
        )
    return None


def _newly_spent(before: PodSaid | None, now: PodSaid) -> int:
    """Return what a pod spent since the last look; a container that was started again counts from zero."""
    known = before.spent if before is not None else 0
    return now.spent - known if now.spent >= known else now.spent


def _checked(status: HostedStatus, before: PodSaid | None, now: PodSaid) -> HostedStatus:
    if not now.check or (before is not None and before.check == now.check):
        return status
    if not status.probes:
        return replace(status, probes=now.probes, cosine=1.0)
    found = cosine(status.probes, now.probes)
    if found is None:  # vectors of another shape are of another model
        return replace(status, cosine=None, failed_checks=status.failed_checks + 1)
    failed = status.failed_checks + 1 if found < LEAST_COSINE else 0
    return replace(status, cosine=found, failed_checks=failed)
