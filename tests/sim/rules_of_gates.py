"""What must hold of the gates that a user lists, and of shadow queries, beside the rules of `invariants`."""

from __future__ import annotations

from reembed.cluster import kinds
from tests.sim.api_server import Object
from tests.sim.chamber import FORGER
from tests.sim.evidence import fewest
from tests.sim.history import SEEN_LATE, WITH_TRAFFIC, History, status_of
from tests.sim.world import Event

# So many times more than what could show the opposite, and nobody can doubt any more that a gate fails.
_ENOUGH = 8
# A gateway reads the index every 10 s, and without an answer it gives the candidate up after 30 s.
_READ_LATE, _LEASE_LATE = 12.0, 32.0


def a_step_is_left_when_its_gates_can_hold(history: History, event: Event) -> str:
    """No step is left, whoever commands it, before every gate had enough to judge by and was well for once."""
    left = _left(event)
    if left is None or history.forged:
        return ""  # a forger's epochs are counted anew here, and are one step to the operator
    raw, gates = left, left["spec"].get("gates") or ()
    for gate in gates:
        counted, needed = history.evidence.counted(gate), fewest(gate, len(gates))
        at = f"step {status_of(raw).get('at')} was left"
        if counted < needed:
            return f"{at} after {counted:.0f} of the {needed:.0f} observations that gate {gate['name']} needs at least"
        if history.evidence.never_well(gate):
            return f"{at}, and what gate {gate['name']} is about was beyond its limit for all of it"
    return ""


def a_gate_that_fails_gives_the_queries_back(history: History, event: Event) -> str:
    """What was beyond a gate's limit for all of a step, and can be seen, leads back."""
    if event.what != "tick" or not history.evidence.failing:
        return ""
    holder = history.holder()
    if holder is None or status_of(holder).get("state") != "Canary":
        return ""
    gates = holder["spec"].get("gates") or ()
    for gate in gates:
        stretch = history.evidence.failing.get(gate["name"])
        if stretch is None or stretch.lasted(event.at) < SEEN_LATE or not history.evidence.never_well(gate):
            continue
        counted = history.evidence.counted(gate) - stretch.counted
        if counted > _ENOUGH * fewest(gate, len(gates)):
            return f"gate {gate['name']} failed for {counted:.0f} observations, and the step goes on"
    return ""


def shadow_queries_are_for_a_candidate_that_answers(history: History, event: Event) -> str:
    """Queries begin to be put to both sides only with a candidate's traffic, and in nobody's emergency."""
    change = event.change
    if change is None or change.kind != kinds.INDEX or change.after is None or change.by == FORGER:
        return ""
    before, after = (status_of(one).get("routing") or {} for one in (change.before, change.after))
    if before.get("shadow") or not after.get("shadow"):
        return ""
    holder = history.holder()
    if holder is None and history.since("held") <= history.patience:
        return ""  # told by a write that was on its way while the holder vanished
    status = status_of(holder)
    if status.get("state") not in WITH_TRAFFIC or not after.get("candidate"):
        return f"shadow queries begin while the migration is at {status.get('at')}"
    return f"shadow queries begin in an emergency: {status['emergency']}" if "emergency" in status else ""


def an_emergency_ends_shadow_queries(history: History, event: Event) -> str:
    """Where an emergency is told, the index ends shadow queries as soon as somebody can write."""
    lasted = history.shadowed_in_emergency.lasted(event.at)
    return f"an emergency has held for {lasted:.1f} s, with shadow queries" if lasted > history.patience else ""


def no_candidate_has_shadow_queries_alone(history: History, event: Event) -> str:
    """A candidate that callers may not have yet, or any more, is not asked beside them either."""
    if event.what != "tick":
        return ""
    lasted = {name: stretch.lasted(event.at) for name, stretch in history.shadowed_alone.items()}
    who = max(lasted, key=lambda name: lasted[name])
    # An old reading of the index may lower a weight until the next one.
    return f"{who} asks for shadow queries alone for {lasted[who]:.1f} s" if lasted[who] > _READ_LATE else ""


def gateways_end_shadow_queries_with_the_index(history: History, event: Event) -> str:
    """A gateway puts queries to both sides no longer than it may believe that it should."""
    if event.what not in {"tick", "gateway follows"}:
        return ""
    for name, gateway in history.world.gateways.live.items():
        routing = gateway.routing(event.at)
        if not routing.shadow:
            continue
        ended = history.since("shadow is told")
        reached = history.since("a gateway is apart") > _READ_LATE
        if ended > (_READ_LATE if reached else _LEASE_LATE):
            return f"gateway {name} puts queries to both sides {ended:.1f} s after the index ended that"
    return ""


RULES = (
    a_step_is_left_when_its_gates_can_hold,
    a_gate_that_fails_gives_the_queries_back,
    shadow_queries_are_for_a_candidate_that_answers,
    an_emergency_ends_shadow_queries,
    gateways_end_shadow_queries_with_the_index,
    no_candidate_has_shadow_queries_alone,
)


def _left(event: Event) -> Object | None:
    """Return a migration as it was in a step of its canary that it left for more traffic, or for longer."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.before is None:
        return None
    before, after = status_of(change.before), status_of(change.after)
    further = before.get("state") == "Canary" and after.get("state") in WITH_TRAFFIC
    return change.before if further and before.get("at") != after.get("at") else None
