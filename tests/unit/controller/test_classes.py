"""What the first pod of a model says of its vectors is kept once, and nothing of a pool waits for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict, Refused
from reembed.controller.cache import Key
from reembed.controller.manifests import embedder
from reembed.core.fingerprint import fingerprint
from reembed.core.model import Model, Pooling
from reembed.embedder.sketch import sketch
from tests import builders as b
from tests.unit.controller.fakes import Object
from tests.unit.controller.pool_world import IMAGES, World
from tests.unit.controller.test_hosting import pool

rng = np.random.default_rng(11)
HERE, OTHER = (sketch(rng.standard_normal((5, 384)).astype(np.float32)) for _ in range(2))
PRINT = fingerprint(Model("http://m/m.gguf", "a" * 64, Pooling.MEAN, 384, 256))
NAME = f"reembed-class-{PRINT}"
KEY = Key(kinds.CONFIG_MAP, "rag", NAME)
CPUS = {"name": "cpu", "minReplicas": 2}


def says(probes: str = HERE, **other: Any) -> Object:
    return {"fingerprint": PRINT, "probes": probes, "weights": "BF16", "engine": "llama-cpp-python 1.2", **other}


async def serving(*said: Any) -> tuple[World, list[str]]:
    """Have a pool of two pods, which say so of their class."""
    world = World()
    world.pool("old", [CPUS])
    world.index("old")
    await world.passes()
    found = world.up()
    world.classes = dict(zip(found, said, strict=False))
    await world.passes()
    return world, found


def kept(world: World) -> Object | None:
    return world.server.objects.get(KEY)


async def test_the_first_pod_by_name_says_what_the_class_is_for_good() -> None:
    world, (one, _) = await serving(says(), says(OTHER))
    found = kept(world)
    assert found is not None
    assert (found["immutable"], found["data"], found["metadata"]["labels"]["app.kubernetes.io/part-of"]) == (
        True,
        {"fingerprint": PRINT, "probes": HERE, "weights": "BF16", "engine": "llama-cpp-python 1.2", "pod": one},
        "reembed",
    )
    assert "ownerReferences" not in found["metadata"]


async def test_a_pool_says_where_its_class_is_kept_as_soon_as_it_is() -> None:
    world, _ = await serving(says())
    assert "class" not in world.status()
    await world.passes()
    assert world.status()["class"] == {"configMap": NAME}


async def test_a_class_that_is_kept_is_asked_for_once_and_never_written_again() -> None:
    world, _ = await serving(says())
    await world.passes()
    before = (world.server.version, world.server.looked)
    for _ in range(20):
        await world.passes(seconds=60)
    assert (world.server.version, world.server.looked) == before


async def test_another_operator_looks_once_and_writes_nothing() -> None:
    world, _ = await serving(says())
    await world.passes()
    version, looked = world.server.version, world.server.looked
    world.operate(IMAGES)
    world.classes = {}
    for _ in range(5):
        await world.passes(seconds=60)
    assert (world.server.version, world.server.looked) == (version, looked + 1)
    assert world.status()["class"] == {"configMap": NAME}


async def test_a_pool_that_nobody_uses_goes_on_saying_where_its_class_is() -> None:
    world, _ = await serving(says())
    await world.passes()
    world.cache.remove(kinds.INDEX, world.server.objects[Key(kinds.INDEX, "rag", "docs-old")])
    await world.passes(seconds=60)
    assert (world.status()["phase"], world.status()["class"]) == ("Idle", {"configMap": NAME})
    assert kept(world) is not None


async def test_a_class_that_was_there_before_the_pool_is_left_as_it_is() -> None:
    world = World()
    before = world.server.write(
        kinds.CONFIG_MAP, {"metadata": {"namespace": "rag", "name": NAME}, "data": {"probes": OTHER}}
    )
    world.pool("old", [CPUS])
    world.index("old")
    await world.passes()
    world.classes = dict.fromkeys(world.up(), says())
    await world.passes()
    await world.passes()
    assert (kept(world), world.status()["class"]) == (before, {"configMap": NAME})


async def test_a_class_that_was_deleted_with_its_pods_begins_anew() -> None:
    world, found = await serving(says())
    del world.server.objects[KEY]
    for pod in found:
        world.gone(pod)
    world.classes = dict.fromkeys(found, says(OTHER))
    await world.passes(seconds=60)
    pod = {"metadata": {"name": "another", "labels": world.deployment()["metadata"]["labels"]}}
    status = {"phase": "Running", "podIP": "another", "conditions": [{"type": "Ready", "status": "True"}]}
    world.put(kinds.POD, {**pod, "status": status})
    world.classes = {"another": says(OTHER)}
    await world.passes(seconds=60)
    again = kept(world)
    assert again is not None
    assert again["data"]["probes"] == OTHER


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(says(fingerprint="fp-another"), id="of another model"),
        pytest.param(says(""), id="no probes"),
        pytest.param(says("garbage"), id="garbage"),
        pytest.param({"fingerprint": PRINT}, id="half of it"),
        pytest.param([7], id="a list"),
        pytest.param(says(7), id="a number"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_not_a_pod_s_word_of_this_model_is_no_class(said: Any) -> None:
    world, (_, other) = await serving(said)
    assert kept(world) is None
    world.classes[other] = says()
    await world.passes(seconds=60)
    found = kept(world)
    assert found is not None
    assert found["data"]["pod"] == other


@pytest.mark.parametrize("error", [Refused(403, "no right"), ClusterError(0, "no answer")])
async def test_a_class_that_cannot_be_kept_holds_up_nothing_and_is_tried_again_after_a_minute(
    error: ClusterError,
) -> None:
    world, _ = await serving()
    world.server.refuses = error
    world.classes = dict.fromkeys(world.up(), says())
    await world.passes(seconds=60)
    assert (world.status()["phase"], kept(world)) == ("Ready", None)
    world.server.refuses, looked = None, world.server.looked
    await world.passes(seconds=5)
    assert (kept(world), world.server.looked) == (None, looked)
    await world.passes(seconds=60)
    assert kept(world) is not None


async def test_who_was_first_in_the_same_moment_is_believed() -> None:
    world, _ = await serving()
    world.server.refuses = Conflict(409, "already exists")
    world.classes = dict.fromkeys(world.up(), says())
    await world.passes(seconds=60)
    await world.passes()
    assert world.status()["class"] == {"configMap": NAME}


async def test_a_pool_of_a_hosted_model_has_no_class() -> None:
    world = World()
    world.external()
    world.index("old")
    await world.passes()
    world.classes = dict.fromkeys(world.up("external"), says())
    await world.passes()
    await world.passes()
    assert ("class" in world.status(), world.server.looked) == (False, 0)


async def test_a_pod_of_another_class_is_told_of_although_the_others_are_enough() -> None:
    world, _ = await serving(says())
    words = '{"reason": "ModelClassMismatch", "message": "the smallest cosine is 0.7"}'
    ended = {"terminated": {"exitCode": 3, "message": words}}
    labels = world.deployment()["metadata"]["labels"]
    status = {"phase": "Running", "containerStatuses": [{"ready": False, "lastState": ended}]}
    world.put(kinds.POD, {"metadata": {"name": "strange", "labels": labels}, "status": status})
    await world.passes()
    (found,) = (one for one in world.status()["conditions"] if one["type"] == "Degraded")
    assert (world.status()["phase"], found["status"], found["reason"]) == ("Ready", "True", "ModelClassMismatch")
    assert world.status()["message"] == "pod strange: the smallest cosine is 0.7"


def mounted(meta: Any, spec: Any) -> tuple[str | None, list[Object], list[Object]]:
    made = embedder.deployment(meta, spec, spec.variants[0], 1, IMAGES)["spec"]["template"]["spec"]
    (container,) = made["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    mounts = [one for one in container["volumeMounts"] if one["name"] == "class"]
    return told.get("REEMBED_CLASS"), mounts, [one for one in made["volumes"] if one["name"] == "class"]


def test_pods_get_what_may_come_later_at_a_place_of_its_own() -> None:
    new = b.pool("new")
    items = [{"key": "probes", "path": "probes"}]
    config_map = {"name": f"reembed-class-{fingerprint(new.spec.model)}", "items": items, "optional": True}
    assert mounted(new.meta, new.spec) == (
        "/class/probes",
        [{"name": "class", "mountPath": "/class", "readOnly": True}],
        [{"name": "class", "configMap": config_map}],
    )


def test_pods_of_a_hosted_model_get_nothing_of_it() -> None:
    assert mounted(*pool()) == (None, [], [])
