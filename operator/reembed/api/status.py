"""The status of an EmbeddingMigration: what survives a restart, and what people read of it.

`render_migration_status` writes both; `parse_migration_status` reads back only what `core.migration.Status` holds. An
unknown state of a newer operator is an error, not a fresh start: the migration then holds instead of beginning anew.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from reembed.api.acts import parse_act, render_act
from reembed.api.commands import parse_consumed, render_consumed
from reembed.api.fields import Fields, Raw
from reembed.api.hooks import parse_run, render_run
from reembed.api.panel import parse_proposal
from reembed.api.reports import parse_evaluation_report, render_evaluation_report
from reembed.api.routing import parse_arm, render_arm
from reembed.api.values import format_duration, format_time, parse_duration, parse_time
from reembed.core.migration import Backfill, Baseline, Status, Visit
from reembed.core.model import Emergency, Excused, GateStanding, Lowered, MigrationSpec, TriggerState
from reembed.core.quorum import proposals
from reembed.core.quorum.asked import Asked
from reembed.core.quorum.counting import Standing
from reembed.core.transitions import FINISHED, State

# The CRD's limit: the API server would refuse the whole status for one character more.
_LONGEST_MESSAGE = 32768
_LONGEST_REASON, _MOST_REASONS = 1024, 16


def parse_migration_status(raw: Raw) -> Status:
    """Return the status of a raw EmbeddingMigration; that of a new one if it has none.

    Raises:
        InvalidField: the state is not known to this version.

    """
    raw_status: Raw = raw.get("status") or {}
    status = Fields(raw_status, "status")
    if "state" not in raw_status:
        return Status()
    evaluation, weight = status.maybe("evaluation"), status.into("weight")
    return Status(
        state=status.choice("state", State),
        reason=status.text("reason", ""),
        message=status.text("message", ""),
        waiting=status.text("waitingFor", ""),
        attempt=status.number("attempt", 1),
        step=status.number("step", 0),
        acknowledged_at=status.parsed("stepAcknowledgedAt", parse_time, None),
        serving=parse_arm(status.maybe("serving")),
        candidate=parse_arm(status.maybe("candidate")),
        backfill_image=status.into("images").maybe_text("backfill"),
        baseline=_parse_baseline(status.maybe("baseline")),
        backfill=_parse_backfill(status.maybe("backfill")),
        lowered=_parse_lowered(status.maybe("lowered")),
        evaluation=parse_evaluation_report(evaluation) if evaluation is not None else None,
        triggers={one.text("name"): _parse_trigger(one) for one in status.each("triggers")},
        paused=status.flag("paused", default=False),
        promoted=status.text("promoted", ""),
        commands=tuple(parse_consumed(one) for one in status.each("commands")),
        emergency=_parse_emergency(status.maybe("emergency")),
        no_way_back=status.text("rollbackNotReady", ""),
        tolerated=status.number("toleratedMemory") if "toleratedMemory" in raw_status else None,
        excused=_parse_excused(status.into("excused")),
        hooks=tuple(parse_run(one) for one in status.each("hooks")),
        gates=tuple(_parse_gate(one) for one in status.each("gates")),
        asked=_parse_asked(status.maybe("proposal")),
        executed=tuple(parse_act(one) for one in status.each("executed")),
        weight=weight.number("set", 0),
        weight_acknowledged=weight.number("actual") if "actual" in raw_status.get("weight", {}) else None,
        timeline=tuple(_parse_visit(one) for one in status.each("timeline")),
        observed_generation=status.number("observedGeneration", 0),
    )


def render_migration_status(status: Status, spec: MigrationSpec) -> dict[str, Any]:
    """Return the status for the API, without its conditions; what is None is left out."""
    finished = status.entered_at if status.state in FINISHED else None
    rendered = {
        "state": status.state.value,
        "phase": _phase(status),
        "reason": status.reason,
        "message": status.message[:_LONGEST_MESSAGE],
        "waitingFor": status.waiting[:_LONGEST_MESSAGE] or None,
        "attempt": status.attempt,
        "step": status.step,
        "stepText": _step_text(status, spec),
        "at": status.at,
        "paused": status.paused or None,
        "promoted": status.promoted or None,
        "commands": [render_consumed(one) for one in status.commands] or None,
        "emergency": _render_emergency(status.emergency),
        "rollbackNotReady": status.no_way_back[:_LONGEST_MESSAGE] or None,
        "toleratedMemory": status.tolerated,
        "excused": _render_excused(status.excused),
        "stepAcknowledgedAt": _stamp(status.acknowledged_at),
        "serving": render_arm(status.serving),
        "candidate": render_arm(status.candidate),
        "images": {"backfill": status.backfill_image} if status.backfill_image is not None else None,
        "baseline": _render_baseline(status.baseline),
        "backfill": _render_backfill(status.backfill),
        "progress": _progress(status.backfill),
        "lowered": _render_lowered(status.lowered),
        "evaluation": render_evaluation_report(status.evaluation) if status.evaluation is not None else None,
        "triggers": [_render_trigger(name, one) for name, one in sorted(status.triggers.items())],
        "hooks": [render_run(one) for one in status.hooks] or None,
        "gates": [_render_gate(one) for one in status.gates] or None,
        "proposal": _render_asked(status.asked),
        "executed": [render_act(one) for one in status.executed] or None,
        "weight": _render_weight(status),
        "timeline": [_render_visit(one) for one in status.timeline],
        "startedAt": _stamp(status.started_at),
        "finishedAt": _stamp(finished),
        "observedGeneration": status.observed_generation,
    }
    return {name: value for name, value in rendered.items() if value is not None}


def _phase(status: Status) -> str:
    return f"Canary {status.weight}%" if status.state is State.CANARY else status.state.value


def _step_text(status: Status, spec: MigrationSpec) -> str | None:
    return f"{status.step + 1}/{len(spec.steps)}" if status.state is State.CANARY else None


def _progress(backfill: Backfill | None) -> str | None:
    if backfill is None or backfill.total <= 0:
        return None
    return f"{min((backfill.documents + backfill.rejected) * 100 // backfill.total, 100)}%"


def _render_weight(status: Status) -> dict[str, int]:
    actual = {} if status.weight_acknowledged is None else {"actual": status.weight_acknowledged}
    return {"set": status.weight, **actual}


def _parse_baseline(baseline: Fields | None) -> Baseline | None:
    if baseline is None:
        return None
    return Baseline(
        p95=baseline.parsed("p95", parse_duration),
        requests=baseline.number("requests"),
        at=baseline.parsed("at", parse_time),
    )


def _render_baseline(baseline: Baseline | None) -> dict[str, Any] | None:
    if baseline is None:
        return None
    # At least a millisecond: a threshold that multiplies zero would fire at once.
    p95 = max(timedelta(milliseconds=round(baseline.p95 / timedelta(milliseconds=1))), timedelta(milliseconds=1))
    return {"p95": format_duration(p95), "requests": baseline.requests, "at": _stamp(baseline.at)}


def _parse_backfill(backfill: Fields | None) -> Backfill | None:
    if backfill is None:
        return None
    return Backfill(
        documents=backfill.number("documents"),
        total=backfill.number("total"),
        rejected=backfill.number("rejected"),
        documents_per_second=backfill.real("documentsPerSecond"),
        eta=parse_duration(eta) if (eta := backfill.maybe_text("eta")) is not None else None,
        bottleneck=backfill.maybe_text("bottleneck"),
        job=backfill.text("job", ""),
    )


def _render_backfill(backfill: Backfill | None) -> dict[str, Any] | None:
    if backfill is None:
        return None
    rendered: dict[str, Any] = {
        "documents": backfill.documents,
        "total": backfill.total,
        "rejected": backfill.rejected,
        "documentsPerSecond": backfill.documents_per_second,
        "job": backfill.job,
    }
    if backfill.eta is not None:
        rendered["eta"] = format_duration(backfill.eta)
    if backfill.bottleneck is not None:
        rendered["bottleneck"] = backfill.bottleneck
    return rendered


def _parse_lowered(lowered: Fields | None) -> Lowered | None:
    if lowered is None:
        return None
    return Lowered(lowered.number("pods"), lowered.text("by"), lowered.parsed("at", parse_time))


def _render_lowered(lowered: Lowered | None) -> dict[str, Any] | None:
    return {"pods": lowered.pods, "by": lowered.by, "at": _stamp(lowered.at)} if lowered is not None else None


def _parse_trigger(trigger: Fields) -> TriggerState:
    return TriggerState(
        since=trigger.parsed("since", parse_time),
        held=trigger.parsed("held", parse_duration),
        last_seen=trigger.parsed("lastSeen", parse_time),
        hold=trigger.parsed("for", parse_duration, timedelta(0)),
        value=trigger.text("value", ""),
        threshold=trigger.text("threshold", ""),
        dry_run=trigger.flag("dryRun", default=False),
        shared_at=trigger.parsed("sharedAt", parse_time, None),
    )


def _render_trigger(name: str, state: TriggerState) -> dict[str, Any]:
    held = timedelta(milliseconds=state.held // timedelta(milliseconds=1))
    return {
        "name": name,
        "since": _stamp(state.since),
        "held": format_duration(held),
        "lastSeen": _stamp(state.last_seen),
        "for": format_duration(state.hold),
        "value": state.value,
        "threshold": state.threshold,
        **({"dryRun": True} if state.dry_run else {}),
        **({"sharedAt": _stamp(state.shared_at)} if state.shared_at is not None else {}),
    }


def _parse_gate(gate: Fields) -> GateStanding:
    return GateStanding(gate.text("name"), gate.text("standing"), gate.text("message", ""))


def _render_gate(gate: GateStanding) -> dict[str, str]:
    return {"name": gate.name, "standing": gate.standing, "message": gate.message}


def _parse_asked(asked: Fields | None) -> Asked | None:
    if asked is None:
        return None
    return Asked(
        parse_proposal(asked.into("content")),
        asked.parsed("openedAt", parse_time),
        asked.choice("standing", Standing),
        asked.texts("approved"),
        asked.texts("refused"),
        asked.texts("missing"),
        asked.texts("reasons"),
        asked.parsed("closedAt", parse_time, None),
    )


def _render_asked(asked: Asked | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    proposal, lists = asked.proposal, {"approved": asked.approved, "refused": asked.refused, "missing": asked.missing}
    rendered = {
        "kind": proposal.kind.value,
        "epoch": proposal.epoch,
        "decision": proposal.name,
        "slot": proposal.slot,
        "digest": proposal.digest,
        "openedAt": _stamp(asked.opened_at),
        "expires": _stamp(proposal.expires),
        "closedAt": _stamp(asked.closed_at),
        "standing": asked.standing.value,
        **{name: list(found) or None for name, found in lists.items()},
        "reasons": [reason[:_LONGEST_REASON] for reason in asked.reasons[:_MOST_REASONS]] or None,
        "content": proposals.to_json(proposal),
    }
    return {name: value for name, value in rendered.items() if value is not None}


def _parse_emergency(emergency: Fields | None) -> Emergency | None:
    if emergency is None:
        return None
    return Emergency(
        since=emergency.parsed("since", parse_time),
        reason=emergency.text("reason"),
        message=emergency.text("message", ""),
        clear_since=emergency.parsed("clearSince", parse_time, None),
    )


def _render_emergency(emergency: Emergency | None) -> dict[str, Any] | None:
    if emergency is None:
        return None
    clear = {} if emergency.clear_since is None else {"clearSince": _stamp(emergency.clear_since)}
    return {"since": _stamp(emergency.since), "reason": emergency.reason, "message": emergency.message, **clear}


def _parse_excused(excused: Fields) -> Excused:
    return Excused(
        total=excused.parsed("total", parse_duration, timedelta(0)),
        in_state=excused.parsed("inState", parse_duration, timedelta(0)),
        since=excused.parsed("since", parse_time, None),
    )


def _render_excused(excused: Excused) -> dict[str, Any] | None:
    if excused == Excused():
        return None
    since = {} if excused.since is None else {"since": _stamp(excused.since)}
    return {"total": format_duration(excused.total), "inState": format_duration(excused.in_state), **since}


def _parse_visit(visit: Fields) -> Visit:
    step = visit.number("step", -1)
    return Visit(
        state=visit.choice("state", State),
        entered_at=visit.parsed("enteredAt", parse_time),
        step=step if step >= 0 else None,
    )


def _render_visit(visit: Visit) -> dict[str, Any]:
    step = {} if visit.step is None else {"step": visit.step}
    return {"state": visit.state.value, "enteredAt": _stamp(visit.entered_at), **step}


def _stamp(time: datetime | None) -> str | None:
    return format_time(time) if time is not None else None
