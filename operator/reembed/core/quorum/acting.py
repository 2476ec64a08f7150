"""What the operator does at the word of agents: tuning, recovery, correction.

`track` is called on every pass of a migration. What a quorum agreed on is compared with what is there now, written down
once with its epoch, and carried out from what is written: by the Job's parallelism, the pool's next pass, the index's
next pass, or the store's plan. So an operator that dies in between goes on with it, and nothing is done twice. None of
it moves queries, nor goes beyond what the user's specs allow; what cannot be done is written down with its reason.

Memory and Rollback, which ask for no more than the triggers do by themselves, are obeyed for as long as their
certificate holds (`queen.agreed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from reembed.core.migration import Migration, Seen, SeenPool
from reembed.core.model import Meta, PointerPlan
from reembed.core.quorum.acted import Act
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.core.quorum.queen import subject
from reembed.core.quorum.raising import split
from reembed.core.transitions import State

# The CRD's limit.
_MOST = 16
# What could not begin until then is of another time: agents look again and propose anew.
LATEST = timedelta(minutes=10)

# What a Correct is for. A pool or its model are their user's to write.
POD, GATEWAY, POINTER = "PodDrift", "GatewayDrift", "PointerDrift"


def track(migration: Migration, seen: Seen, now: datetime) -> tuple[Act, ...]:
    """Return what was done at the word of agents, with what is to be done from now on."""
    acts = list(migration.status.executed)
    found = seen.panel.agreed if seen.panel is not None else ()
    due = sorted((one.proposal for one in found if one.proposal.kind in _DUE), key=lambda one: one.epoch)
    for proposal in due:
        if proposal.epoch > max((one.epoch for one in acts if one.kind is proposal.kind), default=0):
            acts.append(_act(proposal, migration, seen, now))
    return _shortened(acts)


def most(migration: Migration) -> int:
    """Return how many pods may fill the collection at once: what the user allows, or less at the panel's word.

    It holds for the attempt, and until the user asks for something else.
    """
    act = _last(migration, Kind.TUNING)
    allowed = migration.spec.parallelism
    if act is None or (act.attempt, act.terms) != (migration.status.attempt, migration.terms):
        return allowed
    text = act.says.get("parallelism", "")
    return max(min(int(text), allowed), 1) if _number(text) else allowed


def pointer(migration: Migration, seen: Seen) -> PointerPlan | None:
    """Return the plan's pointer with a generation above the one that the store has by somebody's hand.

    None if it need not be: it was not agreed on, it was done, or the store has another generation than was voted on.
    """
    planned = seen.index.status.plan.pointer if seen.index is not None else None
    found = seen.store.pointer if seen.store is not None and seen.store.problem is None else None
    act = _last(migration, Kind.CORRECT)
    if planned is None or found is None or act is None or act.says.get("drift") != POINTER:
        return None
    voted = (act.says.get("collection"), act.says.get("generation"))
    if voted != (planned.collection, str(found.generation)) or found.generation < planned.generation:
        return None
    return PointerPlan(planned.collection, planned.fingerprint, found.generation + 1)


def pod(pool: Meta, migrations: Iterable[Migration], now: datetime) -> Act | None:
    """Return what names a pod of `pool` that is to be replaced, the newest of it."""
    mine = {"pool": pool.name, "poolUid": pool.uid}.items()
    return _newest((one for each in migrations for one in _of_pods(each) if mine <= one.says.items()), now)


def gateway(migration: Migration | None, now: datetime) -> Act | None:
    """Return what names a gateway pod that is to begin anew."""
    act = _last(migration, Kind.CORRECT) if migration is not None else None
    return _newest([act] if act is not None and act.says.get("drift") == GATEWAY else [], now)


def news(before: Iterable[Act], after: Iterable[Act]) -> tuple[Act, ...]:
    """Return what was met since."""
    known = {(one.kind, one.epoch) for one in before}
    return tuple(one for one in after if (one.kind, one.epoch) not in known)


def told(act: Act) -> str:
    """Return what is done, in a few words."""
    says = act.says
    if act.kind is Kind.TUNING:
        return f"{says.get('parallelism')} pods may fill the collection at once"
    if act.kind is Kind.RECOVER:
        return f"pod {says.get('pod')} of pool {says.get('pool')!r} is replaced"
    named = {
        POD: f"pool {says.get('pool')!r} is applied anew and its pod {says.get('pod')} replaced",
        GATEWAY: f"the gateways are applied anew and pod {says.get('pod')} begins anew",
        POINTER: f"the store's pointer is moved back to {says.get('collection')}",
    }
    return named.get(says.get("drift", ""), f"{says.get('drift')!r} is corrected")


def _act(proposal: Proposal, migration: Migration, seen: Seen, now: datetime) -> Act:
    problem = _moved_on(proposal, migration, seen) or _DUE[proposal.kind](dict(proposal.change), migration, seen)
    status, change = migration.status, proposal.change
    return Act(
        proposal.kind, proposal.epoch, proposal.name, now, status.attempt, proposal.terms, change, problem=problem
    )


def _shortened(acts: list[Act]) -> tuple[Act, ...]:
    """Forget the oldest; never what holds of a kind, nor its newest epoch."""
    holds = {(one.kind, not one.problem): one for one in acts}.values()
    spare = [one for one in acts if one not in holds]
    out = spare[: max(len(acts) - _MOST, 0)]
    return tuple(one for one in acts if one not in out)


def _moved_on(proposal: Proposal, migration: Migration, seen: Seen) -> str:
    """Say what is not any more as it was when agents voted, empty if all of it is."""
    index = seen.index
    if index is None or proposal.subject != subject(migration, index) or proposal.terms != migration.terms:
        return "index, migration or what its user asks for changed since"
    uids = {one.meta.name: one.meta.uid for one in (seen.source, seen.target) if one is not None}
    if proposal.before != split(index.status.routing, uids) or proposal.after != proposal.before:
        return "the index's routing changed since, or it would change it"
    holder = index.status.active_migration
    if holder is None or holder.uid != migration.meta.uid:
        return "the migration does not hold the index"
    return "the migration is paused or deleted" if migration.paused or migration.meta.deleting else ""


def _tuning(says: Mapping[str, str], migration: Migration, seen: Seen) -> str:
    del seen
    if migration.status.state is not State.BACKFILLING:
        return f"no documents are embedded in {migration.status.state.value}"
    text, allowed = says.get("parallelism", ""), min(migration.spec.parallelism, migration.spec.shards)
    if _number(text) and 1 <= int(text) <= allowed:
        return ""
    return f"{text!r} pods at once, and the migration's spec allows 1 to {allowed}"


def _recover(says: Mapping[str, str], migration: Migration, seen: Seen) -> str:
    del migration
    found = _pool(says, seen)
    if found is None or not says.get("pod"):
        return f"pool {says.get('pool')!r} is none of the migration's, or was made anew, or no pod is named"
    return "the pool's scaling is paused" if found.spec.scaling.paused else ""


def _correct(says: Mapping[str, str], migration: Migration, seen: Seen) -> str:
    drift, index = says.get("drift", ""), seen.index
    if drift == POD:
        return _recover(says, migration, seen)
    if drift == GATEWAY:
        others = [one.pod for one in seen.gateways if one.pod != says.get("pod")]
        if says.get("pod") not in seen.gateway_pods:
            return f"gateway pod {says.get('pod')!r} is not there any more"
        return "" if others else "no other gateway answers, and callers would get no answer"
    if drift != POINTER:
        return f"{drift!r} is corrected by whoever writes the spec alone"
    planned = index.status.plan.pointer if index is not None else None
    if planned is not None and says.get("collection") == planned.collection and "generation" in says:
        return ""
    return f"the index's plan does not name {says.get('collection')!r}"


_DUE: Mapping[Kind, Callable[[Mapping[str, str], Migration, Seen], str]] = {
    Kind.TUNING: _tuning,
    Kind.RECOVER: _recover,
    Kind.CORRECT: _correct,
}


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _pool(says: Mapping[str, str], seen: Seen) -> SeenPool | None:
    named = (says.get("pool"), says.get("poolUid"))
    pools = (one for one in (seen.target, seen.source) if one is not None)
    return next((one for one in pools if (one.meta.name, one.meta.uid) == named), None)


def _last(migration: Migration, kind: Kind) -> Act | None:
    """Return what was agreed on last of a kind and could be done."""
    return next((one for one in reversed(migration.status.executed) if one.kind is kind and not one.problem), None)


def _of_pods(migration: Migration) -> Iterable[Act]:
    found = (_last(migration, Kind.RECOVER), _last(migration, Kind.CORRECT))
    return [one for one in found if one is not None and "pool" in one.says]


def _newest(acts: Iterable[Act], now: datetime) -> Act | None:
    return max((one for one in acts if now - one.at < LATEST), key=lambda one: one.at, default=None)
