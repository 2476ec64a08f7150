"""From a seed to a script: which world, which migration, and which faults and people at which moments.

Most lives have few faults, so that what goes wrong has few causes, and every fault ends: what comes after the last one
must lead to an end. Times are those of a life without faults, half a minute, with some beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from tests.sim.script import Line, Script
from tests.sim.seeds_of_panels import panelled

_PLACES = ("Backfilling", "Indexing", "Evaluating", "Canary/0", "Canary/1", "Canary/2", "Retaining", "Promoting")
_SERVED = ("Canary/0", "Canary/1", "Canary/2", "Retaining")
_MOST_FAULTS = 4
# In one of so many lives people command much, rightly and wrongly; they have chances of their own.
_WITH_PEOPLE = 5
# In one of so many lives two processes stand for the Lease.
_WITH_TWO = 6
_WITH_HOOKS, _WITH_ORDER, _WITH_GATES, _WITH_NAMES = 1, 2, 3, 4
_COMMANDS = ("abort foreign", "abort stale", "pause foreign", "pause garbled", "promote", "promote stale",
             "promote replayed", "resume", "resume stale", "retry", "retry foreign", "retry replayed")  # fmt: skip

# (how likely, what, seconds until it is over: at least, at most; none for what is not undone)
Faults = tuple[tuple[float, str, tuple[float, float]], ...]
_FAULTS: Faults = (
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
_HOOKS: tuple[Mapping[str, Any], ...] = (
    {"name": "ask", "when": "Pre", "http": {"url": "http://hooks/ask"}},
    {"name": "ask-again", "when": "Pre", "failurePolicy": "Ignore", "job": {"cronJobRef": {"name": "check"}}},
    {"name": "each", "when": "EachStep", "timeout": "20s", "job": {"cronJobRef": {"name": "check"}}},
    {"name": "each-told", "when": "EachStep", "failurePolicy": "Ignore", "http": {"url": "http://hooks/each"}},
    {"name": "told", "when": "Post", "http": {"url": "http://hooks/told"}},
    {"name": "back", "when": "Rollback", "timeout": "10s", "http": {"url": "http://hooks/back"}},
)
_OF_HOOKS: Faults = (
    (2, "hooks fail {moment}", (5, 40)),
    (2, "hooks take 3", (5, 60)),
    (1, "hooks take 100", (5, 60)),
    (3, "hook jobs vanish", (0, 0)),
    (1, "cron job missing", (5, 60)),
    (2, "operator dies", (0.5, 20)),
    (2, "command abort", (0, 0)),
    (1, "command retry", (0, 0)),
    (1, "paused", (5, 30)),
    (1, "paused by command", (5, 30)),
    (2, "errors new 100%", (10, 30)),
)
_APPROVED: tuple[Mapping[str, Any], ...] = (
    {"weight": 10, "hold": "3s", "approval": "Required"},
    {"weight": 50, "hold": "8s", "approval": "Required"},
    {"weight": 100, "hold": "3s", "approval": "Required"},
    {"weight": 100, "hold": "2s"},
)
_GATES: tuple[Mapping[str, Any], ...] = (
    {"name": "errors", "type": "ErrorRate", "threshold": "30%"},
    {"name": "p95", "type": "Latency", "threshold": "100ms"},
    {"name": "alike", "type": "ShadowOverlap", "threshold": "60%"},
    {"name": "found", "type": "Retrieval", "threshold": "10%"},
)
# Looser than the gates, so that it is a gate that fails.
_LOOSE: Mapping[str, Any] = {
    "memory": {"for": "6s"},
    "errorRate": {"for": "6s", "threshold": "70%"},
    "latency": {"for": "6s", "threshold": "60x"},
    "pointer": {"for": "6s"},
}
_QUERIES: tuple[Mapping[str, Any], ...] = (
    {"name": "Cost", "query": "cost", "threshold": 100, "for": "6s"},
    {"name": "Stock", "query": "stock", "operator": "Below", "threshold": -1, "for": "4s"},
    {"name": "Tried", "query": "tried", "threshold": 10, "for": "2s", "dryRun": True},
    {"name": "Needed", "query": "needed", "threshold": 10, "for": "8s", "noData": "RollBack"},
)
_OF_GATES: Faults = (
    (1, "callers 0", (3, 60)),
    (1, "memory new 88%", (3, 60)),
    (2, "operator dies", (0.5, 20)),
    (1, "rival new", (0, 0)),
    (1, "gateway restarts {one}", (0, 0)),
    (1, "command promote", (0, 0)),
)
# What a gate or a query of the user's is about: only lives that have it, have these.
_OF_EACH: Mapping[str, Faults] = {
    "ErrorRate": ((4, "errors new 60%", (3, 60)),),
    "Latency": ((4, "slow new 0.3", (3, 60)),),
    "ShadowOverlap": ((4, "overlap new 30%", (3, 60)),),
    "Retrieval": ((3, "retrieval loses 20%", (3, 60)), (2, "labels rest", (3, 60))),
    "cost": ((4, "query cost 500", (3, 60)), (1, "query cost nan", (3, 40)), (2, "prometheus silent", (3, 40))),
    "stock": ((4, "query stock -5", (3, 60)), (1, "prometheus silent", (3, 40))),
    "tried": ((2, "query tried 50", (3, 60)),),
    "needed": ((4, "prometheus silent", (3, 40)), (1, "query needed 50", (3, 60))),
}
_OF_NAMES: Faults = (
    (6, "recreate migration move", (0, 0)),
    (2, "recreate pool {pool}", (0, 0)),
    (1, "recreate index docs", (0, 0)),
    (2, "operator dies", (0.5, 20)),
    (1, "operator dies", (20, 40)),
    (2, "watch cut {kind}", (3, 30)),
    (1, "gateway silent {one}", (5, 60)),
    (1, "api loses 20%", (5, 20)),
    (2, "errors new 100%", (10, 30)),
    (1, "command retry", (0, 0)),
    (1, "paused by command", (5, 30)),
    (1, "rival old", (0, 0)),
)
_OF_TWO: Faults = (
    (4, "operator frozen", (2, 12)),
    (3, "operator frozen", (12, 60)),
    (6, "operator frozen busy", (17, 60)),
    (1, "operator frozen other", (5, 60)),
    (4, "operator cut off", (5, 60)),
    (1, "operator cut off other", (5, 60)),
    (2, "operator dies", (1, 30)),
    (2, "operator dies same", (0.5, 5)),
    (1, "operator dies other", (1, 30)),
    (2, "operator leaves", (0.5, 20)),
    (1, "clock jumps {jump}", (0, 0)),
    (1, "lease deleted", (0, 0)),
    (1, "lease taken", (0, 0)),
)
_WORDS: Mapping[str, tuple[str, ...]] = {
    "kind": ("pods", "deployments", "embeddingindexes", "embeddingmigrations", "embedderpools", "jobs"),
    "one": ("0", "1"),
    "pool": ("old", "new"),
    "share": ("20", "60", "100", "100"),
    "rival": ("old", "new"),
    "moment": ("Pre", "EachStep", "EachStep", "Post", "Rollback"),
    "jump": ("-90", "-5", "5", "90"),
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
    faults = sorted((_fault(chance, _FAULTS) for _ in range(chance.randint(0, _MOST_FAULTS))), key=lambda one: one.at)
    if seed % _WITH_PEOPLE == _WITH_PEOPLE - 2:
        faults = sorted([*faults, *_people(Random(f"people {seed}"))], key=lambda one: one.at)
    two = seed % _WITH_TWO == _WITH_TWO - 1
    if two:
        faults = sorted([*faults[:2], *_of_two(Random(f"two {seed}"))], key=lambda one: one.at)
    spec, people = {}, Random(f"hooks {seed}")
    if seed % _WITH_TWO == _WITH_HOOKS:
        spec = {"hooks": people.sample(_HOOKS, people.randint(1, len(_HOOKS)))}
        faults = [*faults[:2], *(_fault(people, _OF_HOOKS) for _ in range(people.randint(0, 3)))]
    if seed % _WITH_TWO == _WITH_ORDER:
        spec = {"dependsOn": [{"name": "rival"}], "canary": {"steps": people.sample(_APPROVED, 2)}}
        faults = [*faults[:2], Line("rival old", round(people.uniform(1, 20), 1)), Line("approver", 1.0)]
    if seed % _WITH_TWO == _WITH_GATES:
        spec = _gated(people)
        about = (*_OF_GATES, *(one for name in _subjects(spec) for one in _OF_EACH[name]))
        faults = [*faults[:1], *(_fault(people, about) for _ in range(people.randint(0, 3)))]
        faults.insert(0, Line("callers 100", 0.5))
    if seed % _WITH_TWO == _WITH_NAMES:
        faults = [*faults[:1], *_names(people)]
    if chance.random() < 0.03:  # at the same moment as the migration
        faults.insert(0, Line("rival new", 1.0))
    replicas = {"old": chance.choice((1, 1, 2)), "new": chance.choice((1, 1, 2)), "gateway": chance.choice((1, 2))}
    drawn, filled = chance.choice(_SPECS), chance.random() > 0.05
    faults = sorted(faults, key=lambda one: one.at)
    found = Script(tuple(faults), replicas, {**drawn, **spec}, filled=filled, operators=2 if two else 1)
    return panelled(seed, found, lambda own: _at(own) if own.random() < 0.3 else _after(own, ""))


def _gated(chance: Random) -> Mapping[str, Any]:
    """Return a spec with gates and users' own queries."""
    steps = [{"weight": weight, "hold": "3s"} for weight in chance.choice(((10, 50, 100), (50, 100), (10, 100)))]
    return {
        "gates": chance.sample(_GATES, chance.randint(1, len(_GATES))),
        "canary": {"steps": steps, "shadow": chance.choice(("5%", "20%", "100%"))},
        "evaluation": {"labels": {"table": "labels"}, "margin": 0.3},
        "rollback": {"triggers": {**_LOOSE, "prometheus": chance.sample(_QUERIES, chance.randint(0, 2))}},
    }


def _subjects(spec: Mapping[str, Any]) -> list[str]:
    """Return what a spec's gates and queries are about."""
    queries = spec["rollback"]["triggers"]["prometheus"]
    return [*(one["type"] for one in spec["gates"]), *(one["query"] for one in queries)]


def _names(chance: Random) -> list[Line]:
    """Return what happens where names come again; an index that is deleted waits for its migration to be, too."""
    found = [_fault(chance, _OF_NAMES) for _ in range(chance.randint(1, 4))]
    deleted = [one for one in found if one.what == "recreate index docs"]
    return [*found, *(replace(one, what="recreate migration move", at=one.at + 0.5) for one in deleted)]


def _of_two(chance: Random) -> list[Line]:
    return [_fault(chance, _OF_TWO) for _ in range(chance.randint(1, 3))]


def _people(chance: Random) -> list[Line]:
    """Return what people command, and that who pauses resumes later."""
    found = [_at(chance) if chance.random() < 0.3 else _after(chance, "") for _ in range(chance.randint(1, 5))]
    said = [Line(f"command {chance.choice(_COMMANDS)}", one.at, one.reached) for one in found]
    held = _after(chance, "")
    return [*said, Line("paused by command", held.at, held.reached, round(chance.uniform(3, 20), 1))]


def _fault(chance: Random, faults: Faults) -> Line:
    _, what, (least, most) = chance.choices(faults, [one[0] for one in faults])[0]
    what = what.format(**{name: chance.choice(words) for name, words in _WORDS.items() if f"{{{name}}}" in what})
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
