"""What must hold where a panel votes: whatever the operator, a forger or two liars say, gateways follow six keys."""

from __future__ import annotations

from reembed.cluster import kinds
from reembed.core.quorum.proposals import Kind
from tests.sim.chamber import FORGER
from tests.sim.history import PASS, History, status_of
from tests.sim.world import Event

# A gateway reads the index each ten seconds, whatever its watch missed.
_OBEYED = 11.0
_WAITS = frozenset({"AwaitingPanel", "NoQuorum", "PanelRefused"})


def no_gateway_raises_what_six_never_signed(history: History, event: Event) -> str:
    """More for a candidate, or another side that serves, needs six distinct keys of members for just that."""
    return f"gateway {event.name}: {history.panel.wrong}" if history.panel.wrong else ""


def the_operator_raises_in_the_epoch_that_six_signed(history: History, event: Event) -> str:
    """What the operator itself writes is what was voted on: epoch, weight and sides."""
    change = event.change
    if not history.panel.votes or change is None or change.kind != kinds.INDEX or change.by in {FORGER, "user"}:
        return ""
    if change.after is None or change.before is None:
        return ""
    before, after = (status_of(one).get("routing") or {} for one in (change.before, change.after))
    had = before.get("weight", 0) if before.get("candidate") == after.get("candidate") else 0
    weight, uid = after.get("weight", 0), change.after["metadata"]["uid"]
    if weight > had:
        found = history.panel.certified(uid, Kind.TRAFFIC)
        signed = any((one.epoch, one.after.weight) == (after["epoch"], weight) for one in found)
        # After a forger's word it says again what a gateway follows; the others refuse that until the row tells them.
        if not signed and weight > history.panel.most(after["candidate"]["collection"]):
            return f"the weight rose from {had} % to {weight} % in epoch {after['epoch']}, which six never signed"
    return ""


def lowerings_are_obeyed(history: History, event: Event) -> str:
    """Less needs nobody's vote: a gateway that reaches the API server follows it with its next reading."""
    for name, stretch in history.panel.above.items():
        if name in history.world.gateways.live and stretch.lasted(event.at) > _OBEYED:
            return f"gateway {name} gives the candidate more than the index for {stretch.lasted(event.at):.1f} s"
    return ""


def who_waits_for_votes_says_so(history: History, event: Event) -> str:
    """Where nothing but votes is missing, the migration says that, and stays where it is."""
    lasted = history.panel.asked.lasted(event.at)
    if lasted <= PASS or not all(one.startswith("agents") for one in history.sim.happened):
        return ""
    status = status_of(history.world.server.get(kinds.MIGRATION, "move"))
    if status.get("reason") in _WAITS or status.get("state") not in {"Preflight", "Canary", "Retaining", "Promoting"}:
        return ""
    return f"votes are missing for {lasted:.1f} s, and it is at {status.get('at')} with {status.get('reason')}"


def ends_otherwise(history: History) -> str:
    """Return how a migration ended to which nothing happened but agents that went and came back, if not well."""
    raw = history.world.server.get(kinds.MIGRATION, "move")
    only = all(one.startswith(("agents", "forged")) for one in history.sim.happened)
    if not history.panel.votes or not only or raw is None or not _patient(raw["spec"]):
        return ""
    status = status_of(raw)
    if status.get("reason") == "WeightLowered" and history.forged:
        return ""  # whoever has the operator's account may always lower
    told = f"{status.get('state')} for {status.get('reason')}: {status.get('message')}"
    return "" if status.get("state") == "Succeeded" else f"nothing went wrong but votes, and it ended as {told}"


def _patient(spec: dict[str, object]) -> bool:
    """Return whether a migration takes nothing back for want of agents."""
    return "consensus" in str(spec.get("rollback"))


RULES = (
    no_gateway_raises_what_six_never_signed,
    the_operator_raises_in_the_epoch_that_six_signed,
    lowerings_are_obeyed,
    who_waits_for_votes_says_so,
)
