"""Argo CD's health checks and actions, run by a real Lua over statuses that the operator's own code wrote.

Argo CD runs Lua 5.1 without `os` and `io`.
"""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lupa.lua51 import LuaRuntime, lua_type

from hack.cache import ROOT
from reembed.api.commands import parse_commands
from reembed.api.status import render_migration_status
from reembed.core.conditions import Condition, of_index, of_migration, of_pool
from reembed.core.decide import decide
from reembed.core.migration import Migration, Seen
from reembed.core.model import ArmMeasure, Command, EvaluationReport, IndexStatus, Problem, TriggerState, Verb
from reembed.core.transitions import State
from tests import builders as b

ARGOCD = ROOT / "examples" / "argocd"
HELD = {"acknowledged_at": b.NOON, "weight": 10}
RUNNING = {"ErrorRate": TriggerState(b.NOON, timedelta(seconds=10), b.NOON)}
UNDECIDED = EvaluationReport("uid-move-1", "Inconclusive", 200, 10, 0.5, 0.5, -0.03, 0.03, "MRR@10 0.5")

Object = dict[str, Any]


def run(kind: str, script: str, obj: Object) -> Any:
    """Run a script over an object and return what it gives, as Python has it."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    lua.execute("os, io, require, dofile, loadfile, package = nil, nil, nil, nil, nil, nil")
    lua.globals().obj = table(lua, obj)
    return plain(lua.execute((ARGOCD / kind / f"{script}.lua").read_text()))


def table(lua: LuaRuntime, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: table(lua, one) for key, one in value.items() if one is not None})
    return lua.table_from([table(lua, one) for one in value]) if isinstance(value, list) else value


def plain(value: Any) -> Any:
    return {key: plain(one) for key, one in value.items()} if lua_type(value) == "table" else value


def conditions(found: tuple[Condition, ...]) -> list[Object]:
    words = {True: "True", False: "False", None: "Unknown"}
    return [
        {"type": one.type, "status": words[one.status], "reason": one.reason, "message": one.message} for one in found
    ]


def migration(found: Migration, seen: Seen | None = None) -> Object:
    """Return a migration as the API shows it after a pass, or as it stands without one."""
    status = decide(found, seen, b.after(600)).status if seen is not None else found.status
    rendered = render_migration_status(status, found.spec) | {"conditions": conditions(of_migration(status))}
    meta = {"uid": found.meta.uid, "generation": 1, "resourceVersion": "7", "name": "move", "namespace": "rag"}
    return {"metadata": meta, "spec": {}, "status": rendered}


def held_step(**changes: object) -> Migration:
    return b.migration(State.CANARY, **{**HELD, **changes})


CANARY = b.seen(b.index(10))
FAILING = replace(CANARY, arms=dict(CANARY.arms) | {b.NEW.collection: ArmMeasure(100, 50, timedelta(seconds=1))})
EVALUATED = b.seen(store=b.store(b.collection(), evaluation=UNDECIDED))


@pytest.mark.parametrize(
    ("obj", "health"),
    [
        pytest.param({"metadata": {"generation": 1}}, "Progressing", id="no operator has seen it"),
        pytest.param(migration(b.migration(), b.seen(index=None)), "Progressing", id="waits in preflight"),
        pytest.param(migration(held_step(acknowledged_at=b.after(590)), CANARY), "Progressing", id="holds a step"),
        pytest.param(migration(held_step(paused=True), CANARY), "Suspended", id="paused"),
        pytest.param(
            migration(b.migration(State.EVALUATING, spec={"evaluation": b.EVALUATION}), EVALUATED),
            "Suspended",
            id="the labelled queries do not decide",
        ),
        pytest.param(migration(held_step(triggers=RUNNING), FAILING), "Degraded", id="a trigger runs"),
        pytest.param(migration(b.migration(State.ROLLING_BACK, reason="ErrorRate")), "Degraded", id="goes back"),
        pytest.param(migration(b.migration(State.ROLLED_BACK, reason="ErrorRate")), "Degraded", id="went back"),
        pytest.param(migration(b.migration(State.FAILED, reason="TooManyRejected")), "Degraded", id="failed"),
        pytest.param(migration(b.migration(State.SUCCEEDED, reason="Promoted")), "Healthy", id="succeeded"),
    ],
)
def test_a_migration_is_as_healthy_as_what_has_to_be_done_about_it(obj: Object, health: str) -> None:
    assert run("EmbeddingMigration", "health", obj)["status"] == health


def test_a_newer_spec_is_not_judged_by_an_older_status() -> None:
    obj = migration(b.migration(State.SUCCEEDED))
    obj["metadata"]["generation"] = 2
    assert run("EmbeddingMigration", "health", obj) == {
        "status": "Progressing",
        "message": "the operator has not seen the newest spec yet",
    }


def owned(found: tuple[Condition, ...]) -> Object:
    return {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": conditions(found)}}


LOST = Problem("StoreUnreachable", "the database does not answer")


@pytest.mark.parametrize(
    ("kind", "found", "health"),
    [
        pytest.param("EmbedderPool", of_pool(b.pool().report, claimed=False), "Healthy", id="a pool nobody uses"),
        pytest.param("EmbedderPool", of_pool(b.pool().report, claimed=True), "Healthy", id="a pool with its pods"),
        pytest.param("EmbedderPool", of_pool(b.pool(ready=0).report, claimed=True), "Progressing", id="pods start"),
        pytest.param(
            "EmbedderPool", of_pool(b.pool(ready=0, problem=LOST).report, claimed=True), "Degraded", id="pods that fail"
        ),
        pytest.param("EmbeddingIndex", of_index(IndexStatus(), (2, 2), None), "Healthy", id="waits for a migration"),
        pytest.param("EmbeddingIndex", of_index(b.index().status, (0, 2), None), "Progressing", id="gateways start"),
        pytest.param("EmbeddingIndex", of_index(b.index().status, (2, 2), LOST), "Degraded", id="no database"),
    ],
)
def test_a_pool_or_index_is_healthy_unless_something_is_wrong(
    kind: str, found: tuple[Condition, ...], health: str
) -> None:
    assert run(kind, "health", owned(found))["status"] == health


@pytest.mark.parametrize("verb", list(Verb), ids=lambda verb: verb.value)
def test_an_action_writes_a_command_that_the_operator_reads(verb: Verb) -> None:
    obj = run("EmbeddingMigration", verb.value, migration(held_step(), CANARY))
    assert parse_commands(obj) == (Command(verb, "uid-move", "1/Canary/1", "argocd-7"),)


@pytest.mark.parametrize(
    ("obj", "offered"),
    [
        pytest.param(migration(b.migration(State.BACKFILLING)), {"abort", "pause"}, id="filling"),
        pytest.param(migration(held_step()), {"abort", "pause", "promote"}, id="a step"),
        pytest.param(migration(held_step(paused=True)), {"abort", "resume", "promote"}, id="a paused step"),
        pytest.param(migration(b.migration(State.FAILED)), {"retry"}, id="failed"),
        pytest.param(migration(b.migration(State.SUCCEEDED)), set(), id="succeeded"),
    ],
)
def test_the_menu_offers_what_applies(obj: Object, offered: set[str]) -> None:
    found = run("EmbeddingMigration", "discovery", obj)
    assert {verb for verb, one in found.items() if not one["disabled"]} == offered


def test_the_patch_of_the_config_map_holds_every_script() -> None:
    patch = runpy.run_path(str(ARGOCD / "customizations.py"))["patch"]()
    actions = json.loads(patch["data"]["resource.customizations.actions.reembed.dev_EmbeddingMigration"])
    kinds = {key.rpartition("_")[2] for key in patch["data"]}
    assert (kinds, [one["name"] for one in actions["definitions"]]) == (
        {"EmbedderPool", "EmbeddingIndex", "EmbeddingMigration"},
        ["abort", "pause", "resume", "promote", "retry"],
    )
