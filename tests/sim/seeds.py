"""From a seed to a script: which world, which migration, and which faults and people at which moments.

Most lives have few faults, so that what goes wrong has few causes, and every fault ends: what comes after the last one
must lead to an end. Times are those of a life without faults, half a minute, with some beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.sim.script import Line, Script

_PLACES = ("Backfilling", "Indexing", "Evaluating", "Canary/0", "Canary/1", "Canary/2", "Retaining", "Promoting")
_SERVED = ("Canary/0", "Canary/1", "Canary/2", "Retaining")
_MOST_FAULTS = 4

# (how likely, what, seconds until it is over: at least, at most; none for what is not undone)
_FAULTS: tuple[tuple[float, str, tuple[float, float]], ...] = (
    (6, "operator dies", (0.5, 20)),
    (2, "operator dies", (30, 60)),
    (1, "operator flaps 4", (10, 40)),
    (2, "api is down", (1, 12)),
    (1, "api is down", (20, 60)),
    (2, "api refuses 30%", (5, 20)),
    (3, "api loses 20%", (5, 20)),
    (2, "watches lag 3", (5, 20)),
    (2, "watch cut {kind}", (3, 30)),
    (3, "gateway silent {one}", (3, 60)),
    (3, "gateway apart {one}", (3, 60)),
    (2, "gateway lost {one}", (0, 0)),
    (1, "gateway cut off {one}", (5, 60)),
    (1, "all lost gateway", (5, 20)),
    (1, "all lost {pool}", (3, 20)),
    (2, "one lost {pool}", (8, 30)),
    (2, "gateway restarts {one}", (0, 0)),
    (1, "worker silent", (3, 30)),
    (1, "worker problem", (3, 30)),
    (1, "worker lost", (0, 0)),
    (1, "pod lost {pool}", (0, 0)),
    (2, "out of memory {pool}", (0, 0)),
    (1, "pods held {pool}", (5, 20)),
    (6, "errors new {share}%", (5, 60)),
    (1, "errors old {share}%", (5, 40)),
    (2, "slow new 2", (5, 60)),
    (2, "memory new 95%", (5, 60)),
    (1, "memory old 95%", (5, 40)),
    (2, "touching 0.3", (5, 30)),
    (1, "delete move", (0, 0)),
    (1, "apply", (0, 0)),
    (1, "force stable", (5, 40)),
    (1, "status emptied", (0, 0)),
    (1, "holder vanishes", (0, 0)),
    (1, "rival {rival}", (0, 0)),
    (1, "command abort", (0, 0)),
    (1, "command promote", (0, 0)),
    (1, "command retry", (0, 0)),
    (1, "paused", (5, 30)),
)
_WORDS: Mapping[str, tuple[str, ...]] = {
    "kind": ("pods", "deployments", "embeddingindexes", "embeddingmigrations", "embedderpools", "jobs"),
    "one": ("0", "1"),
    "pool": ("old", "new"),
    "share": ("20", "60", "100", "100"),
    "rival": ("old", "new"),
}
_SPECS: tuple[Mapping[str, Any], ...] = (
    {},
    {},
    {"evaluation": {"labels": {"table": "labels"}}},
    {"retention": {"window": "3s", "drop": True}},
    {"canary": {"steps": [{"weight": 100, "hold": "2s"}]}},
    {"canary": {"steps": [{"weight": 10, "hold": "15s"}, {"weight": 100, "hold": "5s"}]}},
)


def script(seed: int) -> Script:
    """Return the script that a seed means."""
    chance = Random(f"script {seed}")
    faults = sorted((_fault(chance) for _ in range(chance.randint(0, _MOST_FAULTS))), key=lambda one: one.at)
    if chance.random() < 0.03:  # at the same moment as the migration
        faults.insert(0, Line("rival new", 1.0))
    replicas = {"old": chance.choice((1, 1, 2)), "new": chance.choice((1, 1, 2)), "gateway": chance.choice((1, 2))}
    return Script(tuple(faults), replicas, chance.choice(_SPECS), filled=chance.random() > 0.05)


def _fault(chance: Random) -> Line:
    _, what, (least, most) = chance.choices(_FAULTS, [one[0] for one in _FAULTS])[0]
    what = what.format(**{name: chance.choice(words) for name, words in _WORDS.items()})
    lasts = round(chance.uniform(least, most), 1)
    when: Callable[[], Line] = chance.choice((lambda: _at(chance), lambda: _after(chance, what)))
    found = when()
    return Line(what, found.at, found.reached, lasts)


def _at(chance: Random) -> Line:
    return Line("", round(chance.uniform(1, 50), 1))


def _after(chance: Random, what: str) -> Line:
    """Return a moment after a place was reached; most often one where there is something to lose."""
    if what == "command retry":
        return Line("", round(chance.uniform(0.1, 8), 2), chance.choice(("RolledBack", "Failed")))
    places = _SERVED if chance.random() < 0.6 else _PLACES
    return Line("", round(chance.uniform(0, 4), 2), chance.choice(places))
