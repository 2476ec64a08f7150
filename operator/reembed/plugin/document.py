"""`-o json`: an overview as a JSON document. Its keys are stable and documented in docs/cli.md; new ones may be added.

What is not known is null. Durations are seconds, times are RFC 3339, shares are percent from 0 to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from reembed.api.values import format_time
from reembed.plugin.advice import advice
from reembed.plugin.overview import Hook, Overview, Pods, Proposal, Trigger, Visit

Document = dict[str, Any]


def migrations(overviews: Sequence[Overview], now: datetime) -> Document:
    """Return what `list -o json` prints."""
    ordered = sorted(overviews, key=lambda one: (one.namespace, one.name))
    return {"migrations": [migration(one, now) for one in ordered]}


def migration(overview: Overview, now: datetime) -> Document:
    """Return what `get` and `status` print, and one entry of `list`."""
    return {
        "namespace": overview.namespace,
        "name": overview.name,
        "uid": overview.uid,
        "index": _index(overview),
        "serving": _side(overview, overview.serving or overview.wanted.from_pool),
        "candidate": _side(overview, overview.candidate or overview.wanted.pool),
        "state": overview.state or None,
        "reason": overview.reason or None,
        "message": overview.message or None,
        "waitingFor": overview.waiting_for or None,
        "at": overview.at,
        "ended": overview.ended,
        "deleting": overview.deleting,
        "paused": overview.paused or overview.wanted.paused,
        "attempt": overview.attempt,
        "step": overview.step + 1 if overview.in_canary else None,
        "steps": [
            {"weight": one.weight, "holdSeconds": _seconds(one.hold), "approval": one.approval}
            for one in overview.wanted.steps
        ],
        "weight": {"set": overview.weight, "actual": overview.weight_actual},
        "documents": _documents(overview),
        "evaluation": _evaluation(overview),
        "gates": [{"name": one.name, "standing": one.standing, "message": one.message} for one in overview.gates],
        "hooks": [_hook(one) for one in overview.hooks],
        "triggers": [_trigger(one) for one in overview.triggers] if overview.triggers is not None else None,
        "emergency": _emergency(overview),
        "proposal": _proposal(overview.proposal),
        "rollbackNotReady": overview.no_way_back or None,
        "commands": _commands(overview),
        "unansweredCommands": list(overview.unanswered),
        "timeline": _timeline(overview.timeline, now, ended=overview.ended),
        "createdAt": format_time(overview.created_at),
        "help": [{"command": one.command, "effect": one.effect, "needed": one.needed} for one in advice(overview)],
    }


def _index(overview: Overview) -> Document:
    index = overview.surroundings.index
    return {
        "name": overview.wanted.index,
        "documents": index.documents if index is not None else None,
        "gatewayPods": _pods(index.gateway if index is not None else None),
    }


def _side(overview: Overview, pool: str | None) -> Document | None:
    return {"pool": pool, "pods": _pods(overview.surroundings.pools.get(pool))} if pool is not None else None


def _pods(pods: Pods | None) -> Document | None:
    return {"ready": pods.ready, "desired": pods.desired} if pods is not None else None


def _documents(overview: Overview) -> Document | None:
    backfill = overview.backfill
    if backfill is None:
        return None
    return {
        "embedded": backfill.documents,
        "total": backfill.total,
        "rejected": backfill.rejected,
        "percent": overview.embedded,
        "perSecond": backfill.documents_per_second,
        "etaSeconds": _seconds(backfill.eta),
        "bottleneck": backfill.bottleneck,
    }


def _evaluation(overview: Overview) -> Document | None:
    found = overview.evaluation
    if found is None:
        return None
    return {
        "verdict": found.verdict,
        "message": found.message,
        "queries": found.queries,
        "k": found.k,
        "mrrServing": found.mrr_serving,
        "mrrCandidate": found.mrr_candidate,
        "metrics": [asdict(one) for one in found.metrics],
        "slices": [asdict(one) for one in found.slices],
    }


def _hook(hook: Hook) -> Document:
    return {
        "name": hook.name,
        "at": hook.at,
        "state": hook.state,
        "job": hook.job or None,
        "startedAt": format_time(hook.started_at) if hook.started_at is not None else None,
        "message": hook.message,
    }


def _trigger(trigger: Trigger) -> Document:
    return {
        "name": trigger.name,
        "value": trigger.value or None,
        "threshold": trigger.threshold or None,
        "heldSeconds": _seconds(trigger.held),
        "forSeconds": _seconds(trigger.hold),
        "dryRun": trigger.dry_run,
    }


def _emergency(overview: Overview) -> Document | None:
    emergency = overview.emergency
    if emergency is None:
        return None
    return {"since": format_time(emergency.since), "reason": emergency.reason, "message": emergency.message}


def _proposal(proposal: Proposal | None) -> Document | None:
    if proposal is None:
        return None
    return {
        "decision": proposal.decision,
        "kind": proposal.kind or None,
        "standing": proposal.standing or None,
        "epoch": proposal.epoch,
        "expires": format_time(proposal.expires) if proposal.expires is not None else None,
        "approved": list(proposal.approved),
        "refused": list(proposal.refused),
        "missing": list(proposal.missing),
        "reasons": list(proposal.reasons),
    }


def _commands(overview: Overview) -> list[Document]:
    return [
        {
            "verb": one.verb,
            "nonce": one.nonce,
            "at": one.at,
            "time": format_time(one.time),
            "accepted": one.accepted,
            "message": one.message,
        }
        for one in overview.answers
    ]


def _timeline(visits: Sequence[Visit], now: datetime, *, ended: bool) -> list[Document]:
    """Return each visit with how long it lasted, the present one up to now; an end lasts not at all."""
    leavings: list[datetime | None] = [*(visit.entered_at for visit in visits[1:]), None if ended else now]
    return [
        {
            "state": visit.state,
            "step": visit.step + 1 if visit.step is not None else None,
            "enteredAt": format_time(visit.entered_at),
            "seconds": _seconds(left - visit.entered_at) if left is not None else None,
        }
        for visit, left in zip(visits, leavings, strict=False)
    ]


def _seconds(duration: timedelta | None) -> float | None:
    return max(round(duration.total_seconds(), 3), 0.0) if duration is not None else None
