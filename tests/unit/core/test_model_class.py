"""Pods of one model are of one class by their vectors, whatever multiplied them."""

from __future__ import annotations

import numpy as np
import pytest

from reembed.core.model_class import ModelClass, first, mismatch
from reembed.core.sketch import cosine
from reembed.embedder.sketch import sketch

rng = np.random.default_rng(3)
VECTORS = rng.standard_normal((5, 384)).astype(np.float32)
HERE = sketch(VECTORS)


def turned(towards: float) -> str:
    """Return a sketch of the vectors with this cosine to them."""
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    other = rng.standard_normal(VECTORS.shape)
    other -= np.sum(other * unit, axis=1, keepdims=True) * unit
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return sketch((towards * unit + np.sqrt(1 - towards**2) * other).astype(np.float32))


@pytest.mark.parametrize("near", [1.0, 0.99999, 0.9999, 0.9997])
def test_what_engines_and_types_of_weights_differ_by_is_one_class(near: float) -> None:
    assert mismatch("fp-1", cosine(HERE, turned(near))) is None


@pytest.mark.parametrize("far", [0.997, 0.99, 0.5, 0.0, -1.0])
def test_vectors_that_are_farther_apart_are_another_class(far: float) -> None:
    assert mismatch("fp-1", cosine(HERE, turned(far))) is not None


def test_one_probe_that_differs_is_enough() -> None:
    vectors = VECTORS.copy()
    vectors[3] = vectors[4]
    assert mismatch("fp-1", cosine(HERE, sketch(vectors))) is not None


@pytest.mark.parametrize("known", ["", "garbage", "é", sketch(VECTORS[:4]), "AAAA" * 200])
def test_what_cannot_be_compared_is_another_class(known: str) -> None:
    told = mismatch("fp-1", cosine(known, HERE))
    assert told is not None
    assert "what ConfigMap 'reembed-class-fp-1' has of the probes' vectors cannot be compared" in told


def test_a_refusal_says_what_was_found_what_follows_and_what_to_do() -> None:
    told = mismatch("fp-1", 0.94239)
    assert told is not None
    assert "is 0.9424, at least 0.999 is needed" in told
    assert "it is never ready" in told
    assert "move the pod to another node" in told


def test_the_first_pod_by_name_with_usable_probes_of_the_model_is_the_class() -> None:
    said = {
        "d": ModelClass("fp-1", HERE, pod="d"),
        "c": ModelClass("fp-1", HERE, pod="c"),
        "b": ModelClass("fp-1", "garbage", pod="b"),
        "a": ModelClass("fp-2", HERE, pod="a"),
    }
    found = first(said, "fp-1")
    assert found is not None
    assert found.pod == "c"
    assert first({}, "fp-1") is None
