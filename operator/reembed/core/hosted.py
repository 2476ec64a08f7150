"""A hosted model as the operator sees it: what its pods spent, what they may spend, whether it is still the same. Pure.

Pods spend nothing on background texts but what they were granted: at each look the tokens that are left of the budget
are divided among them, on top of what each has spent; a request that is larger than a share gets all that is left. What
a pod was granted and may not have spent is nobody else's until it was asked again, so that the budget is not exceeded
while pods live, also where one does not answer; what a pod spent after its last look is lost from the count when it
dies, which is at most its share.

A model that changes behind its name is found by the probes that each pod embeds at its start and every hour. From the
first failed check on nothing is stored; two in a row say that it changed, since one may be the endpoint's bad moment,
and so many in a row that pass that it is the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from reembed.core import reasons
from reembed.core.model import Problem
from reembed.core.model_class import LEAST_COSINE
from reembed.core.notes import Note
from reembed.core.sketch import cosine

_FAILED_CHECKS = 2


@dataclass(frozen=True, slots=True)
class PodSaid:
    """One pod: tokens of background texts since it started, as the endpoint counts them, and its last check."""

    spent: int
    check: int  # when it was, in seconds since 1970; 0 before the first
    probes: str = ""  # a sketch of the probes' vectors at that check
    error: str = ""  # why the endpoint has given nothing for a while
    short: int = 0  # tokens of the smallest request that it turned away lately for want of budget
    granted: int = 0  # what it was told that it may have spent in all
    lowered: int | None = None  # what it was told since, which is less: true of what it says from its next answer on

    @property
    def open(self) -> int:
        """Return how much it may spend on top of what it said that it spent."""
        return max(self.granted - self.spent, 0)


@dataclass(frozen=True, slots=True)
class HostedStatus:
    """What is remembered of an endpoint."""

    spent: int = 0
    probes: str = ""  # a sketch of the first vectors
    cosine: float | None = None  # at the last check
    failed_checks: int = 0  # in a row; two, and so many must pass in a row before it is forgotten
    passed: int = 0  # when the last check was that left no doubt, in seconds since 1970
    change: tuple[int, int] | None = None  # between which checks, one that passed and one that failed, it changed last
    pods: Mapping[str, PodSaid] = field(default_factory=dict)  # what each spent and may spend, and its check
    passes: int = 0  # in a row since it changed; an operator that was started again counts from the beginning

    @property
    def changed(self) -> bool:
        return self.failed_checks >= _FAILED_CHECKS

    @property
    def doubtful(self) -> bool:
        """Return whether nothing may be stored until the next check."""
        return self.failed_checks > 0


def seen(before: HostedStatus, said: Mapping[str, PodSaid], alive: frozenset[str]) -> HostedStatus:
    """Return what is known after a look; `alive` are the pods that there are, `said` those that answered."""
    after = before
    for name in sorted(said):
        after = _checked(after, before.pods.get(name), said[name])
    spent = sum(_newly_spent(before.pods.get(name), one) for name, one in said.items())
    kept = {name: one for name, one in before.pods.items() if name in alive}
    told = {name: _told(before.pods.get(name), one) for name, one in said.items()}
    return replace(after, spent=before.spent + spent, pods=kept | told)


def grants(status: HostedStatus, budget: int | None, said: Mapping[str, PodSaid]) -> dict[str, int | None]:
    """Return how many tokens of background texts each pod may have spent in all; None for no bound.

    What was granted and not given back is not granted again: a pod may be spending it at this moment.
    """
    if budget is None:
        return dict.fromkeys(said)
    left = max(budget - status.spent, 0)
    share = left // len(said) if said else 0
    needy = next((name for name in sorted(said) if share < said[name].short <= left), None)
    shares = {name: share if needy is None else left if name == needy else 0 for name in said}
    still_open = {name: one.open for name, one in status.pods.items()}
    free = max(left - sum(still_open.values()), 0)
    made: dict[str, int | None] = {}
    for name in sorted(said):
        more = min(max(shares[name] - still_open[name], 0), free)
        free -= more
        made[name] = said[name].spent + min(shares[name], still_open[name] + more)
    return made


def granted(status: HostedStatus, made: Mapping[str, int | None], took: Iterable[str]) -> HostedStatus:
    """Return what is known after pods were told their grants; one whose answer is lost may have the larger one.

    So may one that took a smaller one: between what it last said and that moment it may have spent the larger.
    """
    surely, pods = frozenset(took), dict(status.pods)
    for name, tokens in made.items():
        told, known = tokens or 0, pods[name].granted
        lowered = told if name in surely and told < known else None
        pods[name] = replace(pods[name], granted=max(told, known), lowered=lowered)
    return replace(status, pods=pods)


def notes(before: HostedStatus, after: HostedStatus) -> tuple[Note, ...]:
    """Return the events of a look: a change outlives the condition that tells it, in what was stored meanwhile."""
    if before.changed == after.changed:
        return ()
    if after.changed:
        text = f"two checks of the probes failed, the last with a cosine of {after.cosine or 0:.4f}"
        return (Note(reasons.MODEL_CHANGED, f"{text}{_between(after.change)}", warning=True),)
    text = f"the probes have the vectors of before again, and documents are embedded{_between(after.change)}"
    return (Note("ModelSameAgain", text, warning=True),)


def problem(status: HostedStatus, budget: int | None, said: Mapping[str, PodSaid]) -> Problem | None:
    """Return what people should know of an endpoint though its pods are ready."""
    if status.changed:
        return Problem(
            reasons.MODEL_CHANGED,
            f"the endpoint has another model under the same name: in {status.failed_checks} checks the probes' "
            f"smallest cosine was below {LEAST_COSINE} (last {status.cosine or 0:.4f}); documents are not embedded "
            f"with it{_between(status.change)}, and answers to queries may be worse: ask its host, or migrate to a "
            "pool with the next external.generation",
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


def _told(before: PodSaid | None, now: PodSaid) -> PodSaid:
    """Return what is remembered of a pod; a container that was started again was granted nothing yet."""
    if before is None or now.spent < before.spent:
        known = 0
    else:
        known = before.granted if before.lowered is None else before.lowered
    return replace(now, probes="", error="", short=0, granted=known, lowered=None)


def _between(change: tuple[int, int] | None) -> str:
    """Say which documents may have vectors of another model."""
    if change is None:
        return ""
    begin, end = (f"{datetime.fromtimestamp(one, UTC):%Y-%m-%dT%H:%M:%SZ}" for one in change)
    return f" (those that were embedded between {begin} and {end} may have been)"


def _checked(status: HostedStatus, before: PodSaid | None, now: PodSaid) -> HostedStatus:
    if not now.check or (before is not None and before.check == now.check):
        return status
    if not status.probes:
        return replace(status, probes=now.probes, cosine=1.0, passed=now.check)
    found = cosine(status.probes, now.probes)
    if found is None or found < LEAST_COSINE:  # vectors of another shape are of another model
        failed = status.failed_checks + 1
        change = (status.passed, now.check) if failed == _FAILED_CHECKS else status.change
        return replace(status, cosine=found, failed_checks=failed, change=change, passes=0)
    if status.changed and status.passes + 1 < _FAILED_CHECKS:
        return replace(status, cosine=found, passes=status.passes + 1)
    return replace(status, cosine=found, failed_checks=0, passed=max(status.passed, now.check), passes=0)
