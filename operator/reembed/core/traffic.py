"""When traffic may move to the candidate, and whether it has anywhere to go back to.

Naming the candidate as what serves is a raise like any other. A raise needs capacity and probes, and every gateway's
word before the next one; a lowering needs neither, only a serving side that is not itself dead. `states` asks before a
migration moves, `desired` before each write of a weight: between the two an operator may have been gone for hours.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from reembed.core import keeping
from reembed.core.migration import Migration, Seen
from reembed.core.model import Arm, ArmMeasure, GatewayReport, Routing
from reembed.core.reasons import EMERGENCY, OF_PANEL, ROLLBACK_NOT_READY
from reembed.core.triggers import Finding, crds_too_old, first_running, shared_failure

SIDES = ("candidate", "serving")
# A gateway gives up the candidate's weight after this long without an answer from the API server (`gateway.lease`).
LEASE = timedelta(seconds=30)

# An arm gets traffic only after this many of the gateways' own queries, none of which failed.
_MIN_PROBES = 3
# A serving side most of whose probes fail is no place to send the queries of a candidate that limps.
_DEAD_SHARE = 0.5


def obstacle(migration: Migration, seen: Seen, sides: tuple[str, ...] = SIDES) -> Finding | None:
    """Find what keeps traffic from moving further: a trigger that runs, pods that are missing, probes that fail."""
    # Whether agents are there shows in their votes, without which nothing moves.
    limits = {name: one for name, one in migration.status.triggers.items() if name not in OF_PANEL}
    running = first_running(limits)
    if running is not None:
        return Finding(running, f"{running} is above its limit; traffic moves on when it is not")
    if migration.status.emergency is not None:
        return Finding(EMERGENCY, f"{migration.status.emergency.message}; traffic moves on when that is over")
    found = (
        crds_too_old(seen) or shared_failure(migration, seen) or unverified(migration, seen) or _capacity(seen, sides)
    )
    return found or _probes(migration, seen, sides) or _no_way_back(migration, seen, sides)


def unverified(migration: Migration, seen: Seen) -> Finding | None:
    """Find that the candidate's collection may lack live writes: capture was broken, or nobody has looked yet."""
    arm = migration.status.candidate
    for one in seen.store.collections if seen.store is not None else ():
        if arm is not None and one.name == arm.collection and one.verified is False:
            text = f"the store worker compares collection {one.name} with its source; what it lacks is embedded then"
            return Finding("Comparing", text)
    return None


def _capacity(seen: Seen, sides: tuple[str, ...]) -> Finding | None:
    pools = {"candidate": seen.target, "serving": seen.source}
    for side in sides:
        pool = pools[side]
        if pool is None or pool.report.ready_replicas < max(pool.report.desired_replicas, 1):
            ready = f"{pool.report.ready_replicas} of {pool.report.desired_replicas}" if pool is not None else "no"
            return Finding("CapacityNotReady", f"{ready} pods of the {side} pool are ready; waiting for all")
    return None


def _probes(migration: Migration, seen: Seen, sides: tuple[str, ...]) -> Finding | None:
    arms = {"candidate": migration.status.candidate, "serving": migration.status.serving}
    for side in sides:
        probe = _probe(arms[side], seen)
        if probe is None or probe.requests < _MIN_PROBES:
            return Finding("Probing", f"gateways send their own queries to the {side} model first")
        if probe.errors:
            failed = f"{probe.errors} of {probe.requests} probes of the {side} model failed in the last minute"
            return Finding("ProbesFail", f"{failed}; traffic moves when none does")
    return None


def _no_way_back(migration: Migration, seen: Seen, sides: tuple[str, ...]) -> Finding | None:
    """Find that the application does not keep the column that queries would go back to; a side to be left need not."""
    if "serving" not in sides or seen.index is None or seen.store is None:
        return None
    found = keeping.fault(migration, seen.index, seen.store)
    return Finding(ROLLBACK_NOT_READY, found) if found else None


def nowhere_to_go(migration: Migration, seen: Seen) -> Finding | None:
    """Find why the serving side could not take the candidate's queries back."""
    arm = migration.status.serving
    if arm is None:
        return Finding("NowhereToGo", "nothing served before")
    if seen.source is None or seen.source.report.ready_replicas == 0:
        return Finding("NowhereToGo", f"no pod of the serving pool {arm.pool!r} is ready")
    probe = _probe(arm, seen)
    if probe is not None and probe.requests >= _MIN_PROBES and probe.errors > _DEAD_SHARE * probe.requests:
        failed = f"{probe.errors} of {probe.requests} probes of the serving pool {arm.pool!r} failed"
        return Finding("NowhereToGo", f"{failed} in the last minute")
    return None


def behind(seen: Seen) -> Finding | None:
    """Find the gateways that do not serve what the index says now; None once each said that it does."""
    if seen.index is None:
        return Finding("IndexMissing", "the index is gone, and what its gateways serve cannot be told")
    routing = seen.index.status.routing
    gone = missing(seen)
    if gone is not None:
        return gone
    kept = uncertified(seen) or withheld(seen)
    if kept is not None:
        return kept
    quiet = silent(seen)
    if quiet:
        text = f"gateway pods {_listed(quiet)} do not answer; see their logs, and delete a pod whose node is gone"
        return Finding("GatewaysSilent", text)
    late = [one.pod for one in seen.gateways if not _follows(one, routing)]
    if late:
        text = f"gateway pods {_listed(late)} do not serve epoch {routing.epoch} at {routing.weight} % yet"
        return Finding("WaitingForGateways", text)
    return None


def uncertified(seen: Seen) -> Finding | None:
    """Find gateways that were told the routing and do not find it certified."""
    if seen.index is None:
        return None
    epoch = seen.index.status.routing.epoch
    found = {one.pod: one.refused for one in seen.gateways if one.refused is not None and one.refused.epoch == epoch}
    if not found:
        return None
    why = next(iter(found.values()))
    text = f"gateway pods {_listed(list(found))} do not follow epoch {epoch} ({why.reason}): {why.message}"
    return Finding("CertificateRefused", text)


def _follows(report: GatewayReport, routing: Routing) -> bool:
    """Return whether a gateway serves what an index says; the pod of another index may have come to its address."""
    sides = report.serving == routing.serving and (not report.weight or report.candidate == routing.candidate)
    return sides and (report.epoch, report.weight) == (routing.epoch, routing.weight)


def missing(seen: Seen) -> Finding | None:
    """Find that nobody answers queries: whatever weight they were told, nothing is learnt of it."""
    if seen.gateway_pods:
        return None
    name = seen.index.meta.name if seen.index is not None else ""
    return Finding("GatewayMissing", f"no gateway pod of index {name!r} runs; see its Deployment's events")


def acknowledged(seen: Seen) -> bool:
    """Return whether every gateway, and there is one at least, serves what the index says now."""
    return behind(seen) is None


def withheld(seen: Seen) -> Finding | None:
    """Find gateways that know the routing and give the candidate less than it says."""
    if seen.index is None:
        return None
    routing = seen.index.status.routing
    pods = [one.pod for one in seen.gateways if one.epoch == routing.epoch and one.weight < routing.weight]
    if not pods:
        return None
    text = (
        f"gateway pods {_listed(pods)} keep the candidate below its {routing.weight} %; if annotation"
        " reembed.dev/force-stable is on the index, remove it to go on or delete the migration to go back;"
        " else they cannot read the index, or saw no operator lead for two minutes"
    )
    return Finding("GatewaysWithhold", text)


def silent(seen: Seen) -> tuple[str, ...]:
    """Return the gateway pods that run and do not answer."""
    return tuple(sorted(set(seen.gateway_pods) - {one.pod for one in seen.gateways}))


def unused(arm: Arm, seen: Seen) -> bool:
    """Return whether every gateway pod says that it knows nothing of `arm`; a silent one says nothing."""
    return not silent(seen) and not any(arm in {one.serving, one.candidate} for one in seen.gateways)


def _probe(arm: Arm | None, seen: Seen) -> ArmMeasure | None:
    return seen.probes.get(arm.collection) if arm is not None else None


def _listed(pods: Iterable[str]) -> str:
    return ", ".join(sorted(pods))
