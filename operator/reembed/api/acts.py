"""What an operator did at the word of a panel's agents, in the status of a migration."""

from __future__ import annotations

from typing import Any

from reembed.api.fields import Fields
from reembed.api.values import format_time, parse_time
from reembed.core.quorum.acted import Act
from reembed.core.quorum.proposals import Kind

# The CRD's limit.
_LONGEST = 1024


def parse_act(fields: Fields) -> Act:
    """Return one entry of `status.executed`.

    Raises:
        InvalidField: a field does not hold what the CRD asks for.

    """
    return Act(
        fields.choice("kind", Kind),
        fields.number("epoch"),
        fields.text("decision"),
        fields.parsed("at", parse_time),
        fields.number("attempt"),
        fields.text("terms"),
        tuple(sorted(fields.mapping("change").items())),
        fields.text("problem", ""),
    )


def render_act(act: Act) -> dict[str, Any]:
    problem = {"problem": act.problem[:_LONGEST]} if act.problem else {}
    return {
        "kind": act.kind.value,
        "epoch": act.epoch,
        "decision": act.decision,
        "at": format_time(act.at),
        "attempt": act.attempt,
        "terms": act.terms,
        "change": dict(act.change),
        **problem,
    }
