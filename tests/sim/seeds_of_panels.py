"""Which seeds have a panel, who lies in it, and what becomes of its agents and of the operator's account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.sim.chamber import AGENTS, LIARS
from tests.sim.manifests import moves
from tests.sim.script import Line, Script

_SHARE = 1 / 3
_MOST = 3  # of a panel's own lines
_FORGED = ("bare", "bare alone", "replayed", "replayed alone", "relabelled", "foreign", "short", "short alone",
           "liars", "strangers", "restored")  # fmt: skip
# (how likely, what, seconds until it is over: at least, at most)
_FAULTS: tuple[tuple[float, str, tuple[float, float]], ...] = (
    (2, "agents gone {one}", (5, 90)),
    (3, "agents gone {three}", (5, 90)),
    (1, "agents gone {five}", (5, 60)),
    (1, "agents gone 01234567", (5, 40)),
    (2, "agents silent {three}", (5, 90)),
    (5, "forged {forged}", (0.5, 12)),
)
# Clocks that are further apart than half a minute make every certificate one of another time.
_JUMPS = {"clock jumps -90": "clock jumps -15", "clock jumps 90": "clock jumps 15"}


def panelled(seed: int, script: Script, moment: Callable[[Random], Line]) -> Script:
    """Return the script with a panel, or without one as it was; `moment` draws when something happens."""
    chance = Random(f"panel {seed}")
    if chance.random() >= _SHARE:
        return script
    names = list(AGENTS.names)
    minds = {name: chance.choice(LIARS) for name in chance.sample(names, chance.choice((0, 0, 1, 2)))}
    kept = [replace(one, what=_JUMPS.get(one.what, one.what)) for one in script.lines]
    own = [_line(chance, moment(chance)) for _ in range(chance.randint(0, _MOST))]
    if chance.random() < 0.25:  # nothing but the panel's own, and what the life has to have
        kept = [one for one in kept if one.what.startswith(("rival", "approver", "callers"))]
    lines = sorted([*kept, *own], key=lambda one: one.at)
    return replace(script, lines=tuple(lines), panel=minds, spec=_spec(chance, script.spec))


def _line(chance: Random, when: Line) -> Line:
    _, what, (least, most) = chance.choices(_FAULTS, [one[0] for one in _FAULTS])[0]
    words = {"one": _digits(chance, 1), "three": _digits(chance, 3), "five": _digits(chance, 5),
             "forged": chance.choice(_FORGED)}  # fmt: skip
    return Line(what.format(**words), when.at, when.reached, round(chance.uniform(least, most), 1))


def _digits(chance: Random, count: int) -> str:
    return "".join(sorted(chance.sample("01234567", count)))


def _spec(chance: Random, spec: Any) -> Any:
    """Return a spec with a deadline for votes, and mostly with patience for agents that are gone."""
    found = {**spec, "consensus": {"deadline": chance.choice(("30s", "45s", "2m"))}}
    if chance.random() < 0.3:
        return found
    triggers = (spec.get("rollback") or moves("new")["rollback"])["triggers"]
    patience = {"agents": {"for": "600s"}, "consensus": {"for": "600s"}}
    return {**found, "rollback": {"triggers": {**triggers, **patience}}}
