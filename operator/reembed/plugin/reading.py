"""Raw objects of the API server -> `plugin.overview`, tolerant of operators older and newer than this plugin.

`reembed.api` reads the same status for the operator and rightly refuses a state that it does not know. Somebody who
looks at a migration must see it all the same, so that words stay texts here and no field but name and spec is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from reembed.api.commands import parse_commands
from reembed.api.fields import Fields, Raw
from reembed.api.values import parse_duration, parse_time
from reembed.core.migration import Backfill
from reembed.core.model import Emergency
from reembed.plugin.overview import (
    Answer,
    Evaluation,
    Gate,
    Hook,
    Index,
    Metric,
    Overview,
    Pods,
    Proposal,
    Slice,
    Step,
    Surroundings,
    Trigger,
    Visit,
    Wanted,
)


def read_migration(raw: Raw, surroundings: Surroundings | None = None) -> Overview:
    """Return an EmbeddingMigration as the views show it.

    Raises:
        InvalidField: a field is of another type than any version of the CRD allows.

    """
    meta, spec, status = Fields(raw["metadata"], "metadata"), Fields(raw["spec"], "spec"), _status(raw)
    weight = status.into("weight")
    answers = tuple(_answer(one) for one in status.each("commands"))
    known = {(one.verb, one.nonce) for one in answers}
    return Overview(
        namespace=meta.text("namespace"),
        name=meta.text("name"),
        uid=meta.text("uid"),
        created_at=meta.parsed("creationTimestamp", parse_time),
        deleting=meta.maybe_text("deletionTimestamp") is not None,
        wanted=_wanted(spec),
        state=_text(status, "state"),
        reason=_text(status, "reason"),
        message=_text(status, "message"),
        waiting_for=_text(status, "waitingFor"),
        at=_text(status, "at") or _at(status),
        attempt=status.number("attempt", 1),
        step=status.number("step", 0),
        paused=status.flag("paused", default=False),
        serving=_pool_of(status, "serving"),
        candidate=_pool_of(status, "candidate"),
        acknowledged_at=status.parsed("stepAcknowledgedAt", parse_time, None),
        weight=_maybe_number(weight, "set"),
        weight_actual=_maybe_number(weight, "actual"),
        backfill=_backfill(status.maybe("backfill")),
        evaluation=_evaluation(status.maybe("evaluation")),
        triggers=_triggers(spec, status) if (raw.get("status") or {}).get("triggers") is not None else None,
        gates=tuple(_gate(one) for one in status.each("gates")),
        hooks=tuple(_hook(one) for one in status.each("hooks")),
        proposal=_proposal(status.maybe("proposal")),
        answers=answers,
        unanswered=tuple(one.verb.value for one in parse_commands(raw) if (one.verb.value, one.nonce) not in known),
        emergency=_emergency(status.maybe("emergency")),
        no_way_back=_text(status, "rollbackNotReady"),
        timeline=tuple(_visit(one) for one in status.each("timeline")),
        surroundings=surroundings or Surroundings(),
    )


def read_index(raw: Raw) -> Index:
    """Return an EmbeddingIndex as the views show it."""
    status = _status(raw)
    gateway = status.maybe("gateway")
    pods = Pods(gateway.number("readyReplicas", 0), gateway.number("replicas", 0)) if gateway is not None else None
    return Index(_maybe_number(status, "documents"), pods)


def read_pool(raw: Raw) -> Pods | None:
    """Return the pods of an EmbedderPool, None if no operator looked at it yet."""
    status = _status(raw)
    desired = _maybe_number(status, "desiredReplicas")
    return Pods(status.number("readyReplicas", 0), desired) if desired is not None else None


def _status(raw: Raw) -> Fields:
    return Fields(raw.get("status") or {}, "status")


def _text(fields: Fields, name: str) -> str:
    return clean(fields.text(name, ""))


def clean(text: str) -> str:
    """Return a text for people on one line; what a terminal would obey is made visible instead."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def _maybe_number(fields: Fields, name: str) -> int | None:
    missing = -1
    found = fields.number(name, missing)
    return found if found != missing else None


def _maybe_duration(fields: Fields, name: str) -> timedelta | None:
    return fields.parsed(name, parse_duration) if fields.maybe_text(name) is not None else None


def _pool_of(status: Fields, side: str) -> str | None:
    arm = status.maybe(side)
    return _text(arm, "pool") if arm is not None else None


def _at(status: Fields) -> str:
    """Return where a command is meant for, as `core.migration.Status.at` does; a new migration is in Preflight."""
    state = _text(status, "state") or "Preflight"
    step = f"/{status.number('step', 0)}" if state == "Canary" else ""
    return f"{status.number('attempt', 1)}/{state}{step}"


def _wanted(spec: Fields) -> Wanted:
    source = spec.maybe("from")
    return Wanted(
        index=spec.into("indexRef").text("name"),
        pool=spec.into("target").into("poolRef").text("name"),
        from_pool=source.into("poolRef").text("name") if source is not None else None,
        steps=tuple(_step(one) for one in spec.into("canary").each("steps")) or _DEFAULT_STEPS,
        paused=spec.flag("paused", default=False),
        depends_on=tuple(one.text("name") for one in spec.each("dependsOn")),
        cut=_cut(spec.into("target").maybe("chunking")),
    )


def _cut(chunking: Fields | None) -> str:
    if chunking is None:
        return ""
    overlap = chunking.number("overlapTokens", 0)
    repeated = f", {overlap} of them repeated" if overlap else ""
    return f"in parts of {chunking.number('maxTokens', 0)} tokens{repeated}"


# What the operator does where a migration names no steps.
_DEFAULT_STEPS = tuple(Step(weight, timedelta(minutes=10)) for weight in (10, 50, 100))


def _step(step: Fields) -> Step:
    return Step(step.number("weight"), step.parsed("hold", parse_duration), step.text("approval", "None") == "Required")


def _backfill(backfill: Fields | None) -> Backfill | None:
    if backfill is None:
        return None
    return Backfill(
        documents=backfill.number("documents", 0),
        total=backfill.number("total", 0),
        rejected=backfill.number("rejected", 0),
        documents_per_second=backfill.real("documentsPerSecond", 0.0),
        eta=_maybe_duration(backfill, "eta"),
        bottleneck=_text(backfill, "bottleneck") or None,
        job=_text(backfill, "job"),
    )


def _evaluation(evaluation: Fields | None) -> Evaluation | None:
    if evaluation is None:
        return None
    return Evaluation(
        verdict=_text(evaluation, "verdict"),
        message=_text(evaluation, "message"),
        queries=_maybe_number(evaluation, "queries"),
        k=_maybe_number(evaluation, "k"),
        mrr_serving=evaluation.maybe_real("mrrServing"),
        mrr_candidate=evaluation.maybe_real("mrrCandidate"),
        metrics=tuple(_metric(one) for one in evaluation.each("metrics")),
        slices=tuple(_slice(one) for one in evaluation.each("slices")),
    )


def _metric(metric: Fields) -> Metric:
    values = {name: metric.maybe_real(name) for name in ("serving", "candidate", "low", "high")}
    return Metric(_text(metric, "name"), **values)


def _slice(one: Fields) -> Slice:
    return Slice(
        name=_text(one, "name"),
        verdict=_text(one, "verdict"),
        message=_text(one, "message"),
        queries=_maybe_number(one, "queries"),
        serving=one.maybe_real("serving"),
        candidate=one.maybe_real("candidate"),
    )


def _triggers(spec: Fields, status: Fields) -> tuple[Trigger, ...]:
    below = _below(spec)
    return tuple(_trigger(one, below) for one in status.each("triggers"))


def _below(spec: Fields) -> Mapping[str, bool]:
    """Return which of the user's own triggers are exceeded below their threshold, by their name in status."""
    own = spec.into("rollback").into("triggers").each("prometheus")
    return {f"Prometheus_{one.text('name')}": one.text("operator", "Above") == "Below" for one in own}


def _trigger(trigger: Fields, below: Mapping[str, bool]) -> Trigger:
    name = _text(trigger, "name")
    return Trigger(
        name=name,
        held=trigger.parsed("held", parse_duration),
        hold=_maybe_duration(trigger, "for"),
        value=_text(trigger, "value"),
        threshold=_text(trigger, "threshold"),
        below=below.get(name, False),
        dry_run=trigger.flag("dryRun", default=False),
    )


def _gate(gate: Fields) -> Gate:
    return Gate(_text(gate, "name"), _text(gate, "standing"), _text(gate, "message"))


def _hook(hook: Fields) -> Hook:
    return Hook(
        name=_text(hook, "name"),
        at=_text(hook, "at"),
        state=_text(hook, "state"),
        job=_text(hook, "job"),
        started_at=hook.parsed("startedAt", parse_time, None),
        message=_text(hook, "message"),
    )


def _proposal(proposal: Fields | None) -> Proposal | None:
    if proposal is None:
        return None
    return Proposal(
        decision=_text(proposal, "decision"),
        kind=_text(proposal, "kind"),
        standing=_text(proposal, "standing"),
        epoch=_maybe_number(proposal, "epoch"),
        expires=proposal.parsed("expires", parse_time, None),
        approved=proposal.texts("approved"),
        refused=proposal.texts("refused"),
        missing=proposal.texts("missing"),
        reasons=tuple(clean(one) for one in proposal.texts("reasons")),
    )


def _answer(answer: Fields) -> Answer:
    return Answer(
        verb=_text(answer, "verb"),
        nonce=_text(answer, "nonce"),
        at=_text(answer, "at"),
        time=answer.parsed("time", parse_time),
        accepted=answer.text("outcome") == "Accepted",
        message=_text(answer, "message"),
    )


def _emergency(emergency: Fields | None) -> Emergency | None:
    if emergency is None:
        return None
    return Emergency(
        since=emergency.parsed("since", parse_time),
        reason=_text(emergency, "reason"),
        message=_text(emergency, "message"),
        clear_since=emergency.parsed("clearSince", parse_time, None),
    )


def _visit(visit: Fields) -> Visit:
    return Visit(_text(visit, "state"), visit.parsed("enteredAt", parse_time), _maybe_number(visit, "step"))
