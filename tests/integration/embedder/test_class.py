"""Pods of one model find each other by their probes: real models in real processes, and a file where a ConfigMap is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reembed.embedder import weights
from tests.fixtures.embedders import FINGERPRINT, Embedder, Start, eventually, start
from tests.fixtures.models import LARGE, ModelFile


def probes(of: Embedder) -> str:
    found = of.get("/v1/class").json()
    assert found["fingerprint"] == FINGERPRINT
    return str(found["probes"])


@pytest.fixture
def another(models: dict[str, ModelFile], tmp_path: Path) -> Iterator[str]:
    """Return the probes of a model that has vectors of the same size."""
    directory = tmp_path / "another"
    directory.mkdir()
    started = start(models[LARGE], directory)
    yield probes(started)
    started.process.kill()
    started.process.wait()


def test_the_first_pod_is_ready_without_a_class_and_says_what_it_is(embedder: Start, tmp_path: Path) -> None:
    first = embedder(CLASS=str(tmp_path / "probes"))
    found = first.get("/v1/class").json()
    assert (first.ready(), found["weights"], found["engine"].split()[0]) == (True, "F16", "llama-cpp-python")
    assert "class_cosine" not in first.get("/metrics").text


def test_a_later_pod_of_the_same_model_is_ready(embedder: Start, tmp_path: Path) -> None:
    place = tmp_path / "probes"
    place.write_text(probes(embedder(CLASS=str(place))))
    assert embedder(CLASS=str(place)).metric("reembed_embedder_class_cosine") > 0.99999


@pytest.mark.skipif("bf16" not in weights._cpu(), reason="this CPU does not multiply BF16 in hardware")
def test_weights_in_bf16_and_as_the_file_has_them_are_one_class(embedder: Start, tmp_path: Path) -> None:
    place = tmp_path / "probes"
    place.write_text(probes(embedder(WEIGHTS="Auto")))
    assert embedder(CLASS=str(place)).metric("reembed_embedder_class_cosine") > 0.9995


def test_a_pod_of_another_class_is_never_ready_and_says_why(embedder: Start, tmp_path: Path, another: str) -> None:
    (place := tmp_path / "probes").write_text(another)
    status, words = embedder(wait=False, CLASS=str(place)).ended()
    assert (status, words["reason"]) == (3, "ModelClassMismatch")
    assert f"in ConfigMap 'reembed-class-{FINGERPRINT}'" in words["message"]
    assert "at least 0.999 is needed" in words["message"]


def test_garbage_in_the_class_refuses_the_pod(embedder: Start, tmp_path: Path) -> None:
    (place := tmp_path / "probes").write_text("garbage")
    status, words = embedder(wait=False, CLASS=str(place)).ended()
    assert (status, words["reason"]) == (3, "ModelClassMismatch")
    assert "cannot be compared with the vectors here" in words["message"]


def test_a_class_that_comes_later_settles_a_pod_that_is_ready(embedder: Start, tmp_path: Path) -> None:
    place = tmp_path / "probes"
    pod = embedder(CLASS=str(place))
    place.write_text(probes(pod))
    eventually(lambda: pod.ready() and "reembed_embedder_class_cosine" in pod.get("/metrics").text)
    place.write_text("garbage")  # it never looks again
    assert (pod.ready(), pod.ask(["a"]).status_code) == (True, 200)


def test_another_class_that_comes_later_ends_a_pod_that_was_ready(
    embedder: Start, tmp_path: Path, another: str
) -> None:
    pod = embedder(CLASS=str(tmp_path / "probes"))
    (tmp_path / "probes").write_text(another)
    assert not pod.ready()
    status, words = pod.ended()
    assert (status, words["reason"]) == (3, "ModelClassMismatch")
