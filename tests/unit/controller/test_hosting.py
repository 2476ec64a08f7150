"""A pool of a hosted model: its pods, its budget, and what is said when the model behind the name is another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.controller.cache import Key
from reembed.controller.manifests import embedder
from reembed.core.fingerprint import fingerprint
from reembed.embedder.sketch import sketch
from tests.unit.controller.pool_world import World
from tests.unit.controller.test_manifests import IMAGES

rng = np.random.default_rng(5)
HERE, OTHER = (sketch(rng.standard_normal((5, 384)).astype(np.float32)) for _ in range(2))


def says(spent: int = 0, check: int = 1, probes: str = HERE, short: int = 0) -> dict[str, Any]:
    return {"spentTokens": spent, "check": check, "probes": probes, "shortTokens": short}


async def serving(**spec: Any) -> tuple[World, list[str]]:
    """Have a pool of a hosted model that serves with two pods."""
    world = World()
    world.external(**spec)
    world.index("old")
    await world.passes()
    return world, world.up("external")


def degraded(world: World) -> tuple[str, str]:
    (found,) = (one for one in world.status()["conditions"] if one["type"] == "Degraded")
    return found["status"], found["reason"]


def pool(**spec: Any) -> Any:
    hosted = {"url": "https://api.example/v1/", "model": "small", "dimensions": 384, **spec}
    return parse_pool({"metadata": {"namespace": "rag", "name": "new", "uid": "u"}, "spec": {"external": hosted}})


async def test_a_budget_is_divided_among_the_pods_and_what_they_spent_is_told() -> None:
    world, (one, other) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(100), other: says(300)}
    await world.passes(seconds=11)
    assert world.granted == {one: {"tokens": 400, "changed": False}, other: {"tokens": 600, "changed": False}}
    assert world.status()["external"]["spentTokens"] == 400
    assert degraded(world) == ("False", "AsExpected")


async def test_a_pool_without_a_budget_is_not_bounded() -> None:
    world, (one, _) = await serving()
    world.hosted = {one: says(10**9)}
    await world.passes(seconds=11)
    assert world.granted == {one: {"tokens": None, "changed": False}}


async def test_a_spent_budget_degrades_the_pool_and_a_higher_one_mends_it() -> None:
    world, (one, _) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(990, short=50)}
    await world.passes(seconds=11)
    assert degraded(world) == ("True", "BudgetSpent")
    assert world.status()["phase"] == "Ready"
    assert "raise external.budget.tokens" in world.status()["message"]
    world.external(budget={"tokens": 2000})
    await world.passes(seconds=11)
    await world.passes(seconds=11)
    assert degraded(world) == ("False", "AsExpected")


async def test_a_pod_that_does_not_answer_keeps_what_it_was_granted() -> None:
    world, (one, other) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(), other: says()}
    await world.passes(seconds=11)
    world.hosted = {one: says(500)}
    await world.passes(seconds=11)
    world.operate(IMAGES)
    await world.passes(seconds=11)
    assert [world.granted[name]["tokens"] for name in (one, other)] == [500, 500]


async def test_pods_that_cannot_start_for_their_endpoint_say_why() -> None:
    world, (one, other) = await serving()
    world.up("external", ready=0)
    for pod in (one, other):
        waiting = {"phase": "Running", "podIP": pod, "conditions": [{"type": "Ready", "status": "False"}]}
        meta = world.cache.get(kinds.POD, "rag", pod)["metadata"]
        world.put(kinds.POD, {"metadata": {"name": pod, "labels": meta["labels"]}, "status": waiting})
    words = "https://api.exmaple/v1 can't be reached (ClientConnectorDNSError)"
    world.hosted = {pod: {**says(check=0, probes=""), "error": words} for pod in (one, other)}
    await world.passes(seconds=11)
    assert degraded(world) == ("True", "EndpointFailing")
    assert words in world.status()["message"]
    assert world.granted == {}


async def test_what_a_pod_spends_on_its_way_out_is_counted() -> None:
    world, (one, other) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(100), other: says(0)}
    await world.passes(seconds=11)
    leaving = world.cache.get(kinds.POD, "rag", one)
    meta = {**leaving["metadata"], "deletionTimestamp": "2026-11-24T12:00:00Z"}
    world.put(kinds.POD, {"metadata": meta, "status": leaving["status"]})
    world.hosted = {one: says(300), other: says(0)}
    await world.passes(seconds=11)
    assert world.status()["external"]["spentTokens"] == 300


async def test_evicted_pods_are_forgotten_though_kubernetes_keeps_them() -> None:
    world, (one, other) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(100), other: says(0)}
    await world.passes(seconds=11)
    evicted = world.cache.get(kinds.POD, "rag", one)
    world.put(kinds.POD, {"metadata": evicted["metadata"], "status": {"phase": "Failed"}})
    await world.passes(seconds=11)
    assert [pod["name"] for pod in world.status()["external"]["pods"]] == [other]


async def test_another_model_behind_the_same_name_is_reported_and_pods_are_told() -> None:
    world, (one, _) = await serving()
    for check, probes in ((1, HERE), (2, OTHER), (3, OTHER)):
        world.hosted = {one: says(check=check, probes=probes)}
        await world.passes(seconds=11)
        told = world.granted[one]["changed"]
        assert told is (check > 1)
    assert degraded(world) == ("True", "ModelChanged")
    assert [reason for reason, _ in world.server.events].count("ModelChanged") == 1


async def test_a_restarted_operator_goes_on_with_what_the_status_remembers() -> None:
    world, (one, _) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(600)}
    await world.passes(seconds=11)
    world.operate(IMAGES)
    world.hosted = {one: says(700, check=2, probes=OTHER)}
    await world.passes(seconds=11)
    found = world.status()["external"]
    assert (found["spentTokens"], found["failedChecks"], found["probes"]) == (700, 1, HERE)
    assert world.granted[one]["tokens"] == 1000


async def test_a_pool_that_nobody_uses_forgets_neither_its_model_nor_what_it_cost() -> None:
    world, (one, _) = await serving(budget={"tokens": 1000})
    world.hosted = {one: says(600)}
    await world.passes(seconds=11)
    before = world.status()["external"]
    world.cache.remove(kinds.INDEX, world.server.objects[Key(kinds.INDEX, "rag", "docs-old")])
    await world.passes(seconds=11)
    assert (world.status()["phase"], world.status()["external"]) == ("Idle", before)


@pytest.mark.parametrize("said", [7, {}, {"spentTokens": "x", "check": 1}, [1]])
async def test_a_pod_that_answers_nonsense_is_granted_nothing(said: Any) -> None:
    world, (one, other) = await serving(budget={"tokens": 1000})
    world.hosted = {one: said, other: says()}
    await world.passes(seconds=11)
    assert world.granted == {other: {"tokens": 1000, "changed": False}}


def test_pods_get_the_endpoint_its_limits_and_the_key_as_a_file_alone() -> None:
    meta, spec = pool(
        sendDimensions=True,
        secretRef={"name": "openai", "key": "token"},
        rateLimit={"requestsPerMinute": 300, "tokensPerMinute": 1000},
        budget={"tokens": 5},
        replicas=4,
    )
    made = embedder.deployment(meta, spec, spec.variants[0], 4, IMAGES)["spec"]["template"]["spec"]
    (container,) = made["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert {name: told[name] for name in told if name not in _OF_FILES} == {
        "REEMBED_BUDGETED": "true",
        "REEMBED_CACHE_DIR": "/cache",
        "REEMBED_DEVICE": "CPU",
        "REEMBED_DIMENSIONS": "384",
        "REEMBED_DOCUMENT_PREFIX": "",
        "REEMBED_FINGERPRINT": fingerprint(spec.model),
        "REEMBED_GENERATION": "1",
        "REEMBED_HOSTED_MODEL": "small",
        "REEMBED_KEY_FILE": "/key/key",
        "REEMBED_MAX_CHARACTERS": "24000",
        "REEMBED_MAX_TOKENS": "8000",
        "REEMBED_MODEL_URI": "https://api.example/v1",
        "REEMBED_PORT": "8080",
        "REEMBED_QUERY_PREFIX": "",
        "REEMBED_REQUESTS_PER_MINUTE": "75",
        "REEMBED_SEND_DIMENSIONS": "true",
        "REEMBED_TEXT_CACHE_BYTES": "33554432",
        "REEMBED_TOKENS_PER_MINUTE": "250",
        "REEMBED_TRUNCATE": "Refuse",
    }
    assert {"name": "key", "mountPath": "/key", "readOnly": True} in container["volumeMounts"]
    items = [{"key": "token", "path": "key"}]
    assert {"name": "key", "secret": {"secretName": "openai", "items": items, "optional": True}} in made["volumes"]


def test_references_are_mounted_where_a_pod_can_say_that_they_are_missing() -> None:
    raw = {"configMapRef": {"name": "trusted"}, "minCosine": 0.99}
    hosted = {"url": "https://api.example/v1", "model": "small", "dimensions": 384}
    meta = {"namespace": "rag", "name": "new", "uid": "u"}
    found, spec = parse_pool({"metadata": meta, "spec": {"external": hosted, "validation": raw}})
    made = embedder.deployment(found, spec, spec.variants[0], 1, IMAGES)["spec"]["template"]["spec"]
    (container,) = made["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert (told["REEMBED_REFERENCES"], told["REEMBED_MIN_COSINE"]) == ("/references/references", "0.99")
    assert {"name": "references", "mountPath": "/references", "readOnly": True} in container["volumeMounts"]
    items = [{"key": "references.jsonl", "path": "references"}]
    assert {"name": "references", "configMap": {"name": "trusted", "items": items, "optional": True}} in made["volumes"]


_OF_FILES = {"REEMBED_MODEL_SHA256", "REEMBED_POOLING", "REEMBED_WEIGHTS"}


@pytest.mark.parametrize(
    "other",
    [
        {"url": "https://api.other/v1"},
        {"model": "large"},
        {"dimensions": 512},
        {"sendDimensions": True},
        {"maxCharacters": 1000},
        {"truncate": "End"},
        {"queryPrefix": "q: "},
        {"documentPrefix": "d: "},
        {"generation": 2},
    ],
)
def test_whatever_changes_vectors_changes_the_fingerprint(other: dict[str, Any]) -> None:
    assert fingerprint(pool(**other)[1].model) != fingerprint(pool()[1].model)


@pytest.mark.parametrize(
    "same",
    [
        {"url": "https://api.example/v1"},
        {"replicas": 5},
        {"budget": {"tokens": 1}},
        {"rateLimit": {"requestsPerMinute": 1}},
    ],
)
def test_what_changes_no_vectors_does_not(same: dict[str, Any]) -> None:
    assert fingerprint(pool(**same)[1].model) == fingerprint(pool()[1].model)
