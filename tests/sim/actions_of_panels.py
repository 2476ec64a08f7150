"""What may become of a panel's agents, and what somebody writes who has got hold of the operator's account.

A forger writes whatever it likes into the index's status, with any certificate that can be put together without the
agents' keys, and with more than that: `short` has five agents' true signatures for what is written, one of them twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from reembed.cluster import kinds
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import Certificate, Certified
from reembed.core.quorum.proposals import Kind, Proposal, Side, Split, Subject
from tests import panels
from tests.sim.api_server import Object
from tests.sim.chamber import AGENTS, FORGER, HONEST
from tests.sim.history import status_of
from tests.sim.store import INDEX

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

_STRANGERS = panels.agents(generation=9)
_FORGED_EVERY = 2.0


def _agents(field: str) -> Callable[[Simulation, str], Callable[[], None] | None]:
    """Have agents be gone, or beat and say nothing: `DIGITS`."""

    def action(sim: Simulation, argument: str) -> Callable[[], None] | None:
        chamber = sim.world.chamber
        chamber.change(argument, **{field: True})
        return lambda: chamber.change(argument, **{field: False})

    return action


def _forged(sim: Simulation, argument: str) -> Callable[[], None]:
    """Somebody gives the candidate all queries, again and again."""
    forging = [True]

    def forge() -> None:
        if forging[0]:
            _forge(sim, argument)
            sim.later(_FORGED_EVERY, forge)

    forge()
    return lambda: forging.__setitem__(0, False)


def _forge(sim: Simulation, how: str) -> None:
    index, routing = sim.world.index(), sim.world.routing()
    candidate = routing.get("candidate") or status_of(sim.history.holder()).get("candidate")
    certified = sim.world.chamber.certified
    if index is not None and routing and how == "restored" and certified:
        _write(sim, certified[-1])  # as if from a backup: its epoch and its true certificate
        return
    if index is None or not routing or candidate is None or candidate == routing.get("serving"):
        return
    alone = how.endswith("alone")
    sides = {"serving": candidate, "candidate": None} if alone else {"candidate": candidate}
    wanted = {**routing, **sides, "epoch": routing["epoch"] + 1, "weight": 0 if alone else 100}
    certificate = _CERTIFICATES[how.split(maxsplit=1)[0]](sim, _raise(sim, index, wanted))
    _write(sim, {**wanted, "certificate": certificate, **({"shadow": None} if alone else {})})


def _write(sim: Simulation, routing: Object) -> None:
    """Leave this routing in the place of what the index says."""
    change = _instead(sim.world.routing(), routing)
    sim.world.server.patch(kinds.INDEX, INDEX, {"status": {"routing": change}}, FORGER)


def _raise(sim: Simulation, index: Object, wanted: Object) -> Proposal:
    """Return the proposal that would let gateways follow what is written."""
    meta, routing = index["metadata"], sim.world.routing()
    return Proposal(
        kind=Kind.TRAFFIC if wanted["weight"] else Kind.COMPLETE,
        subject=Subject(meta["namespace"], meta["name"], meta["uid"], "move", "uid-of-move"),
        epoch=wanted["epoch"],
        before=_split(routing),
        after=_split(wanted),
        terms="0" * 64,
        expires=(sim.world.clock() + timedelta(minutes=2)).replace(microsecond=0),
    )


def _nothing(sim: Simulation, proposal: Proposal) -> Object | None:
    return None


def _replayed(sim: Simulation, proposal: Proposal) -> Object | None:
    """Return what the panel certified last."""
    known = sim.world.chamber.certified
    return known[-1]["certificate"] if known else None


def _relabelled(sim: Simulation, proposal: Proposal) -> Object | None:
    """Put the votes for what was certified last under what is written."""
    known = sim.world.chamber.certified
    return {**_rendered(proposal, ()), "votes": known[-1]["certificate"]["votes"]} if known else None


def _foreign(sim: Simulation, proposal: Proposal) -> Object:
    """Return a true certificate of another index's migration."""
    other = replace(proposal, subject=Subject("rag", "others", "uid-others", "move", "uid-of-others"))
    return _rendered(other, [sim.world.chamber.sign(name, other) for name in AGENTS.names])


def _short(sim: Simulation, proposal: Proposal) -> Object:
    """Return five votes, one of them twice."""
    votes = [sim.world.chamber.sign(name, proposal) for name in AGENTS.names[:5]]
    return _rendered(proposal, [*votes, votes[0]])


def _liars(sim: Simulation, proposal: Proposal) -> Object:
    """Return the votes of all agents that lie, and of the others what they signed for something else."""
    chamber = sim.world.chamber
    lying = [one.name for one in chamber.agents.values() if one.mind != HONEST]
    votes = [chamber.sign(name, proposal) for name in lying]
    known = [*votes, *(one.last for one in chamber.agents.values() if one.name not in lying and one.last is not None)]
    return _rendered(proposal, known)


def _strangers(sim: Simulation, proposal: Proposal) -> Object:
    """Return the votes of eight others, who say that they are the panel."""
    found = Certificate(proposal, _STRANGERS.votes(proposal, 8), (Certified(_STRANGERS.membership),))
    return certificates.to_json(found)


def _rendered(proposal: Proposal, votes: Any) -> Object:
    return certificates.to_json(Certificate(proposal, tuple(votes), (Certified(AGENTS.membership),)))


_CERTIFICATES: Mapping[str, Callable[[Simulation, Proposal], Object | None]] = {
    "bare": _nothing,
    "replayed": _replayed,
    "restored": _replayed,
    "relabelled": _relabelled,
    "foreign": _foreign,
    "short": _short,
    "liars": _liars,
    "strangers": _strangers,
}


def _split(routing: Object) -> Split:
    sides = (routing.get("serving"), routing.get("candidate"))
    serving, candidate = (
        Side(arm["pool"], f"uid-{arm['pool']}", arm["collection"], arm["fingerprint"]) if arm else None for arm in sides
    )
    return Split(routing["epoch"], routing.get("weight", 0), serving, candidate)


def _instead(old: Any, new: Any) -> Any:
    """Return the merge patch that leaves `new` in the place of `old`."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {
        **dict.fromkeys(old.keys() - new.keys()),
        **{name: _instead(old.get(name), one) for name, one in new.items()},
    }


ACTIONS: Mapping[str, Any] = {
    "agents gone": _agents("gone"),
    "agents silent": _agents("silent"),
    "forged": _forged,
}
