"""What must hold of the gates that a user lists, beside the rules of `invariants`."""

from __future__ import annotations

from tests.sim.history import History, status_of
from tests.sim.world import Event

# What was seen of fewer queries decides nothing, at the loosest threshold that a script asks for.
_FEWEST = 30


def a_listed_gate_is_waited_for(history: History, event: Event) -> str:
    """A step is not left before there were enough queries to judge its gates by, unless somebody commands it."""
    holder, answered = history.holder(), history.answered_in_step
    if answered is None or holder is None or not holder["spec"].get("gates") or status_of(holder).get("promoted"):
        return ""
    few = answered < _FEWEST
    return f"the weight rose after {answered:.0f} queries, with gates that nobody can judge by so few" if few else ""


RULES = (a_listed_gate_is_waited_for,)
